"""Replies of many rows, encoded between other requests: nobody waits for more than a step of one."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from cubequeue_server.requests.in_flight import InFlight
from protocol.arrow import arrow_steps
from protocol.encode import result_steps
from protocol.messages import ResponseFormat
from protocol.pieces import Pieces, Steps
from storage.engine import Reply

_LEGACY: Final = int(ResponseFormat.LEGACY)
_TURN_S: Final = 0.000_5  # of encoding in one turn of the loop, and the rest of a step
_ROWS_FREED: Final = 1_000  # at a time: to free a hundred thousand at once takes its time, too

# Gets a request, its reply, and the message, or the error that it could not be made for.
Done = Callable[[InFlight, Reply, Pieces | Exception], None]


class LongReplies:
    """Encodes replies one after the other, a step in each turn of the loop.

    What a reply tells was fixed when its statement was executed. When it has been encoded, `done` is called.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, done: Done) -> None:
        self._loop = loop
        self._done = done
        self._waiting: deque[tuple[InFlight, Reply]] = deque()
        self._steps: Steps | None = None  # of the first that waits
        self._is_scheduled = False

    def add(self, request: InFlight, reply: Reply) -> None:
        """Encode a reply for those who wait for it. O(1)."""
        self._waiting.append((request, reply))
        self._schedule()

    def _schedule(self) -> None:
        if self._waiting and not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._run)

    def fail(self, kept_seq: int, error: Exception) -> None:
        """Effects above this commit sequence number were lost: who has seen them gets the error. O(replies)."""
        waiting, self._waiting = self._waiting, deque()
        for at, (request, reply) in enumerate(waiting):
            if reply.commit_seq <= kept_seq:
                self._waiting.append((request, reply))
                continue
            if at == 0:
                self._steps = None
            self._done(request, reply, error)

    def _run(self) -> None:
        self._is_scheduled = False
        ends_s = time.monotonic() + _TURN_S
        while self._waiting and time.monotonic() < ends_s:
            self._step()
        self._schedule()

    def _step(self) -> None:
        request, reply = self._waiting[0]
        try:
            if self._steps is None:
                self._steps = self._begin(request, reply)
            next(self._steps)
        except StopIteration as end:
            made: Pieces | Exception = end.value
        except Exception as error:  # one reply must not take others down
            made = error
        else:
            return
        self._steps = None
        self._waiting.popleft()
        self._done(request, reply, made)
        self._free(reply)

    def _begin(self, request: InFlight, reply: Reply) -> Steps:
        steps = arrow_steps if request.response_format != _LEGACY else result_steps
        return steps(request.message_id, reply.result)

    def _free(self, reply: Reply) -> None:
        """Rows that were made for this reply alone, a part in each turn."""
        rows = reply.result.rows
        if isinstance(rows, list) and rows:
            del rows[-_ROWS_FREED:]
            self._loop.call_soon(self._free, reply)
