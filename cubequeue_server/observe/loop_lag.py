"""How late the event loop is: a timer that compares when it was due with when it ran."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from cubequeue_server.observe.histogram import Histogram, new_histogram, observe

_INTERVAL_S: Final = 0.25


class LoopLag:
    """Counts in `lags` how late its timer was, four times a second."""

    def __init__(self) -> None:
        self.lags: Histogram = new_histogram()
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = 0.0

    def start(self) -> None:
        """Begin, on the running loop."""
        self._due_s = time.monotonic() + _INTERVAL_S  # the loop's own clock has whole milliseconds only
        self._timer = asyncio.get_running_loop().call_later(_INTERVAL_S, self._on_time)

    def stop(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _on_time(self) -> None:
        observe(self.lags, int((time.monotonic() - self._due_s) * 1e9))
        self.start()
