"""The time of the store, as a server knows it without asking."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

# How fast two clocks may run apart: a store that seems to have fallen behind is followed no faster.
_DRIFT: Final = 1e-4


class StoreClock:
    """A lower bound of the store's time in ms, from what it told last. It never falls.

    It is close by half a round trip. When another primary takes over whose clock is behind, it goes on as before: so
    ids and times go on, too.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._offset_ms = -1e15
        self._learnt_s = monotonic()
        self._last_ms = 0

    def learn(self, store_ms: int) -> None:
        """The store said, a moment ago, that it is this late."""
        now_s = self._monotonic()
        slowest = self._offset_ms - (now_s - self._learnt_s) * 1000 * _DRIFT
        self._offset_ms = max(store_ms - now_s * 1000, slowest)
        self._learnt_s = now_s

    @property
    def now_ms(self) -> int:
        """As late as this at least; 0 while it has told nothing."""
        now_ms = max(int(self._monotonic() * 1000 + self._offset_ms), self._last_ms)
        self._last_ms = now_ms
        return now_ms
