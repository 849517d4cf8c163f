"""The seam between the shell and whatever keeps the state: one call in, one answer out, now or later.

The in-process engine (`storage.memory.MemoryStore`) answers at once; waiting for a result, for a journal or for a
remote engine are all the same `Pending`. There is no awaitable here and no task: the shell is called back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from storage.cache.totals import PrefixTotalsTable
from storage.errors import StatementError
from storage.queue.stats import QueueFigures, QueueStatsTable
from storage.system_tables import SystemTable, TableReading
from storage.vocabulary import Path, Result, Statement

# (authenticated user, connection_id, message_id): names one request of one client for ever (wire.md §3).
RequestKey: TypeAlias = tuple[bytes, bytes, int]


@dataclass(slots=True, frozen=True)
class Caller:
    """Who asks: what ownership of EXCLUSIVE items is decided by (commands.md §3, "process id")."""

    process_id: bytes | None = None


ANYBODY = Caller()


class Reply:
    """An answer. It may leave once everything up to `commit_seq` is as durable as the mode promises."""

    __slots__ = ("commit_seq", "result")

    def __init__(self, result: Result, commit_seq: int = 0) -> None:
        self.result = result
        self.commit_seq = commit_seq

    def __repr__(self) -> str:
        return f"Reply({self.result!r}, commit_seq={self.commit_seq})"


Outcome: TypeAlias = Reply | StatementError


class Pending:
    """An answer that comes later.

    The caller sets `on_outcome` before it does anything else; it is called exactly once. `timeout_ms` asks the
    caller to call `Store.give_up` after that long on the monotonic clock, which answers with zero rows; None
    means that the store itself ends the wait.
    """

    __slots__ = ("on_outcome", "timeout_ms")

    def __init__(self, timeout_ms: int | None) -> None:
        self.timeout_ms = timeout_ms
        self.on_outcome: Callable[[Outcome], None] | None = None


class StateMachine(Protocol):
    """Executes statements one after the other: each sees all effects of those before it.

    `now_ms` is the wall clock in whole milliseconds since the epoch; it may step back. `commit_seq` of replies
    never falls. A statement whose `request_key` was answered before is not executed again if it has effects: it
    gets the kept answer.
    """

    @property
    def applied_seq(self) -> int:
        """The commit sequence number of the newest applied effect."""

    @property
    def durable_seq(self) -> int:
        """Replies with a `commit_seq` up to this one may leave. Never falls."""

    def on_durable(self, callback: Callable[[], None]) -> None:
        """Have `callback` called whenever `durable_seq` has risen."""

    def on_failed(self, callback: Callable[[str, int], None]) -> None:
        """Have `callback` called when the effects above a commit sequence number were lost: with an error's text
        and that number.

        All replies that wait for such are to be errors; those up to the number wait on, and become durable.
        """

    def execute(
        self, statement: Statement, caller: Caller, request_key: RequestKey | None, now_ms: int
    ) -> Reply | Pending:
        """Carry the statement out. Raises `StatementError` when it is refused; it then changed nothing."""

    def give_up(self, pending: Pending, now_ms: int) -> None:
        """End a wait: it answers with zero rows, unless it was answered already."""

    def end_waits(self, now_ms: int) -> None:
        """End all waits, as at a stop of the server."""

    def confirm_delivered(self, request_keys: list[RequestKey]) -> None:
        """The peer proved that it received these answers: they are the first to go when room is short."""

    def mark_undelivered(self, request_key: RequestKey) -> None:
        """Nobody could be given this answer: keep it for the longer time (decisions: 600 s)."""

    def tick(self, now_ms: int, max_rows: int) -> bool:
        """Background work: drop what expired, evict, free what CLEAR left. Called several times a second.

        Touches about `max_rows` rows at most, so that the caller bounds its time; True when more is due already.
        """

    def gauges(self) -> dict[str, int]:
        """What the store holds, by name: counts and bytes. O(1): kept, never counted."""

    def check_invariants(self) -> None:
        """Audit every index against every other, O(n); raises AssertionError."""


class Store(StateMachine, Protocol):
    """A state machine that also shows operators what it holds."""

    def read_table(self, table: SystemTable) -> TableReading:
        """Begin to read all rows of a table, a slice at a time. O(rows), about ten nanoseconds each."""

    def queue_stats(self) -> QueueStatsTable:
        """What happened in each queue since the start; to be read only. O(1)."""

    def queue_figures(self, now_ms: int) -> Iterable[QueueFigures]:
        """How each queue stands. About two microseconds each; it may be read in slices, between statements."""

    def waited_prefixes(self) -> Iterable[Path | None]:
        """The queue that each RESULT_BLOCKING waits for, None when that is not known. It may be read in slices."""

    def cache_totals(self) -> PrefixTotalsTable:
        """What CACHE GET found by prefix since the start; to be read only. O(1)."""
