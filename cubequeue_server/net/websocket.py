"""One WebSocket after its handshake: messages in, messages out (RFC 6455, wire.md §2)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from cubequeue_server.net import framing
from cubequeue_server.net.framing import BINARY, Frame, FrameListener, Framing, WSMsgType, WSTransport, header
from cubequeue_server.net.lingering import Lingering
from cubequeue_server.net.outbox import Outbox
from cubequeue_server.net.unfinished import Unfinished
from cubequeue_server.net.unread import UnreadAnswers
from cubequeue_server.observe.counters import Counters
from cubequeue_server.options import ServerOptions
from protocol.large import LARGE_BYTES
from protocol.pieces import Pieces

NORMAL_CLOSURE: Final = 1000
PROTOCOL_ERROR: Final = 1002
UNSUPPORTED_DATA: Final = 1003
POLICY_VIOLATION: Final = 1008
MESSAGE_TOO_BIG: Final = 1009
SERVICE_RESTART: Final = 1012
TRY_AGAIN_LATER: Final = 1013

# Why a connection ended, by the code that it was closed with.
_CAUSES: Final[Mapping[int, str]] = {
    PROTOCOL_ERROR: "violation",
    UNSUPPORTED_DATA: "violation",
    POLICY_VIOLATION: "slow",
    MESSAGE_TOO_BIG: "oversized",
    SERVICE_RESTART: "stopping",
    TRY_AGAIN_LATER: "evicted",
}

_MAX_REASON_BYTES: Final = 123

_FLUSH_BYTES: Final = 256 * 1024  # of answers that wait for the end of a read
_JOIN_BYTES: Final = 64 * 1024  # that are copied into one write
_SINGLE_BYTES: Final = 8 * 1024  # that picows copies behind its header
_COPY_BYTES: Final = 64 * 1024  # that are copied out of the read buffer before they are decoded

Message = bytes | memoryview


class LargeMessage(NamedTuple):
    """A large message; `view` is valid as long as `owner` lives. Until `done` is called nothing more is read."""

    view: memoryview
    owner: object
    done: Callable[[], None]


class Receiver(NamedTuple):
    """The functions that a WebSocket calls. None of these may raise.

    `on_message` gets a message within the size limit, `on_large` one of more than `large_bytes`, `on_oversized` one
    above the limit and up to twice the limit; a memoryview is only valid during the call. `on_pong` gets the payload of
    a ping: the peer has received everything before that ping. `on_lost` is called once, when the connection is gone.
    """

    on_message: Callable[[Message], object]
    on_large: Callable[[LargeMessage], None]
    on_oversized: Callable[[Message], None]
    on_pong: Callable[[bytes], None]
    on_lost: Callable[[], None]
    large_bytes: int = LARGE_BYTES


def _ignore(*_: object) -> None:
    """The receiver is gone."""


_NOBODY: Final = Receiver(_ignore, _ignore, _ignore, _ignore, _ignore)


def oversize_reason(size_bytes: int, kind: str, limit_bytes: int) -> str:
    """The reason of a close with 1009 (wire.md §2)."""
    return f"Message of {size_bytes} bytes exceeds the maximum {kind} size of {limit_bytes} bytes"


class WebSocket(FrameListener):
    """Reassembles messages, applies the size rules, answers pings, and joins answers into few writes.

    Back-pressure: while the peer does not read its answers, while too many long ones are made for it, or while a large
    message of it is read in steps, nothing more is read from it, and messages that were read before wait in `_backlog`.
    Control frames are answered all the same. `on_flow` is told when the peer stops reading its answers, and when it
    reads them again. `end_cause` is a word, empty until the end.
    """

    __slots__ = (
        "_backlog", "_begun_bytes", "_counters", "_fragments", "_framing", "_is_full", "_is_listed", "_is_reading",
        "_large_bytes", "_max_message_bytes", "_on_message", "_options", "_out", "_out_bytes", "_outbox", "_receiver",
        "_stalled", "_transport", "_unfinished", "_unread", "bytes_in", "bytes_out", "end_cause", "is_open", "on_flow"
    )  # fmt: skip

    def __init__(  # noqa: PLR0917  # each is of its own type
        self,
        transport: asyncio.Transport,
        receiver: Receiver,
        options: ServerOptions,
        counters: Counters,
        outbox: Outbox,
        unfinished: Unfinished,
        unread: UnreadAnswers,
    ) -> None:
        self._transport = transport
        self._receiver = receiver
        self._on_message = receiver.on_message
        self._options = options
        self._max_message_bytes = options.max_message_bytes
        self._counters = counters
        self._outbox = outbox
        self._unfinished = unfinished
        self._unread = unread
        self.unparsed_bytes = 0
        self.is_holding = False
        self._framing: Framing | None = None
        self._fragments: bytearray | None = None
        self._backlog: deque[bytes] = deque()
        self._out: list[bytes | Pieces] = []
        self._out_bytes = 0
        self._is_reading = False
        self._is_listed = False
        self._is_full = False  # the peer does not take its answers
        self._large_bytes = 0  # of the message that is read in steps
        self._begun_bytes = 0  # of long answers that are being made
        self._stalled = False  # one of these three is the case
        self.on_flow: Callable[[bool], None] | None = None
        self.bytes_in = self.bytes_out = 0  # of messages
        self.end_cause = ""
        self.is_open = True

    def start(self, already_read: bytes) -> None:
        """Begin to read; `already_read` followed the handshake in the same read."""
        high = self._options.outbound_high_water_bytes
        self._transport.set_write_buffer_limits(high=high, low=high // 4)
        limits = self._options
        max_frame_bytes = 2 * min(limits.max_frame_bytes, limits.max_message_bytes)
        self._framing = Framing(self._transport, self, max_frame_bytes)
        self._framing.feed(already_read)

    # Reading

    def on_ws_frame(self, _transport: WSTransport, frame: Frame) -> None:
        self._is_reading = True
        size = frame.payload_size
        if not self.is_open:
            pass  # closed by a frame before it, in the same read
        elif (
            frame.msg_type is not BINARY
            or not frame.fin
            or self._fragments is not None
            or frame.rsv1
            or frame.rsv2
            or frame.rsv3
        ):
            self._on_other_frame(frame)
        elif size > _COPY_BYTES or self._stalled:
            self._receive(frame.get_payload_as_memoryview(), frame)
        else:
            counters = self._counters
            counters.messages_in += 1
            counters.bytes_in += size
            self.bytes_in += size
            if size > counters.largest_message_bytes:  # noqa: PLR1730  # a call of max() would cost more
                counters.largest_message_bytes = size
            if size <= self._max_message_bytes:
                self._on_message(frame.get_payload_as_bytes())
            else:
                self._receive_oversized(frame.get_payload_as_bytes())
        if frame.last_in_buffer:
            self._is_reading = False
            self.unparsed_bytes = frame.tail_size
            outbox = self._outbox
            if self._out and not self._is_listed:
                if outbox.alone_reads and not outbox.waiting:
                    outbox.alone_reads -= 1
                    self.flush()
                    return
                self._is_listed = True
                outbox.waiting.append(self)
            if outbox.waiting:
                outbox.on_read_end()

    def _on_other_frame(self, frame: Frame) -> None:
        kind = frame.msg_type
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            self._refuse("a reserved bit is set")
        elif kind is framing.PING:
            self._send_control(framing.PONG, frame.get_payload_as_bytes())
        elif kind is framing.PONG:
            self._receiver.on_pong(frame.get_payload_as_bytes())
            if frame.last_in_buffer and not frame.tail_size and self._framing is not None:
                self._framing.narrow()
        elif kind is framing.TEXT:
            self._counters.violations += 1
            self.close(UNSUPPORTED_DATA, "text frames are not part of this protocol")
        elif kind is BINARY or kind is framing.CONTINUATION:
            self._on_fragment(frame, is_first=kind is BINARY)
        else:
            self._on_close_frame(frame)

    def _on_fragment(self, frame: Frame, *, is_first: bool) -> None:
        if is_first == (self._fragments is not None):
            self._refuse("a message within a message" if is_first else "a continuation of nothing")
            return
        fragments = self._fragments = bytearray() if self._fragments is None else self._fragments
        self.is_holding = True
        size = len(fragments) + frame.payload_size
        if size > 2 * self._options.max_message_bytes:
            self._close_oversized(size, "message", self._options.max_message_bytes)
            return
        fragments += frame.get_payload_as_memoryview()
        if frame.fin:
            self._fragments = None
            self._unfinished.finish(self)
            self._receive(memoryview(fragments))

    def on_full_read(self) -> None:
        """Read on in the next turn of the loop: libuv would read 32 times before others get a turn."""
        if self.is_open and not self._stalled:
            self._transport.pause_reading()
            self._outbox.call_soon(self._take_turn)

    def on_end(self) -> None:
        self.flush()

    def _take_turn(self) -> None:
        if self.is_open and not self._stalled:
            self._transport.resume_reading()

    # Incomplete messages

    def on_read(self, pending_bytes: int) -> None:
        if not self.is_open or self._framing is None:
            return
        fragments = self._fragments
        if fragments is None and self.unparsed_bytes != pending_bytes:  # a frame was complete, and its message
            self._unfinished.finish(self)
        elif fragments is not None and not self.unparsed_bytes:  # all was copied
            self._framing.narrow()
        held_bytes = self._framing.buffer_bytes + (0 if fragments is None else len(fragments)) + self._large_bytes
        is_unfinished = self.unparsed_bytes > 0 or fragments is not None
        self.is_holding = held_bytes > 0 or fragments is not None
        if self.is_holding:
            self._unfinished.hold(self, held_bytes, is_unfinished=is_unfinished)
        else:
            self._unfinished.release(self)

    def shrink(self) -> None:
        if not self._large_bytes:
            if self._framing is not None:
                self._framing.narrow()
            self._release()

    def give_up(self, reason: str) -> None:
        self.close(POLICY_VIOLATION, reason, "unfinished")

    def _release(self) -> None:
        self._unfinished.release(self)
        self.is_holding = False

    def _on_close_frame(self, frame: Frame) -> None:
        self.end_cause = self.end_cause or "client"
        self.close(frame.get_close_code().value or NORMAL_CLOSURE, "")

    def _receive(self, message: Message, frame: Frame | None = None) -> None:
        """`frame` is the one in the read buffer whose payload it is, if it is."""
        if self._stalled:
            self._backlog.append(bytes(message))
            return
        size = len(message)
        self._counters.messages_in += 1
        self._counters.bytes_in += size
        self.bytes_in += size
        self._counters.largest_message_bytes = max(self._counters.largest_message_bytes, size)
        if size > self._max_message_bytes:
            self._receive_oversized(message)
        elif size > self._receiver.large_bytes:
            self._receive_large(message, frame)
        else:
            self._on_message(message)

    def _receive_large(self, message: Message, frame: Frame | None) -> None:
        """Give it away, with its read buffer where that goes: a copy would take 3 ms per 5 MB."""
        owner = None
        if frame is not None and self._framing is not None and frame.last_in_buffer and not frame.tail_size:
            owner = self._framing.keep_buffer()
        elif frame is not None:
            message = bytes(message)
        self._large_bytes = len(message)
        self._stop_reading()
        self._unfinished.hold(self, len(message), is_unfinished=False)
        self._receiver.on_large(LargeMessage(memoryview(message), owner, self._end_large))

    def _end_large(self) -> None:
        self._large_bytes = 0
        if self.is_open:
            self._release()
            self._read_on()

    def _receive_oversized(self, message: Message) -> None:
        if len(message) <= 2 * self._max_message_bytes:
            self._counters.oversized += 1
            self._receiver.on_oversized(message)
        else:
            self._close_oversized(len(message), "message", self._max_message_bytes)

    def _refuse(self, text: str) -> None:
        self._counters.violations += 1
        self.close(PROTOCOL_ERROR, text)

    def on_violation(self, code: int, text: str, frame_bytes: int | None) -> None:
        if not self.is_open:
            return
        if frame_bytes is None:
            self._counters.violations += 1
            self.close(code, text)
        elif frame_bytes > 2 * self._options.max_frame_bytes:
            self._close_oversized(frame_bytes, "frame", self._options.max_frame_bytes)
        else:
            self._close_oversized(frame_bytes, "message", self._options.max_message_bytes)

    def _close_oversized(self, size_bytes: int, kind: str, limit_bytes: int) -> None:
        self._counters.oversized += 1
        self.close(MESSAGE_TOO_BIG, oversize_reason(size_bytes, kind, limit_bytes))

    # Writing

    def send(self, message: bytes | Pieces) -> None:
        """Send a message with the next flush of the outbox; drop it after the end of the connection."""
        if not self.is_open:
            return
        size = len(message)
        self._counters.messages_out += 1
        self._counters.bytes_out += size
        self.bytes_out += size
        self._out.append(message)
        self._out_bytes += size
        if not self._is_reading and not self._is_listed:
            self._is_listed = True
            outbox = self._outbox
            outbox.waiting.append(self)
            if not outbox.is_scheduled:
                outbox.flush_soon()
        if self._out_bytes > _FLUSH_BYTES:
            self.flush()

    def send_ping(self, payload: bytes) -> None:
        """Send a ping of at most 125 bytes behind all messages before it."""
        self._send_control(framing.PING, payload)

    def _send_control(self, kind: WSMsgType, payload: bytes) -> None:
        self.flush()
        if self.is_open and self._framing is not None:
            self._framing.send(kind, payload)
            self._check_reader()

    def flush(self) -> None:
        """Write all messages that were sent."""
        self._is_listed = False
        out, size = self._out, self._out_bytes
        if not out:
            return
        self._out, self._out_bytes = [], 0
        first = out[0]
        if len(out) == 1 and size <= _SINGLE_BYTES and self._framing is not None and type(first) is bytes:
            self._framing.send(BINARY, first)
        else:
            frames: list[bytes] = []
            for message in out:
                frames.append(header(len(message)))
                if isinstance(message, Pieces):
                    frames += message.pieces
                else:
                    frames.append(message)
            if size <= _JOIN_BYTES:
                self._transport.write(b"".join(frames))
            else:
                self._transport.writelines(frames)
        if self._stalled:
            self._check_reader()

    def _check_reader(self) -> None:
        if not self.is_open:
            return
        unread_bytes = self.unread_bytes
        if unread_bytes > self._options.max_outbound_bytes:
            self._counters.readers_slow += 1
            self.close(POLICY_VIOLATION, "too many bytes wait to be read by this connection")
        elif self._is_full:
            self._unread.note(self, unread_bytes)

    @property
    def unread_bytes(self) -> int:
        return self._transport.get_write_buffer_size()

    def end_unread(self, reason: str) -> None:
        self.close(POLICY_VIOLATION, reason)
        self.abort("slow")  # or the close waits behind all that is not read

    def begin_answer(self, size_bytes: int) -> None:
        """A long answer of about this size is being made: above a limit nothing more is read until `end_answer`."""
        self._begun_bytes += size_bytes
        if self._begun_bytes > self._options.max_begun_bytes:
            self._stop_reading()

    def end_answer(self, size_bytes: int) -> None:
        """It was sent, or is not going to be."""
        self._begun_bytes -= size_bytes
        if self._stalled:
            self._outbox.call_soon(self._read_on)

    def pause_writing(self) -> None:
        """The peer is slow: stop reading from it."""
        self._is_full = True
        self._stop_reading()
        if self.on_flow is not None:
            self.on_flow(True)

    def resume_writing(self) -> None:
        """The peer has caught up."""
        self._is_full = False
        self._unread.forget(self)
        if self.on_flow is not None:
            self.on_flow(False)
        self._read_on()

    def _stop_reading(self) -> None:
        self._stalled = True
        if self.is_open:
            self._transport.pause_reading()

    def _read_on(self) -> None:
        """Handle the backlog, then read on."""
        self._stalled = self._is_full or self._large_bytes > 0 or self._begun_bytes > self._options.max_begun_bytes
        backlog = self._backlog
        while backlog and not self._stalled and self.is_open:
            self._receive(backlog.popleft())
        self._outbox.flush()
        if not self._stalled and self.is_open:
            self._transport.resume_reading()

    # Ending

    def close(self, code: int, reason: str, cause: str = "") -> None:
        """Write the remaining messages and a close frame; the peer has `close_timeout_s` to close as well.

        `cause` is a word for the reason, if the code does not tell it.
        """
        if not self.is_open:
            return
        self.is_open = False
        self.end_cause = self.end_cause or cause or _CAUSES.get(code, "internal")
        self._backlog.clear()
        self._fragments = None
        self.flush()
        if self._framing is not None:
            self._framing.send_close(code, _shorten(reason))
            self._framing = None  # frees its buffer
        self._release()
        options = self._options
        if not self._transport.is_closing():
            Lingering(self._transport, options.close_timeout_s, options.max_discarded_bytes, self._lose)

    def abort(self, cause: str) -> None:
        """End the connection at once, without a close frame."""
        self.end_cause = self.end_cause or cause
        self._transport.abort()

    def on_ws_disconnected(self, _transport: WSTransport) -> None:
        self._lose()

    def _lose(self) -> None:
        self.is_open = False
        self.end_cause = self.end_cause or "lost"
        self._backlog.clear()
        self._out.clear()
        self._fragments = None
        self._framing = None
        self.on_flow = None
        self._release()
        self._unread.forget(self)
        lost, self._receiver, self._on_message = self._receiver.on_lost, _NOBODY, _NOBODY.on_message  # breaks a cycle
        lost()


def _shorten(reason: str) -> bytes:
    return reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore").encode()
