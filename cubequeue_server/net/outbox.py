"""Batches writes: answers of all connections that are read in one turn of the loop are written together.

Each write may wake its reader, and a write to a reader that is awake already costs half as much: with 16 busy
connections a request takes 45 µs instead of 52. A single active connection gains nothing and loses a turn: its answers
are written at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol

_log = logging.getLogger(__name__)

# At most so many senders wait for each other: answers wait in memory, up to 256 KB each, and hide slow readers.
_TOGETHER: Final = 32
# After so many turns with a single sender, the answers of so many reads are written at once.
_ALONE_TURNS: Final = 16
_ALONE_READS: Final = 32


class Sender(Protocol):
    """A connection that has something to write."""

    def flush(self) -> None:
        """Write it."""

    def abort(self, cause: str) -> None:
        """End the connection: a write failed."""


class Outbox:
    """Collects senders until the end of a turn, of a timer or of a batch.

    A sender with something to write appends itself to `waiting`, once, and calls `flush_soon` unless `is_scheduled`.
    For the next `alone_reads` reads it writes at once. Senders read these attributes themselves: it saves a call a
    request.
    """

    __slots__ = "_alone_turns", "_loop", "alone_reads", "is_scheduled", "waiting"

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.waiting: list[Sender] = []
        self.is_scheduled = False
        self._alone_turns = 0  # in a row
        self.alone_reads = 0

    def batch(self, complete: Callable[[], object]) -> None:
        """Run a function that completes many requests, then let all senders write."""
        was_scheduled, self.is_scheduled = self.is_scheduled, True
        try:
            complete()
        finally:
            self.is_scheduled = was_scheduled
            self.flush()

    def flush(self) -> None:
        """Let all senders write now."""
        waiting = self.waiting
        if waiting:
            self.waiting = []
            for sender in waiting:
                try:
                    sender.flush()
                except Exception:  # one connection must not take the answers of others
                    _log.exception("answers could not be written")
                    sender.abort("internal")

    def on_read_end(self) -> None:
        """After a read with senders waiting: flush at the end of the turn, or now if there are many."""
        if len(self.waiting) >= _TOGETHER:
            self._alone_turns = 0
            self.flush()
        elif not self.is_scheduled:
            self.flush_soon()

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call a function in the next turn of the loop."""
        self._loop.call_soon(callback)

    def flush_soon(self) -> None:
        """Let all senders write at the end of this turn of the loop."""
        self.is_scheduled = True
        self._loop.call_soon(self._flush_scheduled)

    def _flush_scheduled(self) -> None:
        self.is_scheduled = False
        if len(self.waiting) > 1:
            self._alone_turns = 0
        elif not self.waiting:
            pass  # written before: there were many, or a batch ended
        elif self._alone_turns < _ALONE_TURNS:
            self._alone_turns += 1
        else:
            self.alone_reads = _ALONE_READS
        self.flush()
