"""How long the journal holds the event loop up, with values of 5 MB from several connections at once.

Every callback of the journal on the loop is timed. One that never waited was held up by its own work alone: its
processor time counts, for what others did with the processor meanwhile, other processes of the machine or other
machines of the host, says nothing of the journal. One that waited, for the disk or for a lock, counts by the clock,
unless the kernel took the processor away as well. `getrusage` tells of both.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import uvloop

from storage.asking import ANYBODY, Later, Outcome
from storage.journal.database import Database
from storage.journal.host import Host
from storage.journal.store import Durability, JournaledStore
from storage.journal.sync import Syncer
from storage.limits import AnswerLimits, CacheLimits, QueueLimits
from storage.vocabulary import CacheSet, QueueAck, QueueAdd, QueueResult, QueueRetrieve, Result, Statement

VALUE_BYTES = 5_000_000
AT_ONCE = 4  # as if from so many connections, in one turn of the loop


class Turns:
    """The longest undisturbed callbacks, in seconds, longest first; `count` is of all, `waited` of those that slept."""

    def __init__(self) -> None:
        self.longest: list[float] = []
        self.count = self.waited = self.disturbed = 0

    @contextmanager
    def timed(self) -> Iterator[None]:
        before = resource.getrusage(resource.RUSAGE_THREAD)
        start, start_cpu = time.perf_counter(), time.thread_time()
        yield
        seconds, cpu_seconds = time.perf_counter() - start, time.thread_time() - start_cpu
        after = resource.getrusage(resource.RUSAGE_THREAD)
        self.count += 1
        if after.ru_nvcsw == before.ru_nvcsw:
            seconds = cpu_seconds
        else:
            self.waited += 1
            if after.ru_nivcsw != before.ru_nivcsw:
                self.disturbed += 1
                return
        self.longest = sorted([*self.longest, seconds], reverse=True)[:20]


class _Waited(Later):
    """An answer that a coroutine waits for. Made in a running loop."""

    __slots__ = ("told",)

    def __init__(self, timeout_ms: int | None) -> None:
        super().__init__(timeout_ms)
        self.told: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    def done(self, outcome: Outcome) -> None:
        self.told.set_result(outcome)


def _value(number: int) -> bytes:
    return Random(number).randbytes(VALUE_BYTES)


async def _run(directory: Path, durability: Durability, rounds: int) -> Turns:
    loop, turns = asyncio.get_running_loop(), Turns()

    def timed(callback: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            with turns.timed():
                callback()

        return run

    def call_soon(callback: Callable[[], None]) -> None:
        loop.call_soon(timed(callback))

    def call_later(delay_ms: int, callback: Callable[[], None]) -> None:
        loop.call_later(delay_ms / 1000, timed(callback))

    def in_thread(work: Callable[[], None], then: Callable[[], None]) -> None:
        loop.run_in_executor(None, work).add_done_callback(lambda _: then())

    def fail(reason: str) -> None:
        raise RuntimeError(reason)

    def now_ms() -> int:
        return time.time_ns() // 1_000_000

    database = Database(directory)
    syncer = Syncer(directory, lambda seq, position: store.synced(seq, position), fail)  # noqa: PLW0108  # there is no store yet
    host = Host(call_soon, call_later, in_thread, lambda complete: complete(), now_ms, Random(0).random, fail, _Waited)
    limits = (QueueLimits(), CacheLimits(), AnswerLimits())
    store = JournaledStore(database, *limits, host, syncer.ask, durability, durability)
    loop.add_reader(syncer.fileno(), timed(syncer.on_readable))

    async def ask(statements: list[Statement]) -> None:
        answers = [store.execute(statement, ANYBODY, None, now_ms()) for statement in statements]
        waiting = [answer.told for answer in answers if isinstance(answer, _Waited)]
        outcomes = await asyncio.wait_for(asyncio.gather(*waiting), 30)
        assert waiting
        assert all(isinstance(outcome, Result) for outcome in outcomes)

    for round_ in range(rounds):
        paths = [b"q:%d" % (round_ * AT_ONCE + number) for number in range(AT_ONCE)]
        values = [_value(number) for number in range(3)]
        await ask([QueueAdd(path, values[0] + path) for path in paths])
        await ask([QueueRetrieve(path, 1_000) for path in paths])
        await ask([QueueAck(path, values[1] + path) for path in paths])
        await ask([QueueResult(path) for path in paths])
        await ask([CacheSet(b"c:%d" % number, values[2] + b"%d" % number, 60) for number in range(AT_ONCE)])
        with turns.timed():
            store.tick(now_ms(), 100)
    loop.remove_reader(syncer.fileno())
    store.close()
    syncer.close()
    return turns


def journal_turns(directory: Path, mode: str, rounds: int) -> Turns:
    """Life cycles of values of 5 MB, so many at once, and CACHE SETs, so many rounds, on a new journal."""
    return uvloop.run(_run(directory, Durability(mode), rounds))
