"""Timeouts of blocked requests: a timing wheel for a hundred thousand of them (performance.md)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Final

from cubequeue_server.requests.ask import Ask

TICK_S: Final = 0.01
_TICKS_PER_S: Final = 100
# A statement may ask for 2^64 ms, and a wait outlives its client: without a bound, waits of dead clients pile up.
# Clients ask for 90 s at most, and after an hour no repeat joins a request in flight (wire.md §3).
_MAX_WAIT_MS: Final = 3_600_000
# Real clients wait for a few thousand ticks at most: empty ticks are dropped rarely.
_MAX_EMPTY_TICKS: Final = 10_000


class TimingWheel:
    """Gives each `Ask` up after its `timeout_ms`, at most one tick late, on the loop's monotonic clock.

    `add` and `cancel` are O(1) but for the first wait of a tick, which is O(log ticks). One timer of the loop serves
    all.
    """

    __slots__ = ("_by_tick", "_empty_ticks", "_give_up", "_loop", "_newest_tick", "_ticks", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, give_up: Callable[[list[Ask]], None]) -> None:
        self._loop = loop
        self._give_up = give_up
        self._by_tick: dict[int, dict[Ask, None]] = {}
        self._ticks: list[int] = []  # a heap of the keys of `_by_tick`
        self._empty_ticks = 0  # since the last drop; a tick that was emptied twice counts twice
        self._newest_tick = 0
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return sum(map(len, self._by_tick.values()))

    def add(self, ask: Ask, timeout_ms: int) -> None:
        """Give the request up after `timeout_ms`, unless it is cancelled before."""
        timeout_s = min(timeout_ms, _MAX_WAIT_MS) / 1000
        tick = int((self._loop.time() + timeout_s) * _TICKS_PER_S) + 1  # never early
        waiting = self._by_tick.get(tick)
        if waiting is None:
            waiting = self._by_tick[tick] = {}
            heappush(self._ticks, tick)
            if self._ticks[0] == tick:
                self._schedule()
        waiting[ask] = None
        if tick != self._newest_tick:
            self._newest_tick = tick
        ask.tick = self._newest_tick  # one number object for all requests of the tick

    def cancel(self, ask: Ask) -> None:
        """Forget the request, if it still waits."""
        waiting = self._by_tick.get(ask.tick)
        if waiting is None:
            return
        waiting.pop(ask, None)
        if not waiting:
            self._empty_ticks += 1
            if self._empty_ticks >= _MAX_EMPTY_TICKS:
                self._drop_empty_ticks()

    def _drop_empty_ticks(self) -> None:
        """Free ticks whose requests were all answered before."""
        self._by_tick = {tick: waiting for tick, waiting in self._by_tick.items() if waiting}
        self._ticks = sorted(self._by_tick)  # which is a heap
        self._empty_ticks = 0
        self._schedule()

    def stop(self) -> None:
        """Forget all requests."""
        self._by_tick.clear()
        self._ticks.clear()
        self._empty_ticks = 0
        self._schedule()

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._ticks[0] * TICK_S, self._run) if self._ticks else None

    def _run(self) -> None:
        now_tick = int(self._loop.time() * _TICKS_PER_S)
        due: list[Ask] = []
        while self._ticks and self._ticks[0] <= now_tick:
            due.extend(self._by_tick.pop(heappop(self._ticks)))
        self._timer = None
        self._schedule()
        if due:
            self._give_up(due)
