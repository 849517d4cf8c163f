"""A journaled store on rows in memory, which is started anew between statements."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from random import Random

from sortedcontainers import SortedDict

from storage.asking import Caller, Later
from storage.journal import rows
from storage.journal.errors import BusyError, JournalError
from storage.journal.host import Host, InThread
from storage.journal.recorder import Group
from storage.journal.store import Durability, JournaledStore
from storage.limits import AnswerLimits, CacheLimits, QueueLimits
from storage.queue.history import EndedItem
from storage.queue.items import Item, StoredResult
from storage.stats import PrefixTotalsTable, QueueFigures, QueueStatsTable
from storage.system_tables import SystemTable
from storage.vocabulary import CacheIncr, CacheSet, Effect, RequestKey, Result, Row, Statement
from storage.vocabulary import Path as QueuePath
from tests.asking import Told
from tests.audit import audit

WRITES_A_LOG = 50


class RowsEngine:
    """What `storage.journal.database.Database` does, on a sorted dict; it fails and is busy when told to."""

    def __init__(self, content: dict[bytes, bytes] | None = None) -> None:
        self.directory = Path("rows in memory")
        self.content: SortedDict[bytes, bytes] = SortedDict(content or {})
        self.is_broken = False
        self.busy_for = 0  # so many writes are turned away
        self.is_patient = False
        self.writes: list[int] = []  # bytes of each
        self.log_writes = 0  # since the log was begun
        self.logs = 1

    def write(self, group: Group) -> None:
        self._may_write()
        for kind in group.ranges:
            for key in [key for key in self.content if key.startswith(kind)]:
                del self.content[key]
        for key in group.deletes:
            self.content.pop(key, None)
        self.content.update(group.puts)
        if group.mark:
            self.content[rows.SYNCED_KEY] = group.mark
        self.writes.append(sum(len(value) for _, value in group.puts))

    def put(self, key: bytes, value: bytes) -> None:
        self._may_write()
        self.content[key] = value
        self.writes.append(len(value))

    def _may_write(self) -> None:
        if self.is_broken:
            raise JournalError("the disk is broken")
        if self.busy_for and not self.is_patient:
            self.busy_for -= 1
            raise BusyError("busy")
        self.log_writes += 1

    @property
    def is_log_due(self) -> bool:  # an attribute of the database
        return self.log_writes >= WRITES_A_LOG

    def begin_log(self) -> None:
        if self.is_broken:
            raise JournalError("the disk is broken")
        self.log_writes = 0
        self.logs += 1

    def wait_when_busy(self) -> None:
        self.is_patient = True

    def get(self, key: bytes) -> bytes | None:
        return self.content.get(key)

    def rows(self, kind: bytes) -> Iterator[tuple[bytes, bytes]]:
        return ((key, value) for key, value in list(self.content.items()) if key.startswith(kind))

    def open_for_writing(self) -> bool:
        return True

    def try_disk(self) -> None:
        """The disk is well; the database may not be."""

    def reopen(self) -> None:
        if self.is_broken:
            raise JournalError("the disk is broken")
        self.log_writes = 0

    def sync(self) -> None:
        self._may_write()

    def compact(self) -> None:
        pass

    def stop_compacting(self) -> None:
        pass

    def size_bytes(self) -> int:
        return sum(len(value) for value in self.content.values())

    def close(self) -> None:
        pass


class Turns:
    """An event loop's `call_soon` and `call_later`, by hand."""

    def __init__(self) -> None:
        self._due: deque[Callable[[], None]] = deque()

    def call_soon(self, callback: Callable[[], None]) -> None:
        self._due.append(callback)

    def call_later(self, _delay_ms: int, callback: Callable[[], None]) -> None:
        self._due.append(callback)

    def __len__(self) -> int:
        return len(self._due)

    def one(self) -> None:
        """Everything that is due now; what that makes due stays."""
        for _ in range(len(self._due)):
            self._due.popleft()()

    def all(self) -> None:
        while self._due:
            self.one()


def opened(
    database: RowsEngine,
    turns: Turns,
    *,
    queue: QueueLimits | None = None,
    cache: CacheLimits | None = None,
    answers: AnswerLimits | None = None,
    now_ms: int = 0,
    sync: Callable[[int], None] | None = None,
    durability: Durability = Durability.RELAXED,
    cache_durability: Durability = Durability.RELAXED,
    in_thread: InThread | None = None,
) -> JournaledStore:
    """A store on these rows. At `now_ms` 0 ids go on as if no time had passed, and answers keep their age."""

    def done_at_once(work: Callable[[], None], then: Callable[[], None]) -> None:
        work()
        turns.call_soon(then)

    def fail(reason: str) -> None:
        raise AssertionError(reason)

    return JournaledStore(
        database,  # type: ignore[arg-type]  # its methods are the database's
        queue or QueueLimits(),
        cache or CacheLimits(),
        answers or AnswerLimits(),
        host(turns, in_thread or done_at_once, fail, now_ms=now_ms),
        sync,
        durability,
        cache_durability,
    )


def host(turns: Turns, in_thread: InThread, fail: Callable[[str], None], *, now_ms: int = 0) -> Host:
    """A process by hand: everything waits for `turns`, and time stands still."""
    return Host(
        turns.call_soon,
        turns.call_later,
        in_thread,
        lambda complete: complete(),
        lambda: now_ms,
        Random(0).random,
        fail,
        Told,
    )


class RestartingStore:
    """Commits after each statement, and after every few is thrown away and made anew from its rows.

    Waits do not outlast a restart, nor does the knowledge which answers arrived, and how often a value was used:
    there is none where that would show. Nor does a restart keep the place of a key that was written again among
    CACHE KEYS, or that a clock once showed a later time (docs/divergences.md).
    """

    def __init__(
        self, queue: QueueLimits, cache: CacheLimits, answers: AnswerLimits, first_id: int, every: int
    ) -> None:
        self._limits = (queue, cache, answers)
        self._every = every
        self._turns = Turns()
        self._database = RowsEngine(
            {rows.NEXT_ID_KEY: rows.encode(first_id), rows.SCHEMA_KEY: rows.encode(rows.SCHEMA)}
        )
        self._statements = 0
        self._may_restart = cache == CacheLimits()  # the order of uses, which eviction follows, is not kept
        self._is_executing = False
        self._now_ms = 0
        self._written: set[bytes] = set()
        self.restarts = 0
        self._store = self._opened()

    def _opened(self) -> JournaledStore:
        queue, cache, answers = self._limits
        store = opened(self._database, self._turns, queue=queue, cache=cache, answers=answers)
        self._turns.all()
        return store

    def _restart(self) -> None:
        before = everything(self._store)
        self._database = RowsEngine(dict(self._database.content))
        self._store = self._opened()
        self._store._memory.cache.see(self._now_ms)  # as a start at this time does
        after = everything(self._store)
        for what, held in before.items():
            assert after[what] == held, what
        self.restarts += 1

    def execute(
        self, statement: Statement, caller: Caller, request_key: RequestKey | None, now_ms: int
    ) -> Result | Later:
        if self._is_executing:  # a waiter that asks when it is woken
            later = self._store.execute(statement, caller, request_key, now_ms)
            self._turns.all()
            return later
        if statement.effect is not Effect.NONE:
            # A restart ahead of reads, which look at each tick, would undo what the tick did.
            self._statements += 1
            if self._may_restart and self._statements % self._every == 0 and not self._store.gauges()["waiters"]:
                self._restart()
        self._look_at(statement, now_ms)
        self._is_executing = True
        try:
            return self._store.execute(statement, caller, request_key, now_ms)
        finally:
            self._is_executing = False
            self._turns.all()

    def _look_at(self, statement: Statement, now_ms: int) -> None:
        if now_ms < self._now_ms:
            self._may_restart = False
        self._now_ms = now_ms
        if isinstance(statement, CacheSet | CacheIncr):
            if statement.path in self._written:
                self._may_restart = False
            self._written.add(statement.path)

    def give_up(self, later: Later, now_ms: int) -> None:
        self._store.give_up(later, now_ms)
        self._turns.all()

    def end_waits(self, now_ms: int) -> None:
        self._store.end_waits(now_ms)
        self._turns.all()

    def confirm_delivered(self, request_keys: list[RequestKey]) -> None:
        self._may_restart = False
        self._store.confirm_delivered(request_keys)

    def mark_undelivered(self, request_key: RequestKey) -> None:
        self._may_restart = False
        self._store.mark_undelivered(request_key)

    def tick(self, now_ms: int, max_rows: int) -> bool:
        has_more = self._store.tick(now_ms, max_rows)
        self._turns.all()
        return has_more

    def gauges(self) -> dict[str, int]:
        return self._store.gauges()

    def read_table(self, table: SystemTable) -> AsyncIterator[list[Row]]:
        return self._store.read_table(table)

    losses = 0

    def settled(self, losses: int) -> Later | None:
        return self._store.settled(losses)

    def take_cancels(self) -> list[EndedItem]:
        return self._store.take_cancels()

    async def queue_stats(self) -> QueueStatsTable:
        return await self._store.queue_stats()

    def queue_figures(self, now_ms: int) -> AsyncIterator[list[QueueFigures]]:
        return self._store.queue_figures(now_ms)

    def waited_paths(self) -> AsyncIterator[list[QueuePath | None]]:
        return self._store.waited_paths()

    async def cache_totals(self) -> PrefixTotalsTable:
        return await self._store.cache_totals()

    def check_invariants(self) -> None:
        audit(self._store)


def everything(store: JournaledStore) -> dict[str, object]:
    """All that a store holds, in a form that compares."""
    memory = store._memory
    answers = {**memory.answers._kept, **memory.answers._undelivered}
    return {
        "next id": memory.queue.next_id,
        "items": [_fields(item, "queue") for item in memory.queue.items.by_id.values()],
        "results": sorted(_fields(result, "older", "newer") for result in memory.queue.results.table.by_id.values()),
        "entries": sorted((entry.path, entry.value, entry.expires_ms) for entry in memory.cache._entries.values()),
        # Those of statements that changed nothing are not written.
        "answers": sorted((key, _same(a.result), a.answered_ms) for key, a in answers.items() if a.group is not None),
    }


def _fields(row: Item | StoredResult, *but: str) -> list[tuple[str, str]]:
    return [(name, repr(getattr(row, name))) for name in _NAMES[type(row)] if name not in but]


_NAMES = {
    kind: [name for name in dir(kind) if not name.startswith("__") and not callable(getattr(kind, name))]
    for kind in (Item, StoredResult)
}


def _same(result: Result) -> str:
    """Rows are a list or a tuple, whichever was at hand."""
    return repr(Result(result.columns, tuple(result.rows)))
