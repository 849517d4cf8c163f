"""Rounds of load and kills on one directory, each with a history that is checked when it is over."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from cubequeue_server.engines.stores import JOURNAL_FOLDER
from storage.journal import rows
from storage.journal.absences import Absence, decode_absences
from storage.journal.database import Database
from storage.vocabulary import (
    CacheGet,
    CacheIncr,
    CacheKeys,
    CacheRemove,
    CacheSet,
    KeyRef,
    OtherSql,
    QueueAck,
    QueueActive,
    QueueAdd,
    QueueAddAndRetrieve,
    QueueCancel,
    QueueGet,
    QueueHeartbeat,
    QueueList,
    QueueMergeExtra,
    QueuePending,
    QueueResult,
    QueueResultBlocking,
    QueueRetrieve,
    Statement,
)
from tests.crash.checker import HEARTBEATS_QUERY, Ids, Violation, check, paths_of_ids
from tests.crash.driver import Driver
from tests.crash.history import Answer, History, Operation
from tests.crash.models import UNLIMITED
from tests.crash.reign import Reign
from tests.drawing import Drawer, Weights

CLIENTS = 4
AT_ONCE = 4  # statements of each client
READS_AT_ONCE = 16
READ_AGAIN = 50  # reads of earlier rounds, after each
MOMENT_S = 2.0

WEIGHTS: Weights = {
    QueueAdd: 10,
    QueueAddAndRetrieve: 4,
    QueueRetrieve: 10,
    QueueHeartbeat: 4,
    QueueMergeExtra: 5,
    QueueAck: 9,
    QueueResult: 4,
    QueueResultBlocking: 5,
    QueueCancel: 2,
    QueueGet: 5,
    QueueList: 2,
    QueuePending: 1,
    QueueActive: 1,
    CacheSet: 8,
    CacheIncr: 8,
    CacheGet: 5,
    CacheKeys: 1,
    CacheRemove: 3,
}
SIZES = [1, 1, 1, 100, 100, 255, 256, 257, 300, 3_000]  # 256 and below stand in the rows that name them
LARGE_SIZES = [30_000, 70_000, 300_000, 1_500_000]  # those above 64 KiB are written ahead, chunk by chunk


@dataclass
class Tally:
    """How much was done."""

    kills: int = 0
    stops: int = 0
    operations: int = 0
    resent: int = 0
    asked_again: int = 0

    def __str__(self) -> str:
        return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in vars(self).items())


class Voice:
    """What one client says: a drawer whose texts are its own, and who knows the ids that it was told."""

    def __init__(self, name: str, round_: int, random: Random) -> None:
        self._name = name
        self._random = random
        self._texts = 0
        self._ids: list[int] = []
        paths = [b"q%d:p%d" % (round_, number) for number in range(8)]
        self.drawer = Drawer(
            random,
            paths,
            [b"c%d:k%d" % (round_, number) for number in range(6)],
            [b"n%d:a" % round_, b"n%d:b" % round_],
            self._text,
            self._extra,
            lambda: self._key(paths),
            prefixes=[b"q%d" % round_],
            priorities=range(-2, 3),
            concurrencies=[UNLIMITED, UNLIMITED, UNLIMITED, 3],
            ttls_s=[None, 3_600, 1],
            timeouts_ms=[20, 100, 400],
        )

    def _text(self) -> bytes:
        return self._tag(self._random.choice(LARGE_SIZES if self._random.random() < 0.015 else SIZES))

    def _extra(self) -> bytes:
        return b'{"m%d": "%s"}' % (self._random.randrange(4), self._tag(self._random.choice(SIZES)))

    def _tag(self, size: int) -> bytes:
        self._texts += 1
        return b"%s.%d.%d" % (self._name.encode(), self._texts, size)

    def _key(self, paths: Sequence[bytes]) -> KeyRef:
        by_path, which = self._random.random(), self._random.random()
        if by_path < 0.4 or not self._ids:
            return paths[int(which * len(paths))]
        return self._ids[int(which * len(self._ids))]

    def hear(self, operation: Operation) -> None:
        """Learn the id that an answer told."""
        if isinstance(operation.statement, QueueAdd | QueueAddAndRetrieve) and operation.rows:
            self._ids = [*self._ids[-6:], int(operation.rows[0][0] or 0)]


@dataclass
class Rounds:
    """All rounds on one directory. What a round leaves there must be there after all kills of later ones."""

    directory: Path
    flags: Sequence[str]
    seed: str
    round_s: float  # a round that takes longer hangs
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        self._random = Random(self.seed)
        self._reign = Reign(self.directory, self.flags, Random())
        self._ids = Ids()
        self._left: list[tuple[Statement, Answer]] = []
        self._round = 0

    async def run(self, kills: int, kills_a_round: int) -> list[Violation]:
        """Until there were so many kills, or a violation."""
        try:
            while self.tally.kills < kills:
                async with asyncio.timeout(self.round_s):
                    found = await self._run_round(min(kills_a_round, kills - self.tally.kills))
                print(f"round {self._round}: {self.tally}", flush=True)
                if found:
                    return found
        finally:
            await self._reign.abandon()
        return []

    async def _run_round(self, kills: int) -> list[Violation]:
        self._round += 1
        history = History()
        names = [f"r{self._round}c{number}" for number in range(CLIENTS)]
        drivers = [Driver([self._reign.address], name, history, self._drawn_by(name, "driver")) for name in names]
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for name, driver in zip(names, drivers, strict=True):
                voice = Voice(name, self._round, self._drawn_by(name, "voice"))
                for _ in range(AT_ONCE):
                    group.create_task(_talk(driver, voice, stop))
            await self._kill(kills, drivers, history)
            stop.set()
            await self._reign.start()
            await self._reign.listening()
        self.tally.operations += len(history.operations)
        await self._reign.end()
        self.tally.kills += 1
        await self._reign.start()
        await self._reign.listening()
        name = f"r{self._round}reader"
        reader = Driver([self._reign.address], name, history, self._drawn_by(name, "driver"))
        lost_later = await self._read_everything(reader, history)
        await self._reign.end()
        self.tally.kills += 1
        found = [*check(history.operations, self._ids, self._absences()), *lost_later]
        for driver in [*drivers, reader]:
            self.tally.resent += driver.resent
            self.tally.asked_again += driver.asked_again
            await driver.close()
        return found

    def _drawn_by(self, name: str, what: str) -> Random:
        return Random(f"{self.seed} {name} {what}")

    async def _kill(self, kills: int, drivers: Sequence[Driver], history: History) -> None:
        random = self._random
        done = 0
        while done < kills:
            await self._reign.start()
            if random.random() < 0.15:
                await asyncio.sleep(random.uniform(0, 0.5))  # mostly while it starts
            else:
                await self._reign.listening()
                await _some_events(history, random)
                if random.random() < 0.2:
                    random.choice(drivers).drop()
                    await _some_events(history, random)
                if random.random() < 0.1:
                    await self._reign.end(signal.SIGTERM)
                    self.tally.stops += 1
                    continue
            await self._reign.end()
            done += 1
            self.tally.kills += 1

    def _absences(self) -> list[Absence]:
        """When no server was up, as the last one of them left it in the journal."""
        database = Database(self.directory / JOURNAL_FOLDER, read_only=True)
        try:
            return decode_absences(database.get(rows.ABSENCES_KEY))
        finally:
            database.close()

    async def _read_everything(self, reader: Driver, history: History) -> list[Violation]:
        """Have the reads that show the last state be the end of the history. What earlier rounds left must be there."""
        queue, cache = b"q%d" % self._round, b"c%d" % self._round
        paths = [b"%s:p%d" % (queue, number) for number in range(8)]
        lasting: list[Statement] = [
            QueueList(queue, with_payload=True),
            QueuePending(queue),
            QueueActive(queue),
            *map(QueueGet, paths),
            *(CacheGet(b"n%d:%s" % (self._round, name)) for name in (b"a", b"b")),
        ]
        self._left += zip(lasting, await answers_to(reader, lasting), strict=True)
        once: list[Statement] = [
            *map(QueueResult, paths_of_ids(history.operations)),
            *map(QueueResult, paths),
            *(CacheGet(b"%s:k%d" % (cache, number)) for number in range(6)),
            CacheKeys(cache),
            OtherSql(HEARTBEATS_QUERY),
        ]
        await answers_to(reader, once)
        found = []
        some = self._random.sample(self._left, min(READ_AGAIN, len(self._left)))
        answers = await answers_to(reader, [statement for statement, _ in some])
        for (statement, expected), answer in zip(some, answers, strict=True):
            if answer != expected:
                found.append(Violation("lost later", f"{statement} gave {expected!r} when its round ended: {answer!r}"))
        return found


async def answers_to(reader: Driver, statements: Sequence[Statement]) -> list[Answer]:
    """To all of them, a few at a time."""
    answers: list[Answer] = []
    for start in range(0, len(statements), READS_AT_ONCE):
        asked = await asyncio.gather(*map(reader.ask, statements[start : start + READS_AT_ONCE]))
        answers += (operation.answers[0] for operation in asked)
    return answers


async def _some_events(history: History, random: Random) -> None:
    """Until a few or many statements more were sent or answered, and a moment longer."""
    enough = history.events + random.choice([10, 100, 1_000]) * random.random()
    deadline_s = time.monotonic() + MOMENT_S
    while history.events < enough and time.monotonic() < deadline_s:  # noqa: ASYNC110  # there is no event for it
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.005 * random.random())


async def _talk(driver: Driver, voice: Voice, stop: asyncio.Event) -> None:
    while not stop.is_set():
        voice.hear(await driver.ask(voice.drawer.draw(WEIGHTS)))
        if voice.drawer.chance(0.03):
            await driver.ask_again()
