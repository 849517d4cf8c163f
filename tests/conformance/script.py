"""Scripts: a named list of steps, each a statement with what it must answer. One script is one rule of a table.

Script(
    "an unknown path is inserted",
    Do(add("p:k", "1"), [(nth(1), True, 1)]),
    Later(1_000),
    Do(add("p:k", "2"), [(nth(1), False, 1)]),
)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from storage.asking import Caller, Later, Outcome
from storage.errors import StatementError
from storage.vocabulary import Binary, Cell, RequestKey, Result, Statement
from tests.conformance.engines import FIRST_ID

NOW_MS = 1_764_000_000_000
SECOND_MS, MINUTE_MS, HOUR_MS = 1_000, 60_000, 3_600_000

Row: TypeAlias = tuple[Cell, ...]


@dataclass(frozen=True)
class AnyOf:
    """A cell that may be one of several."""

    choices: tuple[Cell, ...]


@dataclass
class Do:
    """Execute `statement`; it must answer `rows`, or be refused with this error (class and text)."""

    statement: Statement
    expected: Sequence[Row] | StatementError
    process: str | None = None
    key: RequestKey | None = None


@dataclass
class Wait:
    """Execute a RESULT_BLOCKING that must wait, under a name."""

    name: str
    statement: Statement
    process: str | None = None
    key: RequestKey | None = None


@dataclass
class Woken:
    """The named waiter has been answered, exactly once, with these rows."""

    name: str
    rows: Sequence[Row]


@dataclass
class StillWaits:
    name: str


@dataclass
class GiveUp:
    name: str


@dataclass
class Later:
    """The clock moves; it may move back."""

    by_ms: int


@dataclass
class Tick:
    """Background work, to its end."""


Step: TypeAlias = Do | Wait | Woken | StillWaits | GiveUp | Later | Tick


@dataclass
class Script:
    name: str
    steps: tuple[Step, ...]

    def __init__(self, name: str, *steps: Step) -> None:
        self.name, self.steps = name, steps

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


@dataclass
class Waiting:
    pending: Pending
    outcomes: list[Outcome] = field(default_factory=list)


class Session:
    """One engine, one clock, and the waiters by name."""

    def __init__(self, store: StateMachine) -> None:
        self.store = store
        self.now_ms = NOW_MS
        self.waiting: dict[str, Waiting] = {}

    def play(self, script: Script) -> None:
        for number, step in enumerate(script.steps, 1):
            try:
                self.step(step)
                self.store.check_invariants()
            except AssertionError as error:
                raise AssertionError(f"step {number}, {step}: {error}") from error

    def step(self, step: Step) -> None:
        match step:
            case Do(statement, expected, process, key):
                self._do(statement, expected, process, key)
            case Wait(name, statement, process, key):
                self.wait(name, statement, process, key)
            case Woken(name, rows):
                assert _shown(self.answers_of(name)) == _shown([list(rows)])
            case StillWaits(name):
                assert self.answers_of(name) == []
            case GiveUp(name):
                self.store.give_up(self.waiting[name].pending, self.now_ms)
            case Later(by_ms):
                self.now_ms += by_ms
            case Tick():
                self.tick()

    def _do(
        self,
        statement: Statement,
        expected: Sequence[Row] | StatementError,
        process: str | None,
        key: RequestKey | None,
    ) -> None:
        if isinstance(expected, StatementError):
            error = self.refusal(statement, process, key)
            assert (type(error), error.text) == (type(expected), expected.text)
        else:
            assert _shown(self.rows(statement, process, key)) == _shown(list(expected))

    def result(self, statement: Statement, process: str | None = None, key: RequestKey | None = None) -> Result:
        """The result of a statement that is answered at once."""
        reply = self.store.execute(statement, _caller(process), key, self.now_ms)
        assert isinstance(reply, Reply), reply
        assert reply.commit_seq <= self.store.durable_seq
        for row in reply.result.rows:
            assert len(row) == len(reply.result.columns), reply.result
        return reply.result

    def rows(self, statement: Statement, process: str | None = None, key: RequestKey | None = None) -> list[Row]:
        return list(self.result(statement, process, key).rows)

    def refusal(
        self, statement: Statement, process: str | None = None, key: RequestKey | None = None
    ) -> StatementError:
        """The error of a statement that is refused."""
        try:
            outcome = self.store.execute(statement, _caller(process), key, self.now_ms)
        except StatementError as error:
            return error
        raise AssertionError(f"not refused: {outcome}")

    def wait(
        self, name: str, statement: Statement, process: str | None = None, key: RequestKey | None = None
    ) -> Waiting:
        pending = self.store.execute(statement, _caller(process), key, self.now_ms)
        assert isinstance(pending, Pending), pending
        waiting = self.waiting[name] = Waiting(pending)
        pending.on_outcome = waiting.outcomes.append
        return waiting

    def answers_of(self, name: str) -> list[list[Row]]:
        answers = []
        for outcome in self.waiting[name].outcomes:
            assert isinstance(outcome, Reply), outcome
            answers.append(list(outcome.result.rows))
        return answers

    def tick(self, max_rows: int = 1_000) -> None:
        for _ in range(10_000):
            if not self.store.tick(self.now_ms, max_rows):
                return
        raise AssertionError("tick finds no end")


def nth(number: int) -> bytes:
    """The id of the n-th item that a script adds, as a cell."""
    return b"%d" % id_of(number)


def id_of(number: int) -> int:
    return FIRST_ID + number - 1


def _caller(process: str | None) -> Caller:
    return Caller(process.encode() if process else None)


def _shown(value: object) -> object:
    """Cells with their types: `1` is not `True`, and binary is not text."""
    if isinstance(value, list | tuple):
        return [_shown(part) for part in value]
    if isinstance(value, bytes):
        return ("binary" if isinstance(value, Binary) else "text", bytes(value))
    return (type(value).__name__, value)
