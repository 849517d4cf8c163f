"""Encodes answers of many rows in steps, between other requests."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final, TypeAlias

from cubequeue_server.requests.ask import Ask
from protocol.arrow import arrow_steps
from protocol.encode import result_steps
from protocol.messages import ResponseFormat
from protocol.pieces import Pieces, Steps
from storage.vocabulary import Result

_LEGACY: Final = int(ResponseFormat.LEGACY)
_TURN_S: Final = 0.000_5  # of encoding in one turn of the loop, plus the rest of a step
_ROWS_FREED: Final = 1_000  # in one turn

# Gets a request and its encoded answer, or the error of the encoding.
Done: TypeAlias = Callable[[Ask, Pieces | Exception], None]


class LongAnswers:
    """Encodes answers one after the other, a step in each turn of the loop.

    The content of an answer was fixed when its statement was executed. `done` is called at the end of each encoding.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, done: Done) -> None:
        self._loop = loop
        self._done = done
        self._waiting: deque[tuple[Ask, Result]] = deque()
        self._steps: Steps | None = None  # of the first that waits
        self._is_scheduled = False

    def add(self, ask: Ask, result: Result) -> None:
        """Encode a result later. O(1)."""
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
        self._done(ask, made)
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
