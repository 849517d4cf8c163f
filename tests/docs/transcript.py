"""The examples of docs/protocol.md: what a client sends and what it is answered, through the bytes of both.

    > statement          is sent
    ? value, value       its native parameters
    < …                  its answer, one line a row
    << …                 the answer of the statement that has waited longest
    @ as worker-1        who sends from here on (x-process-id); `@ as nobody`
    @ 30 s later         the clock moves, background work is done
    # …                  a remark

Answers are written `name=value`, text in quotes; `no rows of …` and `no columns` when there are none, `error …` for an
HttpError, `waits` when the answer comes later.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cubequeue_server.router import Router
from protocol.arrow import encode_arrow
from protocol.client_codec import ErrorReply, Rows, decode_reply, encode_query
from protocol.commands import parse_statement
from protocol.decode import decode_request
from protocol.encode import encode_error, encode_result
from protocol.errors import ParserError, TokenizerError
from protocol.messages import ResponseFormat
from storage.asking import ANYBODY, Caller, Later
from storage.errors import StatementError
from storage.limits import AnswerLimits, CacheLimits, QueueLimits
from storage.memory import MemoryStore
from storage.vocabulary import Binary, Cell, ColumnType, Result
from tests.asking import Told
from tests.audit import audit
from tests.sql.running import at_once

START_MS = 1_764_000_000_000  # 2025-11-24T16:00:00Z
FIRST_ID = 1

_QUOTED_TYPES = frozenset({ColumnType.STRING, ColumnType.TIMESTAMP})
_VALUE = re.compile(r"(?P<binary>X'[0-9A-F]*')|'(?P<text>(?:[^']|'')*)'|(?P<word>[^\s,']+)")
_LATER = re.compile(r"@ (\d+) (ms|s|min|h) later")
_UNITS_MS = {"ms": 1, "s": 1_000, "min": 60_000, "h": 3_600_000}
_WORDS: dict[str, Cell] = {"NULL": None, "true": True, "false": False}


def parameters_of(text: str) -> list[Cell]:
    """The values of a `?` line."""
    return [_value(found) for found in _VALUE.finditer(text)]


def _value(found: re.Match[str]) -> Cell:
    if found["text"] is not None:
        return found["text"].replace("''", "'").encode()
    if found["binary"] is not None:
        return Binary.fromhex(found["binary"][2:-1])
    word = found["word"]
    if word in _WORDS:
        return _WORDS[word]
    return float(word) if "." in word else int(word)


@dataclass
class Exchange:
    """One request and its reply, as bytes; `reply` is None while it waits."""

    request: bytes
    reply: bytes | None
    answer: list[str]


@dataclass
class _Waiting:
    later: Told
    until_ms: int


class Conversation:
    """A server that was just started, as seen by one client after the other."""

    def __init__(self) -> None:
        self.store = MemoryStore(QueueLimits(), CacheLimits(), AnswerLimits(), FIRST_ID, lambda: 0.5, Told)
        self.routes = Router(self.store, at_once()).routes
        self.now_ms = START_MS
        self.caller = ANYBODY
        self.waiting: list[_Waiting] = []
        self.messages = 0

    # What the lines say.

    def play(self, lines: Sequence[str]) -> list[str]:
        """The same lines, with the answers that the server gives in place of those that are written."""
        played: list[str] = []
        for number, line in enumerate(lines):
            if line.startswith("<"):
                continue
            played.append(line)
            if line.startswith("@"):
                self.direct(line)
                played += self.released()
            following = lines[number + 1] if number + 1 < len(lines) else ""
            if following.startswith("?"):
                continue
            if line.startswith(">"):
                played += [*self.ask(line[2:]).answer, *self.released()]
            elif line.startswith("?"):
                played += [*self.ask(lines[number - 1][2:], parameters_of(line[2:])).answer, *self.released()]
        return played

    def direct(self, line: str) -> None:
        """Follow a line that begins with `@`."""
        later = _LATER.fullmatch(line)
        if later is not None:
            self._later(int(later[1]) * _UNITS_MS[later[2]])
            return
        assert line.startswith("@ as "), line
        name = line.removeprefix("@ as ")
        self.caller = ANYBODY if name == "nobody" else Caller(name.encode())

    def _later(self, by_ms: int) -> None:
        self.now_ms += by_ms
        for each in self.waiting:
            if each.until_ms <= self.now_ms:
                self.store.give_up(each.later, self.now_ms)
        while self.store.tick(self.now_ms, 1_000):
            pass
        audit(self.store)

    # What the server does.

    def ask(
        self,
        query: str,
        parameters: Sequence[Cell] | None = None,
        message_id: int | None = None,
        connection_id: str | None = None,
        response_format: ResponseFormat = ResponseFormat.LEGACY,
    ) -> Exchange:
        """Send a statement, through the bytes of its request and of its reply."""
        self.messages += 1
        id_ = self.messages if message_id is None else message_id
        request = encode_query(id_, query, parameters, connection_id=connection_id, response_format=response_format)
        decoded = decode_request(request)
        try:
            statement = parse_statement(decoded.query, decoded.parameters)
            outcome = self.routes[type(statement)].execute(statement, self.caller, None, self.now_ms)
        except (StatementError, ParserError, TokenizerError) as error:
            reply = encode_error(id_, error.wire_text)
            return Exchange(request, reply, ["< " + _error(reply)])
        if isinstance(outcome, Later):
            assert isinstance(outcome, Told)
            assert outcome.timeout_ms is not None
            self.waiting.append(_Waiting(outcome, self.now_ms + outcome.timeout_ms))
            return Exchange(request, None, ["< waits"])
        encode = encode_arrow if response_format is ResponseFormat.ARROW else encode_result
        return Exchange(request, encode(id_, outcome), ["< " + each for each in _answer(outcome)])

    def released(self) -> list[str]:
        """The answers of statements that waited, in the order in which they came."""
        lines = []
        for each in [each for each in self.waiting if each.later.outcomes]:
            self.waiting.remove(each)
            outcome = each.later.outcome
            assert isinstance(outcome, Result), outcome
            lines += ["<< " + line for line in _answer(outcome)]
        return lines


def _error(reply: bytes) -> str:
    decoded = decode_reply(reply)
    assert isinstance(decoded, ErrorReply)
    return f"error {decoded.text}"


def _answer(outcome: Result) -> Iterable[str]:
    """The lines of an answer, as they are after the wire."""
    decoded = decode_reply(encode_result(0, outcome))
    assert isinstance(decoded, Rows)
    if not decoded.columns:
        return ["no columns"]
    if not decoded.rows:
        return [f"no rows of {', '.join(decoded.columns)}"]
    types = outcome.columns.types
    return [
        " ".join(f"{name}={_cell(type_, cell)}" for name, type_, cell in zip(decoded.columns, types, row, strict=True))
        for row in decoded.rows
    ]


def _cell(type_: ColumnType, cell: bytes | None) -> str:
    if cell is None:
        return "NULL"
    text = cell.decode()
    return "'{}'".format(text.replace("'", "''")) if type_ in _QUOTED_TYPES else text
