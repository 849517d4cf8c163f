"""Encodes answers of many rows in steps, between other requests."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final, TypeAlias

from cubequeue_server.observe.counters import Counters
from cubequeue_server.requests.ask import Ask
from protocol.arrow import arrow_steps
from protocol.encode import result_steps
from protocol.messages import ResponseFormat
from protocol.pieces import Pieces, Steps
from storage.errors import UserError
from storage.vocabulary import Result

_LEGACY: Final = int(ResponseFormat.LEGACY)
_TURN_S: Final = 0.000_5  # of encoding in one turn of the loop, plus the rest of a step
_ROWS_FREED: Final = 1_000  # in one turn
_ROW_BYTES: Final = 100  # of the answer, about, without its values, which the store holds anyway

# Gets a request and its encoded answer, or the error of the encoding.
Done: TypeAlias = Callable[[Ask, Pieces | Exception], None]


class LongAnswers:
    """Encodes answers one after the other, a step in each turn of the loop.

    The content of an answer was fixed when its statement was executed. `done` is called at the end of each encoding.
    Of one connection little is read while long answers are made for it, and of all connections up to `max_bytes` of
    them are: past that a request is refused. An answer is not made for a client that has gone.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, done: Done, counters: Counters, max_bytes: int) -> None:
        self._loop = loop
        self._done = done
        self._counters = counters
        self._max_bytes = max_bytes
        self._waiting: deque[tuple[Ask, Result]] = deque()
        self._steps: Steps | None = None  # of the first that waits
        self._is_scheduled = False

    def add(self, ask: Ask, result: Result) -> None:
        """Encode a result later, or refuse to. O(1)."""
        size_bytes = _size_bytes(result)
        if self._counters.begun_bytes and self._counters.begun_bytes + size_bytes > self._max_bytes:
            self._counters.overloaded += 1
            begun = self._counters.begun_bytes
            self._done(ask, UserError(f"long answers of {begun} bytes are being made, the limit is {self._max_bytes}"))
            return
        self._counters.begun_bytes += size_bytes
        if ask.client is not None:
            ask.client.websocket.begin_answer(size_bytes)
        self._waiting.append((ask, result))
        self._schedule()

    def _schedule(self) -> None:
        if self._waiting and not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        self._is_scheduled = False
        ends_s = time.monotonic() + _TURN_S
        while self._waiting and time.monotonic() < ends_s:
            self._step()
        self._schedule()

    def _step(self) -> None:
        ask, result = self._waiting[0]
        try:
            if not ask.is_wanted:
                raise UserError("the client has gone")
            if self._steps is None:
                self._steps = self._begin(ask, result)
            next(self._steps)
        except StopIteration as end:
            made: Pieces | Exception = end.value
        except Exception as error:  # one answer must not take others down
            made = error
        else:
            return
        self._steps = None
        self._waiting.popleft()
        size_bytes = _size_bytes(result)
        self._counters.begun_bytes -= size_bytes
        self._done(ask, made)
        if ask.client is not None:
            ask.client.websocket.end_answer(size_bytes)
        self._free(result)

    def _begin(self, ask: Ask, result: Result) -> Steps:
        steps = arrow_steps if ask.response_format != _LEGACY else result_steps
        return steps(ask.message_id, result)

    def _free(self, result: Result) -> None:
        """Free the rows of a list, which only this answer uses, in parts: one a turn."""
        rows = result.rows
        if isinstance(rows, list) and rows:
            del rows[-_ROWS_FREED:]
            self._loop.call_soon(self._free, result)


def _size_bytes(result: Result) -> int:
    return _ROW_BYTES * len(result.rows)
