"""Scripts: a named list of steps, each a statement with what it must answer. One script is one rule of a table.

Script(
    "an unknown path is inserted",
    Do(add("p:k", "1"), [(nth(1), True, 1)]),
    Later(1_000),
    Do(add("p:k", "2"), [(nth(1), False, 1)]),
)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

from storage.asking import Caller
from storage.errors import StatementError
from storage.vocabulary import Binary, Cell, RequestKey, Result, Row, Statement
from tests.asking import Told
from tests.audit import audit
from tests.conformance.client import Asked, Client
from tests.conformance.engines import FIRST_ID, Candidate, Limits

NOW_MS = 1_764_000_000_000
SECOND_MS, MINUTE_MS, HOUR_MS = 1_000, 60_000, 3_600_000


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


class Session:
    """One engine, one clock, and the waiters by name.

    With `at_once` the statements of a script are sent without waiting for the answers of those before, where that is
    possible: each must be answered as if it had waited.
    """

    def __init__(self, engine: Candidate, limits: Limits, *, at_once: bool = False) -> None:
        self.engine = engine
        self.client = Client(engine, limits)
        self.store = self.client.store
        self.close = self.client.close
        self.now_ms = NOW_MS
        self.waiting: dict[str, Asked] = {}
        self._at_once = at_once
        self._unread: list[tuple[int, Do, Asked]] = []

    def play(self, script: Script) -> None:
        for number, step in enumerate(script.steps, 1):
            if not self._at_once or not self._may_overtake(step):
                self._read_answers()
            with _blaming(number, step):
                if isinstance(step, Do):
                    asked = self._send(step.statement, step.process, step.key)
                    self._unread.append((number, step, asked))
                else:
                    self._step(step)
        self._read_answers()

    def _may_overtake(self, step: Step) -> bool:
        """A repeat waits for the answer that is kept, and a statement for the id that it names."""
        if not isinstance(step, Do) or not self.client.ids.is_known(step.statement):
            return False
        return step.key is None or all(step.key != asked.key for _, _, asked in self._unread)

    def _read_answers(self) -> None:
        for number, step, asked in self._unread:
            with _blaming(number, step):
                self._check(step, asked)
        self._unread.clear()
        audit(self.store)

    def _check(self, step: Do, asked: Asked) -> None:
        if isinstance(step.expected, StatementError):
            error = self._refusal(asked)
            assert (type(error), error.text) == (type(step.expected), step.expected.text)
        else:
            assert _shown(list(self._result(asked).rows)) == _shown(list(step.expected))

    def _step(self, step: Step) -> None:
        match step:
            case Wait(name, statement, process, key):
                self.wait(name, statement, process, key)
            case Woken(name, rows):
                assert _shown(self.answers_of(name)) == _shown([list(rows)])
            case StillWaits(name):
                assert self.answers_of(name) == []
            case GiveUp(name):
                self.give_up(name)
            case Later(by_ms):
                self.now_ms += by_ms
            case Tick():
                self.tick()

    def _send(self, statement: Statement, process: str | None, key: RequestKey | None) -> Asked:
        return self.client.send(statement, Caller(process.encode() if process else None), key, self.now_ms)

    def _result(self, asked: Asked) -> Result:
        answer = self.client.answer(asked)
        assert answer is not None, "it waits"
        if isinstance(answer, StatementError):
            raise answer
        for row in answer.rows:
            assert len(row) == len(answer.columns), answer
        return answer

    def _refusal(self, asked: Asked) -> StatementError:
        answer = self.client.answer(asked)
        assert isinstance(answer, StatementError), f"not refused: {answer}"
        return answer

    def result(self, statement: Statement, process: str | None = None, key: RequestKey | None = None) -> Result:
        """The result of a statement that waits for nothing but the engine."""
        return self._result(self._send(statement, process, key))

    def rows(self, statement: Statement, process: str | None = None, key: RequestKey | None = None) -> list[Row]:
        return list(self.result(statement, process, key).rows)

    def refusal(
        self, statement: Statement, process: str | None = None, key: RequestKey | None = None
    ) -> StatementError:
        """The error of a statement that is refused."""
        return self._refusal(self._send(statement, process, key))

    def wait(self, name: str, statement: Statement, process: str | None = None, key: RequestKey | None = None) -> Told:
        """Have a RESULT_BLOCKING wait, under a name."""
        asked = self.waiting[name] = self._send(statement, process, key)
        assert self.client.answer(asked) is None
        assert isinstance(asked.outcome, Told)
        return asked.outcome

    def give_up(self, name: str) -> None:
        waiting = self.waiting[name].outcome
        assert isinstance(waiting, Told)
        self.store.give_up(waiting, self.now_ms)

    def answers_of(self, name: str) -> list[list[Row]]:
        answers = []
        for answer in self.client.answers(self.waiting[name]):
            assert isinstance(answer, Result), answer
            answers.append(list(answer.rows))
        return answers

    def tick(self, max_rows: int = 1_000) -> None:
        for _ in range(10_000):
            if not self.client.has_more_after_tick(self.now_ms, max_rows):
                return
        raise AssertionError("tick finds no end")


@contextmanager
def _blaming(number: int, step: Step) -> Iterator[None]:
    try:
        yield
    except (AssertionError, StatementError) as error:
        raise AssertionError(f"step {number}, {step}: {error}") from error


def nth(number: int) -> bytes:
    """The id of the n-th item that a script adds, as a cell."""
    return b"%d" % id_of(number)


def id_of(number: int) -> int:
    return FIRST_ID + number - 1


def _shown(value: object) -> object:
    """Cells with their types: `1` is not `True`, and binary is not text."""
    if isinstance(value, list | tuple):
        return [_shown(part) for part in value]
    if isinstance(value, bytes):
        return ("binary" if isinstance(value, Binary) else "text", bytes(value))
    return (type(value).__name__, value)
