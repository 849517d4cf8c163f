"""Statements of callers inside this process, such as the MySQL listener: they are told an outcome and not bytes."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import inf
from typing import Final

from cubequeue_server.replies import DurabilityGate
from cubequeue_server.waits import Waits
from storage.errors import StatementError
from storage.interface import Caller, Outcome, Pending, Reply, Store
from storage.vocabulary import Statement

# The answer to what reads for longer and has seen effects that a failed write took back.
SEEN_WAS_LOST: Final = "what this statement has read was lost by a failed write, ask again"

Execute = Callable[[Statement, Caller], Outcome | Pending]


class Call:
    """One statement, and whom to tell its outcome; it is told exactly once."""

    __slots__ = ("_tell", "pending", "since_s", "tick")

    def __init__(self, tell: Callable[[Outcome], None]) -> None:
        self._tell = tell
        self.pending: Pending | None = None
        self.tick = 0
        self.since_s = time.monotonic()

    def tell(self, outcome: Outcome) -> None:
        self._tell(outcome)


class Calls:
    """Executes such statements. What waits is given up by the same `waits` as the requests of connections."""

    def __init__(self, store: Store, execute: Execute, waits: Waits, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._execute = execute
        self._waits = waits
        self._now_ms = now_ms
        self._gate: DurabilityGate[Call, Outcome] = DurabilityGate(store, self._deliver)
        self._count = 0
        self._is_stopping = False
        self._lost_at_s = -inf

    def __len__(self) -> int:
        """Calls that were not told their outcome yet."""
        return self._count

    def begin(self, statement: Statement, caller: Caller, tell: Callable[[Outcome], None]) -> Call:
        """Execute a statement; `tell` is called now or later. Raises nothing."""
        call = Call(tell)
        self._count += 1
        outcome = self._execute(statement, caller)
        if not isinstance(outcome, Pending):
            self._complete(call, outcome)
            return call
        call.pending = outcome
        outcome.on_outcome = lambda late: self._on_outcome(call, late)
        if outcome.timeout_ms is not None:
            if self._is_stopping:
                self._store.give_up(outcome, self._now_ms())
            else:
                call.tick = self._waits.add(outcome, outcome.timeout_ms)
        return call

    def give_up(self, call: Call) -> None:
        """Nobody listens any more: a wait ends now, with no rows."""
        if call.pending is not None and call.pending.timeout_ms is not None:
            self._store.give_up(call.pending, self._now_ms())

    def release(self) -> None:
        """Tell the outcomes that have become durable."""
        self._gate.release()

    def fail(self, text: str, kept_seq: int) -> None:
        """Tell errors in place of outcomes whose effects, those above `kept_seq`, were lost."""
        self._lost_at_s = time.monotonic()
        self._gate.fail(lambda _call: StatementError(text), kept_seq)

    def stop_waiting(self) -> None:
        """From now on nothing waits. Those that do are answered by the store's end of all waits."""
        self._is_stopping = True

    def _on_outcome(self, call: Call, outcome: Outcome) -> None:
        pending, call.pending = call.pending, None
        if pending is not None and call.tick:
            self._waits.cancel(pending, call.tick)
        is_read = pending is not None and pending.timeout_ms is None
        if is_read and call.since_s <= self._lost_at_s:
            outcome = StatementError(SEEN_WAS_LOST)
        self._complete(call, outcome)

    def _complete(self, call: Call, outcome: Outcome) -> None:
        self._gate.deliver(call, outcome, outcome.commit_seq if isinstance(outcome, Reply) else self._store.applied_seq)

    def _deliver(self, call: Call, outcome: Outcome) -> None:
        self._count -= 1
        call.tell(outcome)
