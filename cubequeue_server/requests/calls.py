"""Statements of callers inside this process, such as the MySQL listener: they are told an outcome and not bytes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeAlias

from cubequeue_server.requests.open_statements import OpenStatement, OpenStatements
from cubequeue_server.requests.replies import DurabilityGate
from storage.engine import Caller, Outcome, Pending, Reply, Store
from storage.errors import StatementError
from storage.vocabulary import Statement

Execute: TypeAlias = Callable[[Statement, Caller], Outcome | Pending]


class Call(OpenStatement):
    """One statement, and whom to tell its outcome; it is told exactly once."""

    __slots__ = ("_tell",)

    def __init__(
        self,
        statement: type[Statement],
        on_outcome: Callable[[Call, Outcome], None],
        tell: Callable[[Outcome], None],
    ) -> None:
        super().__init__(statement, on_outcome)
        self.since_s = time.monotonic()
        self._tell = tell

    def tell(self, outcome: Outcome) -> None:
        self._tell(outcome)


class Calls:
    """Executes such statements."""

    def __init__(self, store: Store, execute: Execute, open_statements: OpenStatements) -> None:
        self._store = store
        self._execute = execute
        self._open = open_statements
        self._gate: DurabilityGate[Call, Outcome] = DurabilityGate(store, self._deliver)
        self._count = 0

    def __len__(self) -> int:
        """Calls that were not told their outcome yet."""
        return self._count

    def begin(self, statement: Statement, caller: Caller, tell: Callable[[Outcome], None]) -> Call:
        """Execute a statement; `tell` is called now or later. Raises nothing."""
        call = Call(type(statement), self._on_outcome, tell)
        self._count += 1
        outcome = self._execute(statement, caller)
        if isinstance(outcome, Pending):
            self._open.begin(call, outcome)
        else:
            self._complete(call, outcome)
        return call

    def release(self) -> None:
        """Tell the outcomes that have become durable."""
        self._gate.release()

    def fail(self, text: str, kept_seq: int) -> None:
        """Tell errors in place of outcomes whose effects, those above `kept_seq`, were lost."""
        self._gate.fail(lambda _call: StatementError(text), kept_seq)

    def _on_outcome(self, call: Call, outcome: Outcome) -> None:
        self._complete(call, self._open.end(call, outcome))

    def _complete(self, call: Call, outcome: Outcome) -> None:
        self._gate.deliver(call, outcome, outcome.commit_seq if isinstance(outcome, Reply) else self._store.applied_seq)

    def _deliver(self, call: Call, outcome: Outcome) -> None:
        self._count -= 1
        call.tell(outcome)
