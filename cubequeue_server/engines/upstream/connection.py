"""One open WebSocket to the CubeStore: sends statements, tells of answers, and notices when nobody is there."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, Protocol

from cubequeue_server.engines.upstream.counters import UpstreamCounters
from cubequeue_server.engines.upstream.statement import Passing, Waiting
from cubequeue_server.engines.upstream.target import ARROW_SINCE, Target, version_of
from cubequeue_server.net.frame_reader import SCRATCH_BYTES, FrameReader, Room
from cubequeue_server.net.framing import BINARY, CLOSE, CONTINUATION, PING, PONG, client_sender
from cubequeue_server.net.http_client import Opened
from protocol.pieces import Message

# A larger message goes in fragments: masking copies it, and what the socket does not take is copied again.
FRAGMENT_BYTES: Final = 64 * 1024
_HIGH_WATER_BYTES: Final = 256 * 1024

_NORMAL_CLOSURE: Final = (1000).to_bytes(2)
NO_CLOSE_CODE: Final = 1005
MESSAGE_TOO_BIG: Final = 1009


class Owner(Protocol):
    """The link that a connection belongs to."""

    def on_message(self, message: Message) -> None:
        """An answer came."""

    def on_oversized(self, head: bytes, size_bytes: int) -> None:
        """An answer above the limit came: its first bytes, and its size."""

    def on_lost(self, code: int, reason: str) -> None:
        """The connection is gone; the code is that of the close frame, 0 without one."""


class Shared:
    """What all connections of one loop have in common."""

    def __init__(self, target: Target, counters: UpstreamCounters, waiting: Waiting) -> None:
        self.target = target
        self.counters = counters
        self.waiting = waiting
        self.scratch = memoryview(bytearray(SCRATCH_BYTES))
        self.room = Room(2 * target.reply_max_bytes)
        self.loop = asyncio.get_running_loop()


class Connection:
    """A sink of a `FrameReader`. `version` is what the CubeStore announces."""

    def __init__(self, opened: Opened, owner: Owner, shared: Shared) -> None:
        self._transport = opened.transport
        self._owner: Owner | None = owner
        self.on_message = owner.on_message
        self.is_open = True  # statements can be sent
        self._counters = shared.counters
        self._waiting = shared.waiting
        self._target = shared.target
        self._loop = shared.loop
        self.version = version_of(opened.head.header(b"x-cubestore-version"))
        self._legacy = self.version < ARROW_SINCE
        self._send = client_sender(self._transport)
        self._transport.set_write_buffer_limits(_HIGH_WATER_BYTES)
        self._reader = FrameReader(self._transport, self, self._target.reply_max_bytes, shared.scratch, shared.room)
        self._queue: deque[Passing] = deque()  # what the socket has not taken yet
        self._position = 0  # within the first of them
        self._is_stalled = False
        self._close_code, self._close_reason = 0, ""
        self._heard_bytes = -1  # as of the last beat
        self._silent_s = 0.0
        self._counters.connections += 1
        self._transport.set_protocol(self._reader)
        self._timer = self._loop.call_later(self._target.ping_interval_s, self._beat)
        self._reader.feed(opened.already_read)
        self._transport.resume_reading()

    # Sending

    def send(self, statement: Passing) -> None:
        """Send a statement, behind those that the socket has not taken yet."""
        if not self._queue and not self._is_stalled and statement.size_bytes <= FRAGMENT_BYTES:
            is_patched = self._legacy and statement.response_format
            self._send(BINARY, statement.part(0, FRAGMENT_BYTES, legacy=True) if is_patched else statement.payload)
            self._counters.bytes_sent += statement.size_bytes
            self._waiting.sent(statement)
        else:
            self._queue.append(statement)
            self._pump()

    def _pump(self) -> None:
        while self._queue and not self._is_stalled and self.is_open:
            statement, start = self._queue[0], self._position
            end = start + FRAGMENT_BYTES
            is_last = end >= statement.size_bytes
            statement.is_sent = True
            part = statement.part(start, end, legacy=self._legacy)
            self._send(CONTINUATION if start else BINARY, part, is_last)
            self._counters.bytes_sent += len(part)
            self._position = 0 if is_last else end
            if is_last:
                self._queue.popleft()
                self._waiting.sent(statement)

    def on_ping(self, payload: bytes) -> None:
        if self.is_open:
            self._send(PONG, payload)

    def pause_writing(self) -> None:
        self._is_stalled = True

    def resume_writing(self) -> None:
        self._is_stalled = False
        self._pump()

    # Receiving

    def pause(self) -> None:
        """Read no answers: their client does not keep up."""
        self._reader.pause()

    def resume(self) -> None:
        """Read on."""
        self._reader.resume()

    def on_oversized(self, head: bytes, size_bytes: int) -> None:
        if self._owner is not None:
            self._owner.on_oversized(head, size_bytes)

    def on_close(self, code: int, reason: str) -> None:
        self._send(CLOSE, b"" if code == NO_CLOSE_CODE else code.to_bytes(2))
        self.is_open = False
        self._close_code, self._close_reason = code, reason
        self._close_transport()

    def on_lost(self, error: Exception | None) -> None:
        if self._owner is None:
            return
        reason = getattr(error, "strerror", None) or str(error or "") or "the connection ended"
        if self._close_code:
            reason = " ".join(filter(None, (f"closed with {self._close_code}", self._close_reason)))
        self._lose(reason)

    def _beat(self) -> None:
        """Ping, unless nothing was heard for too long. Whoever reads nothing hears nothing."""
        heard_bytes = self._reader.read_bytes
        is_alive = heard_bytes != self._heard_bytes or self._reader.is_paused
        self._heard_bytes = heard_bytes
        self._silent_s = 0.0 if is_alive else self._silent_s + self._target.ping_interval_s
        if self._silent_s >= self._target.silence_timeout_s:
            self._transport.abort()
            self._lose(f"nothing was heard for {self._target.silence_timeout_s:g} s")
            return
        if self.is_open:
            self._send(PING, b"cubequeue")
        self._timer = self._loop.call_later(self._target.ping_interval_s, self._beat)

    def _lose(self, reason: str) -> None:
        owner = self._owner
        self._end()
        if owner is not None:
            owner.on_lost(self._close_code, reason)

    # Ending

    def close(self) -> None:
        """End it; the owner hears nothing more."""
        if self._owner is None:
            return
        if self.is_open:
            self._send(CLOSE, _NORMAL_CLOSURE)
        self._end()
        self._close_transport()

    def _close_transport(self) -> None:
        """At once where the peer does not take what is left: nobody would be there to end it later."""
        if self._transport.get_write_buffer_size():
            self._transport.abort()
        else:
            self._transport.close()

    def _end(self) -> None:
        self._owner, self.is_open = None, False
        self._timer.cancel()
        self._counters.connections -= 1
        self._queue.clear()
        self._reader.close()
