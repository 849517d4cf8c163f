"""Load on several servers of one store, and what its history must be like when it is over (tests/crash)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from random import Random

from storage.vocabulary import (
    CacheGet,
    CacheKeys,
    OtherSql,
    QueueActive,
    QueueGet,
    QueueList,
    QueuePending,
    QueueResult,
    Statement,
)
from tests.crash.checker import HEARTBEATS_QUERY, Violation, check, paths_of_ids
from tests.crash.driver import Driver
from tests.crash.history import History
from tests.crash.rounds import WEIGHTS, Voice, answers_to
from tests.server.client import Address

CLIENTS = 4
AT_ONCE = 4


class Load:
    """Clients that ask until they are stopped, each any of the servers; then everything is read once."""

    def __init__(self, addresses: Sequence[Address], seed: str) -> None:
        self._addresses = addresses
        self._seed = seed
        self.history = History()
        self.resent = 0
        self.may_talk = asyncio.Event()
        self.may_talk.set()
        self._is_over = False

    async def run(self, disturb: Callable[[], Awaitable[None]]) -> list[Violation]:
        """The violations of a history in which something happened."""
        names = [f"c{number}" for number in range(CLIENTS)]
        drivers = [Driver(self._addresses, name, self.history, self._drawn_by(name, "driver")) for name in names]
        async with asyncio.TaskGroup() as group:
            for name, driver in zip(names, drivers, strict=True):
                voice = Voice(name, 1, self._drawn_by(name, "voice"))
                for _ in range(AT_ONCE):
                    group.create_task(self._talk(driver, voice))
            try:
                await disturb()
            finally:
                self._is_over = True
                self.may_talk.set()
        reader = Driver(self._addresses, "reader", self.history, self._drawn_by("reader", "driver"))
        await answers_to(reader, self._reads())
        for driver in (*drivers, reader):
            self.resent += driver.resent
            await driver.close()
        return check(self.history.operations)

    async def _talk(self, driver: Driver, voice: Voice) -> None:
        while not self._is_over:
            voice.hear(await driver.ask(voice.drawer.draw(WEIGHTS)))
            if voice.drawer.chance(0.03):
                await driver.ask_again()
            await self.may_talk.wait()

    def _drawn_by(self, name: str, what: str) -> Random:
        return Random(f"{self._seed} {name} {what}")

    def _reads(self) -> list[Statement]:
        """What shows the last state."""
        paths = [b"q1:p%d" % number for number in range(8)]
        return [
            QueueList(b"q1", with_payload=True),
            QueuePending(b"q1"),
            QueueActive(b"q1"),
            *map(QueueGet, paths),
            *map(QueueResult, paths_of_ids(self.history.operations)),
            *map(QueueResult, paths),
            *(CacheGet(b"n1:%s" % name) for name in (b"a", b"b")),
            *(CacheGet(b"c1:k%d" % number) for number in range(6)),
            CacheKeys(b"c1"),
            OtherSql(HEARTBEATS_QUERY),
        ]

    async def for_a_while(self, events: int = 300) -> None:
        """Until so many statements more were sent or answered."""
        enough = self.history.events + events
        while self.history.events < enough:  # noqa: ASYNC110  # there is no event for it
            await asyncio.sleep(0.005)
