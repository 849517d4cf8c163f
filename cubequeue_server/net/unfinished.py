"""Messages that have begun and not ended: what all connections hold of them, and for how long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from cubequeue_server.observe.counters import Counters


class Holder(Protocol):
    """A connection. Each of these calls `release`, now or when it ends."""

    def shrink(self) -> None:
        """No message is unfinished: give back what the last ones took."""

    def give_up(self, reason: str) -> None:
        """Close for the sake of others; `reason` is for the peer."""


class Unfinished:
    """Keeps the memory of unfinished messages below `max_bytes`, whoever sends them, and ends those that take too long.

    A peer may send a message slowly or stop in its middle. What it has sent by then is held, and would be held of each
    connection up to twice the largest message. Past the bound, buffers that wait for nothing are given back first;
    then those who began first are closed: a message of an honest peer is unfinished for a moment only.
    Connections whose messages fit into their first small buffer never come here.
    """

    def __init__(self, max_bytes: int, timeout_s: float, counters: Counters, clock_s: Callable[[], float]) -> None:
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._counters = counters
        self._clock_s = clock_s
        self._held: dict[Holder, int] = {}
        self._began_s: dict[Holder, float] = {}  # the first first

    def hold(self, holder: Holder, held_bytes: int, *, is_unfinished: bool) -> None:
        """`holder` has so many bytes now; with `is_unfinished` its message has begun, now or before.

        O(1) below the bound.
        """
        self._counters.unfinished_bytes += held_bytes - self._held.get(holder, 0)
        self._held[holder] = held_bytes
        if is_unfinished:
            self._began_s.setdefault(holder, self._clock_s())
        if self._counters.unfinished_bytes > self._max_bytes:
            self._make_room()

    def finish(self, holder: Holder) -> None:
        """Its message is complete."""
        self._began_s.pop(holder, None)

    def release(self, holder: Holder) -> None:
        """It holds nothing any more."""
        self._counters.unfinished_bytes -= self._held.pop(holder, 0)
        self._began_s.pop(holder, None)

    def end_late(self) -> None:
        """Close those whose message has taken too long. To be called now and then; costs what it closes."""
        reason = f"a message was not complete after {self._timeout_s:g} s"
        while self._began_s:
            holder, began_s = next(iter(self._began_s.items()))
            if self._clock_s() - began_s < self._timeout_s:
                return
            self._give_up(holder, reason)

    def _make_room(self) -> None:
        for holder in [each for each in self._held if each not in self._began_s]:
            holder.shrink()
        reason = f"unfinished messages of all connections exceed {self._max_bytes} bytes"
        for holder in list(self._began_s):
            if self._counters.unfinished_bytes <= self._max_bytes:
                return
            if self._held.get(holder):
                self._give_up(holder, reason)

    def _give_up(self, holder: Holder, reason: str) -> None:
        self._counters.messages_unfinished += 1
        holder.give_up(reason)
        self.release(holder)
