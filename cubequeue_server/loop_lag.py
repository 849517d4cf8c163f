"""How late the event loop is: a timer that compares when it was due with when it ran."""

from __future__ import annotations

import asyncio
from typing import Final

from cubequeue_server.histogram import Histogram, new_histogram, observe

_INTERVAL_S: Final = 0.25


class LoopLag:
    """Counts in `lags` how late its timer was, four times a second."""

    def __init__(self) -> None:
        self.lags: Histogram = new_histogram()
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = 0.0

    def start(self) -> None:
        """Begin, on the running loop."""
        loop = asyncio.get_running_loop()
        self._due_s = loop.time() + _INTERVAL_S
        self._timer = loop.call_at(self._due_s, self._on_time)

    def stop(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _on_time(self) -> None:
        late_s = asyncio.get_running_loop().time() - self._due_s
        observe(self.lags, int(late_s * 1e9))
        self.start()
