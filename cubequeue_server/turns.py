"""Work that is done in steps, between other requests."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator
from typing import Final

from cubequeue_server.net.outbox import Outbox

_log = logging.getLogger(__name__)

# Of work in one turn of the loop, plus the rest of a step.
_TURN_S: Final = 0.000_5


class Turns:
    """Runs iterators, a step each `next`, one after the other. A step takes a fraction of a millisecond."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._waiting: deque[Iterator[object]] = deque()

    def add(self, steps: Iterator[object]) -> None:
        """Run these steps from the next turn of the loop on. O(1)."""
        self._waiting.append(steps)
        if len(self._waiting) == 1:
            self._outbox.call_soon(self._take_turn)

    def _take_turn(self) -> None:
        self._outbox.batch(self._run)
        if self._waiting:
            self._outbox.call_soon(self._take_turn)

    def _run(self) -> None:
        waiting = self._waiting
        end_s = time.perf_counter() + _TURN_S
        while waiting and time.perf_counter() < end_s:
            try:
                next(waiting[0])
            except StopIteration:
                waiting.popleft()
            except Exception:  # one piece of work must not hold up the others
                _log.exception("work in steps failed")
                waiting.popleft()
