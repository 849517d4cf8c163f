"""Answers that peers do not read, of all connections: their memory is limited."""

from __future__ import annotations

from typing import Protocol

from cubequeue_server.observe.counters import Counters


class Unreading(Protocol):
    """A connection whose peer is slow."""

    @property
    def unread_bytes(self) -> int:
        """What waits to be written now."""

    def end_unread(self, reason: str) -> None:
        """Close the connection at once; it then calls `UnreadAnswers.forget`."""


class UnreadAnswers:
    """Keeps the answers that wait for slow peers below `max_bytes`: past it, the connection with most of them ends.

    Connections whose peers read as fast as they ask never come here.
    """

    def __init__(self, max_bytes: int, counters: Counters) -> None:
        self._max_bytes = max_bytes
        self._counters = counters
        self._waiting: dict[Unreading, int] = {}

    def note(self, connection: Unreading, waiting_bytes: int) -> None:
        """Note what waits for the peer of a connection. O(1) below the limit, else O(slow connections)."""
        self._counters.unread_bytes += waiting_bytes - self._waiting.get(connection, 0)
        self._waiting[connection] = waiting_bytes
        if self._counters.unread_bytes > self._max_bytes:
            self._make_room()

    def forget(self, connection: Unreading) -> None:
        """Its peer has caught up, or is gone."""
        self._counters.unread_bytes -= self._waiting.pop(connection, 0)

    def _make_room(self) -> None:
        self._waiting = {connection: connection.unread_bytes for connection in self._waiting}
        self._counters.unread_bytes = sum(self._waiting.values())
        while self._counters.unread_bytes > self._max_bytes:
            most = max(self._waiting, key=self._waiting.__getitem__)
            self._counters.readers_slow += 1
            most.end_unread(f"answers that no client reads exceed {self._max_bytes} bytes")
            self.forget(most)
