"""Asks an engine, and reads what it says as a script does: settled, decoded, and with the ids of the script."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec
import pytest

from protocol.client_codec import ErrorReply, Rows, decode_reply
from storage import vocabulary
from storage.asking import Caller, Outcome
from storage.errors import InternalError, StatementError, UserError
from storage.vocabulary import Cell, Columns, ColumnType, QueueResultBlocking, RequestKey, Result, Row, Statement
from tests.asking import Told
from tests.conformance.engines import FIRST_ID, Candidate, Limits

_COLUMNS: Final = {columns.names: columns for columns in vars(vocabulary).values() if isinstance(columns, Columns)}
_ID_IN_ERROR: Final = re.compile(r"(?<=\(id = )\d+(?=\))")


class Ids:
    """The ids that an engine gave. In a script the n-th of them is FIRST_ID + n - 1."""

    def __init__(self, *, go_by_one: bool) -> None:
        self._go_by_one = go_by_one
        self._in_engine: dict[int, int] = {}
        self._in_script: dict[int, int] = {}
        self._waited_for: set[int] = set()  # before they were given
        self._last = 0

    def is_known(self, statement: Statement) -> bool:
        """Whether the item that it names by id, if it does, has been added."""
        key = getattr(statement, "key", None)
        return not isinstance(key, int) or key in self._in_engine

    def to_engine(self, statement: Statement) -> Statement:
        """The statement with the engine's id. An id that was not given yet is the same on both sides."""
        key = getattr(statement, "key", None)
        if not isinstance(key, int):
            return statement
        if key not in self._in_engine:
            if isinstance(statement, QueueResultBlocking):
                self._waited_for.add(key)
            return statement
        return msgspec.structs.replace(statement, key=self._in_engine[key])

    def learn(self, id_: int) -> None:
        """Take note of the id of an item that was added."""
        if id_ in self._in_script:
            return  # it is an answer that was kept
        assert id_ > self._last, f"id {id_} is not above {self._last}"
        in_script = FIRST_ID + len(self._in_script)
        if self._go_by_one:
            assert id_ == in_script
        elif in_script in self._waited_for:
            pytest.skip("nobody can know the ids of this engine ahead")
        self._last = id_
        self._in_engine[in_script], self._in_script[id_] = id_, in_script

    def to_script(self, id_: int) -> int:
        """The id in the script of one that was given."""
        assert id_ in self._in_script, f"id {id_} was never given"
        return self._in_script[id_]

    def from_engine(self, outcome: Result | StatementError) -> Result | StatementError:
        """The same with the ids of the script."""
        if self._go_by_one:
            return outcome
        if isinstance(outcome, StatementError):
            text = _ID_IN_ERROR.sub(lambda found: str(self.to_script(int(found[0]))), outcome.text)
            return outcome if text == outcome.text else type(outcome)(text)
        names = outcome.columns.names
        column = "queue_id" if "queue_id" in names else "id"
        if column not in names:
            return outcome
        at = names.index(column)
        return Result(outcome.columns, [(*row[:at], self._cell(row[at]), *row[at + 1 :]) for row in outcome.rows])

    def _cell(self, cell: Cell) -> Cell:
        return b"%d" % self.to_script(int(cell)) if isinstance(cell, bytes) else cell


@dataclass(eq=False)
class Asked:
    """A statement, and what the engine gave at once: a `Told` when it answers later."""

    statement: Statement
    key: RequestKey | None
    outcome: Result | StatementError | Told


class Client:
    """One engine, with all that makes it like any other."""

    def __init__(self, engine: Candidate, limits: Limits) -> None:
        self._opened = engine.open(limits)
        self.ids = Ids(go_by_one=engine.ids_go_by_one)
        self.store = self._opened.store
        self.settle: Callable[[], None] = self._opened.settle
        self.close: Callable[[], object] = self._opened.close

    def send(self, statement: Statement, caller: Caller, key: RequestKey | None, now_ms: int) -> Asked:
        """Execute a statement; its answer may be on its way."""
        outcome: Result | StatementError | Told
        try:
            given = self.store.execute(self.ids.to_engine(statement), caller, key, now_ms)
        except StatementError as error:
            outcome = error
        else:
            assert isinstance(given, Result | Told)
            outcome = given
        return Asked(statement, key, outcome)

    def answer(self, asked: Asked) -> Result | StatementError | None:
        """The answer; None while it waits for another statement, or for its time."""
        answers = self.answers(asked)
        if not answers:
            assert isinstance(asked.outcome, Told)
            assert asked.outcome.timeout_ms is not None, "it was on its way, and never came"
            return None
        [answer] = answers
        return answer

    def answers(self, asked: Asked) -> list[Result | StatementError]:
        """All answers, of which more than one is a mistake."""
        if not isinstance(asked.outcome, Told):
            return [self._read(asked, asked.outcome)]
        self.settle()
        return [self._read(asked, outcome) for outcome in asked.outcome.outcomes]

    def gauges(self) -> dict[str, int]:
        """What the engine holds now."""
        self._opened.look()
        self.settle()
        return self.store.gauges()

    def has_more_after_tick(self, now_ms: int, max_rows: int) -> bool:
        """Do background work; True when more is due. What is remote learns that from the answer, for the next tick."""
        for _ in range(2):
            has_more = self.store.tick(now_ms, max_rows)
            self.settle()
            if has_more:
                return True
        return False

    def _read(self, asked: Asked, outcome: Outcome) -> Result | StatementError:
        if isinstance(outcome, bytes):
            outcome = _decoded(outcome, asked.key)
        if isinstance(outcome, Result) and "added" in outcome.columns.names:
            for id_, added, *_ in outcome.rows:
                if added:
                    self.ids.learn(int(id_ or 0))
        return self.ids.from_engine(outcome)


def _decoded(message: bytes, key: RequestKey | None) -> Result | StatementError:
    """The outcome that a ready message carries, which must be for the client's message."""
    reply = decode_reply(message)
    assert key is not None
    assert reply.message_id == key[2]
    if isinstance(reply, ErrorReply):
        text = reply.text.removeprefix(InternalError.prefix)
        return UserError(text) if text == reply.text else InternalError(text)
    assert isinstance(reply, Rows)
    columns = _COLUMNS[reply.columns]
    rows: list[Row] = [tuple(map(_typed, columns.types, row)) for row in reply.rows]
    return Result(columns, rows)


def _typed(type_: ColumnType, text: bytes | None) -> Cell:
    if text is None or type_ is ColumnType.STRING:
        return text
    return text == b"true" if type_ is ColumnType.BOOLEAN else int(text)
