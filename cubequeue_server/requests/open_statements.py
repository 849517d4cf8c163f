"""Statements whose outcome comes later: a wait for a result, a long reading, a sync."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import inf
from typing import Any, Final

from cubequeue_server.requests.waits import Waits
from storage.engine import Outcome, Pending, Store
from storage.errors import StatementError
from storage.vocabulary import OtherSql, Statement, SysForeign

# The answer to what reads for longer and has seen effects that a failed write took back.
SEEN_WAS_LOST: Final = "what this statement has read was lost by a failed write, ask again"
OF_SQL: Final = (OtherSql, SysForeign)


class OpenStatement:
    """One statement of that kind; `since_s` is when it was executed, on the monotonic clock.

    It is what the store calls when the wait is over, and `on_outcome` is given it: a bound method each would take
    80 bytes, and there may be a hundred thousand of these.
    """

    __slots__ = ("_on_outcome", "pending", "since_s", "statement", "tick")

    def __init__(self, statement: type[Statement], on_outcome: Callable[[Any, Outcome], None]) -> None:
        self.statement = statement
        self.pending: Pending | None = None
        self.tick = 0
        self.since_s = 0.0
        self._on_outcome = on_outcome

    def __call__(self, outcome: Outcome) -> None:
        """The wait is over."""
        self._on_outcome(self, outcome)


class OpenStatements:
    """Gives waits up in time, and tells those the truth that read what was lost."""

    def __init__(self, store: Store, waits: Waits, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._waits = waits
        self._now_ms = now_ms
        self._is_stopping = False
        self._lost_at_s = -inf  # when applied effects were lost last

    def begin(self, asked: OpenStatement, pending: Pending) -> None:
        """Wait for the outcome of `pending`; it may come before this returns."""
        pending.on_outcome = asked
        asked.pending = pending
        if pending.timeout_ms is None:
            return
        if self._is_stopping:
            self._store.give_up(pending, self._now_ms())
        else:
            asked.tick = self._waits.add(pending, pending.timeout_ms)

    def end(self, asked: OpenStatement, outcome: Outcome) -> Outcome:
        """It came: what is to be told."""
        pending, asked.pending = asked.pending, None
        if pending is not None and asked.tick:
            self._waits.cancel(pending, asked.tick)
        if asked.statement in OF_SQL and asked.since_s <= self._lost_at_s:
            return StatementError(SEEN_WAS_LOST)
        return outcome

    def give_up(self, asked: OpenStatement) -> None:
        """Nobody listens any more: a wait ends now, with no rows."""
        if asked.pending is not None and asked.pending.timeout_ms is not None:
            self._store.give_up(asked.pending, self._now_ms())

    def stop(self) -> None:
        """From now on nothing waits; what does is ended by the store."""
        self._is_stopping = True

    def lost(self) -> None:
        """What was applied was lost, so that readings begun before have seen what is not so."""
        self._lost_at_s = time.monotonic()
