"""Turns of the event loop: all clients of the MySQL port together get a millisecond of each.

A client may send any number of commands ahead, and its connection would read and answer them without a pause; 128
connections with a millisecond each would still hold up everybody else for 128 ms.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Final

SLICE_S: Final = 0.001


class Turns:
    """Shares the loop between the clients of one port. Made in a running loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._ends_s: float | None = None  # of the slice in this turn of the loop; None before its first use
        self._is_scheduled = False

    async def take(self) -> None:
        """Return while the slice of this turn lasts, else in a later turn: first come, first served."""
        if self._waiting or (self._ends_s is not None and time.monotonic() >= self._ends_s):
            told: asyncio.Future[None] = self._loop.create_future()
            self._waiting.append(told)
            self._schedule()
            await told
        if self._ends_s is None:
            self._ends_s = time.monotonic() + SLICE_S
            self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        """A new turn of the loop: the first that waits goes on."""
        self._is_scheduled = False
        self._ends_s = None
        while self._waiting:
            told = self._waiting.popleft()
            if not told.done():  # cancelled, with its connection
                told.set_result(None)
                break
        if self._waiting:
            self._schedule()
