"""The seam between the shell and an engine, which keeps the state: one call in, one answer out.

An engine answers a statement with a `Result` that may leave now, or with a `Later` that it completes itself. The reason
for a late answer is the engine's own business: a wait for a result, a commit, a remote store, a long reading.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from storage.asking import Caller, Later
from storage.queue.history import EndedItem
from storage.stats import PrefixTotalsTable, QueueFigures, QueueStatsTable
from storage.system_tables import SystemTable
from storage.vocabulary import Path, RequestKey, Result, Row, Statement


class Engine(Protocol):
    """Executes statements one after the other: each sees all effects of those before it.

    `now_ms` is the wall clock in whole milliseconds since the epoch; it may step back. A message whose `request_key`
    was answered before is not executed again if its effect is `Effect.KEPT`: it gets the kept answer.

    No answer leaves before every effect that it may have seen is as durable as the engine promises: that holds for
    results, for errors that depend on the state, and for waiters that are woken.
    """

    def execute(
        self, statement: Statement, caller: Caller, request_key: RequestKey | None, now_ms: int
    ) -> Result | Later:
        """Execute a statement. Raises `StatementError` when it is refused; it then changed nothing."""

    def give_up(self, later: Later, now_ms: int) -> None:
        """End a wait with zero rows, unless it was done before."""

    def end_waits(self, now_ms: int) -> None:
        """End all waits, as at a stop of the server."""

    def confirm_delivered(self, request_keys: list[RequestKey]) -> None:
        """The peer proved that it received these answers: they are dropped first when room is short."""

    def mark_undelivered(self, request_key: RequestKey) -> None:
        """The answer could not be delivered: keep it for the longer time (decisions: 600 s)."""

    def tick(self, now_ms: int, max_rows: int) -> bool:
        """Background work: expire, evict, free the memory of CLEAR. Called several times a second.

        Touches about `max_rows` rows at most, so that the caller bounds its time; True when more is due already.
        """


class Stateless:
    """A base for an `Engine` that keeps no state: no request waits for another, no answer is kept."""

    def give_up(self, later: Later, now_ms: int) -> None:
        """Does nothing: the engine ends its own waits."""

    def end_waits(self, now_ms: int) -> None:
        """Does nothing."""

    def confirm_delivered(self, request_keys: list[RequestKey]) -> None:
        """Does nothing."""

    def mark_undelivered(self, request_key: RequestKey) -> None:
        """Does nothing."""

    def tick(self, now_ms: int, max_rows: int) -> bool:
        """No work is ever due."""
        return False


class Inspectable(Protocol):
    """An engine that shows its contents. Methods that may have to ask a remote store are awaitable.

    A reader that takes several steps notes `losses` before the first one and ends with `settled`.
    """

    @property
    def losses(self) -> int:
        """How often applied effects were lost, by a failed write or by a failover."""

    def settled(self, losses: int) -> Later | None:
        """None when everything that may have been read since `losses` was noted is durable.

        Otherwise a `Later`: done when it is durable, or with an error when it was lost. Raises `StatementError` when
        effects were lost since then already.
        """

    def read_table(self, table: SystemTable) -> AsyncIterator[list[Row]]:
        """Read all rows of a table in slices, about a microsecond a row; other statements may run between two slices.

        Rows that go before their slice is read are left out; rows that come later are not seen.
        """

    def take_cancels(self) -> list[EndedItem]:
        """The items that were cancelled by hand since the last call, 100 at most. O(items)."""

    async def queue_stats(self) -> QueueStatsTable:
        """Totals of each queue since the start; read-only."""

    def queue_figures(self, now_ms: int) -> AsyncIterator[list[QueueFigures]]:
        """How each queue stands, in slices; about two microseconds each."""

    def waited_paths(self) -> AsyncIterator[list[Path | None]]:
        """The path of the item that each RESULT_BLOCKING waits for, None if it is not known, in slices."""

    async def cache_totals(self) -> PrefixTotalsTable:
        """Totals of CACHE GET by prefix since the start; read-only."""

    def gauges(self) -> dict[str, int]:
        """Counts and bytes of what the engine holds, by name. O(1); of a remote engine, as of its last tick."""


class Store(Engine, Inspectable, Protocol):
    """An engine for QUEUE, CACHE and SYS CACHESTORE."""

    def write_ahead(self, statement: Statement) -> Later | None:
        """Begin to write the large text of a statement that is to be executed, so that its commit is short.

        Done when that was written, or cannot be written. None where there is nothing to write.
        """

    def let_go(self, statement: Statement) -> None:
        """The statement was executed, or is not going to be."""
