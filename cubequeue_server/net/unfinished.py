"""Incomplete messages of all connections: their memory and their age are limited."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from cubequeue_server.observe.counters import Counters


class Holder(Protocol):
    """A connection. Both methods call `release`, at once or at the end of the connection."""

    def shrink(self) -> None:
        """Free the buffer of complete messages."""

    def give_up(self, reason: str) -> None:
        """Close the connection; `reason` is for the peer."""


class Unfinished:
    """Keeps the memory of incomplete messages below `max_bytes`, and closes connections with a late message.

    A peer may send a message slowly or stop in its middle: each connection could hold twice the largest message. Past
    the limit, idle buffers are freed first; then the connections with the oldest messages are closed, for a message of
    an honest peer is incomplete for a moment only. Messages that fit into the first small buffer never come here.
    """

    def __init__(self, max_bytes: int, timeout_s: float, counters: Counters, clock_s: Callable[[], float]) -> None:
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._counters = counters
        self._clock_s = clock_s
        self._held: dict[Holder, int] = {}
        self._began_s: dict[Holder, float] = {}  # the oldest first

    def hold(self, holder: Holder, held_bytes: int, *, is_unfinished: bool) -> None:
        """Note that `holder` has `held_bytes`, of an incomplete message if `is_unfinished`. O(1) below the limit."""
        self._counters.unfinished_bytes += held_bytes - self._held.get(holder, 0)
        self._held[holder] = held_bytes
        if is_unfinished:
            self._began_s.setdefault(holder, self._clock_s())
        if self._counters.unfinished_bytes > self._max_bytes:
            self._make_room()

    def finish(self, holder: Holder) -> None:
        """Note that the message is complete."""
        self._began_s.pop(holder, None)

    def release(self, holder: Holder) -> None:
        """Note that `holder` holds nothing any more."""
        self._counters.unfinished_bytes -= self._held.pop(holder, 0)
        self._began_s.pop(holder, None)

    def end_late(self) -> None:
        """Close connections with a late message. O(closed connections); call it every second or so."""
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
