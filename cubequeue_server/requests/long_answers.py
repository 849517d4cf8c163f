"""Encodes answers of many rows in steps, between other requests."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Final, TypeAlias

from cubequeue_server.observe.counters import Counters
from cubequeue_server.requests.ask import Ask
from cubequeue_server.turns import Turns
from protocol.arrow import arrow_steps
from protocol.encode import result_steps
from protocol.messages import ResponseFormat
from protocol.pieces import Pieces
from storage.errors import UserError
from storage.vocabulary import Result

_LEGACY: Final = int(ResponseFormat.LEGACY)
_ROWS_FREED: Final = 1_000  # in one step
_ROW_BYTES: Final = 100  # of the answer, about, without its values, which the store holds anyway

# Gets a request and its encoded answer, or the error of the encoding.
Done: TypeAlias = Callable[[Ask, Pieces | Exception], None]


class LongAnswers:
    """Encodes answers one after the other, in `turns`.

    The content of an answer was fixed when its statement was executed. `done` is called at the end of each encoding.
    Of one connection little is read while long answers are made for it, and of all connections up to `max_bytes` of
    them are: past that a request is refused. An answer is not made for a client that has gone.
    """

    def __init__(self, turns: Turns, done: Done, counters: Counters, max_bytes: int) -> None:
        self._turns = turns
        self._done = done
        self._counters = counters
        self._max_bytes = max_bytes

    def add(self, ask: Ask, result: Result) -> None:
        """Encode a result later, or refuse to. O(1)."""
        begun, size_bytes = self._counters.begun_bytes, _ROW_BYTES * len(result.rows)
        if begun and begun + size_bytes > self._max_bytes:
            self._counters.overloaded += 1
            self._done(ask, UserError(f"long answers of {begun} bytes are being made, the limit is {self._max_bytes}"))
            return
        self._counters.begun_bytes += size_bytes
        if ask.client is not None:
            ask.client.websocket.begin_answer(size_bytes)
        self._turns.add(self._steps(ask, result, size_bytes))

    def _steps(self, ask: Ask, result: Result, size_bytes: int) -> Iterator[None]:
        try:
            made: Pieces | Exception = yield from _encoded(ask, result)
        except Exception as error:  # one answer must not take others down
            made = error
        self._counters.begun_bytes -= size_bytes
        self._done(ask, made)
        if ask.client is not None:
            ask.client.websocket.end_answer(size_bytes)
        del made  # a result in pieces is the connection's now
        rows = result.rows
        while isinstance(rows, list) and rows:  # of a list, which only this answer uses
            yield
            del rows[-_ROWS_FREED:]


def _encoded(ask: Ask, result: Result) -> Generator[None, None, Pieces]:
    """The answer, if it is wanted to the end."""
    steps = (arrow_steps if ask.response_format != _LEGACY else result_steps)(ask.message_id, result)
    while ask.is_wanted:
        try:
            next(steps)
        except StopIteration as end:
            made: Pieces = end.value
            return made
        yield
    raise UserError("the client has gone")
