"""Whose answers wait to be written: those of one read, of whatever connections, leave in one go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol


class Sender(Protocol):
    """What has something to write."""

    def flush(self) -> None:
        """Write it."""


class Outbox:
    """Collects senders until the end of a read, of a timer or of a callback of the store: those in `waiting`."""

    __slots__ = ("_is_scheduled", "_loop", "waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.waiting: list[Sender] = []
        self._is_scheduled = False

    def add(self, sender: Sender) -> None:
        """Have `sender` flushed. It takes care to be here only once."""
        self.waiting.append(sender)

    def flush(self) -> None:
        """Let all write now."""
        waiting = self.waiting
        if waiting:
            self.waiting = []
            for sender in waiting:
                sender.flush()

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Have something done in the next turn of the loop."""
        self._loop.call_soon(callback)

    def flush_soon(self) -> None:
        """Let all write in this turn of the loop, once it has run everything that is due."""
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._flush_scheduled)

    def _flush_scheduled(self) -> None:
        self._is_scheduled = False
        self.flush()
