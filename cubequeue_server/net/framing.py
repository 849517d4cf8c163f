"""The adapter to picows, which parses and writes frames; no other module of the server imports it.

A `FrameListener` gets each frame of its peer, also continuation and control frames. The front has answered the
handshake, and the listener closes the connection: picows does neither. It reports violations of the protocol to a
logger, which here calls `FrameListener.on_violation`.
"""

from __future__ import annotations

import asyncio
import logging
import re
import struct
from collections.abc import Callable
from itertools import repeat
from typing import Any, Final

from picows import WSCloseCode, WSListener, WSMsgType, WSTransport, WSUpgradeRequest
from picows import WSFrame as Frame
from picows.picows import WSProtocol  # type: ignore[attr-defined]  # not in its stub, but what its own API makes

TEXT, BINARY, CONTINUATION = WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION
PING, PONG, CLOSE = WSMsgType.PING, WSMsgType.PONG, WSMsgType.CLOSE

__all__ = ["Frame", "FrameListener", "Framing", "WSMsgType", "WSTransport", "client_sender", "header"]

_log = logging.getLogger(__name__)

_READ_BUFFER_BYTES: Final = 16 * 1024
# Read at most so much a turn, except while a large frame arrives: a hundred requests or pings. After a few bytes more,
# picows would double its buffer and read twice as much the next time.
_READ_BYTES: Final = 14 * 1024
# Of a large frame read so much a turn, about half a millisecond.
_LARGE_READ_BYTES: Final = 512 * 1024
MAX_HEADER_BYTES: Final = 14
_SIZE_IN_TEXT = re.compile(r"(\d+) > \d+")

# picows expects a handshake before the frames; the front has checked and answered the real one.
_HANDSHAKE: Final = (
    b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


class FrameListener(WSListener):
    """Base class of a receiver of frames. picows calls `on_ws_frame` and `on_ws_disconnected`.

    `unparsed_bytes` counts bytes of an incomplete frame: each read adds to it, and `on_ws_frame` sets it to the bytes
    behind the last frame. `on_read` is called if `is_holding`, and after any read that a small buffer has no room for;
    `on_full_read` after a read of the maximal size.
    """

    __slots__ = "is_holding", "unparsed_bytes"

    unparsed_bytes: int
    is_holding: bool

    def on_read(self, pending_bytes: int) -> None:
        """A read was parsed. If `unparsed_bytes` still equals `pending_bytes`, it completed no frame."""
        raise NotImplementedError

    def on_full_read(self) -> None:
        """The peer has probably sent more: let others have a turn first."""
        raise NotImplementedError

    def on_end(self) -> None:
        """The peer sends no more. A TLS connection cannot be written to after this call."""
        raise NotImplementedError

    def on_violation(self, code: int, text: str, frame_bytes: int | None) -> None:
        """The peer violated the protocol; nothing more can be read from it.

        `code` is the close code due. `frame_bytes` is the announced size of a frame that is too large.
        """
        raise NotImplementedError


class Framing:
    """Makes picows read `transport` for `listener`, and writes single frames.

    `send(kind, payload)` writes a small frame at once, directly to the socket if the transport's buffer is empty: this
    saves 1 µs. `send_close(code, reason)` writes the last frame in the same way.
    """

    __slots__ = "_listener", "_max_frame_bytes", "_protocol", "_transport", "send", "send_close"

    def __init__(self, transport: asyncio.Transport, listener: FrameListener, max_frame_bytes: int) -> None:
        self._transport = transport
        self._listener = listener
        self._max_frame_bytes = max_frame_bytes
        self._attach()

    def _attach(self) -> None:
        self._protocol = _make_protocol(self._listener, self._max_frame_bytes)
        outlet = _Outlet(self._transport)
        self._protocol.connection_made(outlet)  # which keeps `write` for its frames
        outlet.write = _discard
        _get_buffer(self._protocol, -1)[: len(_HANDSHAKE)] = _HANDSHAKE
        _parse(self._protocol, len(_HANDSHAKE))
        self._listener.unparsed_bytes = 0
        self.send = self._protocol.transport.send
        self.send_close = self._protocol.transport.send_close
        self._transport.set_protocol(self._protocol)

    def feed(self, data: bytes) -> None:
        """Parse `data` as if it came from the peer."""
        view = memoryview(data)
        while view:
            room = self._protocol.get_buffer(-1)
            part = view[: len(room)]
            room[: len(part)] = part
            self._protocol.buffer_updated(len(part))
            view = view[len(part) :]

    @property
    def buffer_bytes(self) -> int:
        """The size of a read buffer that has grown, in bytes; 0 for a small one. picows never shrinks a buffer."""
        return int(self._protocol.peak_bytes)

    def narrow(self) -> None:
        """Replace a read buffer that large messages have widened.

        Call it only with an empty buffer, or from `on_ws_frame` for the last frame in it.
        """
        if self._protocol.peak_bytes:
            self._attach()

    def keep_buffer(self) -> object:
        """Leave the read buffer, and the frame in it, as they are for as long as the returned object lives.

        Only to be called from `on_ws_frame` with the last frame in it.
        """
        protocol: object = self._protocol
        self._attach()
        return protocol


def _make_header(size: int) -> bytes:
    if size < 126:
        return bytes((0x82, size))
    if size < 65_536:
        return struct.pack(">BBH", 0x82, 126, size)
    return struct.pack(">BBQ", 0x82, 127, size)


_READY_HEADERS: Final = tuple(map(_make_header, range(1024)))


def frame_bytes(head: bytes) -> int:
    """The size of a frame from a client, with its header, whose first `MAX_HEADER_BYTES` are these (RFC 6455, 5.2)."""
    size = head[1] & 0x7F
    if size < 126:
        return 6 + size
    if size == 126:
        return 8 + int.from_bytes(head[2:4], "big")
    return MAX_HEADER_BYTES + int.from_bytes(head[2:10], "big")


def header(size: int) -> bytes:
    """The header of a binary message in one frame, from a server."""
    return _READY_HEADERS[size] if size < len(_READY_HEADERS) else _make_header(size)


def client_sender(transport: asyncio.Transport) -> Callable[..., None]:
    """A function that writes frames as a client, masked: it takes their kind, their payload, and whether each is final.

    Frames of one turn of the loop leave in one write of the socket, which saves half of what a small one costs.
    """
    sender: Any = WSTransport
    return sender(True, _Gathering(transport), _log, asyncio.get_running_loop()).send  # type: ignore[no-any-return]


def _make_protocol(listener: FrameListener, max_frame_bytes: int) -> Any:
    def accept(_request: WSUpgradeRequest) -> FrameListener:
        return listener

    protocol = _Protocol(
        host_port=None,
        ws_path=None,
        is_client_side=False,
        ws_listener_factory=accept,
        logger=_ViolationLog(listener),
        disconnect_on_exception=True,
        websocket_handshake_timeout=None,
        enable_auto_ping=False,
        auto_ping_idle_timeout=1,
        auto_ping_reply_timeout=1,
        auto_ping_strategy=0,
        enable_auto_pong=False,
        max_frame_size=max_frame_bytes,
        extra_headers=None,
        read_buffer_init_size=_READ_BUFFER_BYTES,
    )
    protocol.frame_listener, protocol.peak_bytes = listener, 0
    return protocol


_get_buffer = WSProtocol.get_buffer
_end = WSProtocol.eof_received
_parse = WSProtocol.buffer_updated


class _Protocol(WSProtocol):  # type: ignore[misc]  # not in its stub
    """Limits the size of a read and counts the bytes of incomplete frames, which picows does not tell."""

    __slots__ = "frame_listener", "peak_bytes"

    frame_listener: FrameListener
    peak_bytes: int

    def get_buffer(self, size_hint: int) -> memoryview:
        buffer: memoryview = _get_buffer(self, size_hint)
        unparsed_bytes = self.frame_listener.unparsed_bytes
        return buffer[: _READ_BYTES if unparsed_bytes < _READ_BYTES else _large_read_bytes(buffer, unparsed_bytes)]

    def eof_received(self) -> object:
        self.frame_listener.on_end()
        return _end(self)

    def buffer_updated(self, size: int) -> None:
        listener = self.frame_listener
        unparsed_bytes = listener.unparsed_bytes + size
        listener.unparsed_bytes = unparsed_bytes
        _parse(self, size)
        if unparsed_bytes > _READ_BUFFER_BYTES:
            if unparsed_bytes > self.peak_bytes:  # noqa: PLR1730  # as in websocket.py
                self.peak_bytes = unparsed_bytes
            listener.on_read(unparsed_bytes)
        elif listener.is_holding:
            listener.on_read(unparsed_bytes)
        if size >= _READ_BYTES and (
            listener.unparsed_bytes != unparsed_bytes
            or unparsed_bytes // _LARGE_READ_BYTES != (unparsed_bytes - size) // _LARGE_READ_BYTES
        ):
            listener.on_full_read()


def _large_read_bytes(free: memoryview, unparsed_bytes: int) -> int:
    """How much to read of a large frame: nothing behind it, so that `keep_buffer` can give its buffer away.

    picows has the frame at the beginning of its buffer, of which `free` is the rest, and does not tell its size.
    """
    import ctypes  # noqa: PLC0415  # 3 ms, once, for servers that get such frames

    start = ctypes.addressof(ctypes.c_char.from_buffer(free)) - unparsed_bytes
    missing_bytes = frame_bytes(ctypes.string_at(start, MAX_HEADER_BYTES)) - unparsed_bytes
    return min(missing_bytes, _LARGE_READ_BYTES) if missing_bytes > 0 else _LARGE_READ_BYTES


class _Outlet:
    """The transport as picows sees it: picows can write frames, but not answer the handshake and not close."""

    __slots__ = "get_extra_info", "get_write_buffer_size", "write", "writelines"

    def __init__(self, transport: asyncio.Transport) -> None:
        self.get_extra_info = transport.get_extra_info
        self.get_write_buffer_size = transport.get_write_buffer_size
        self.write: Callable[[bytes], None] = transport.write
        self.writelines = transport.writelines

    def close(self) -> None:
        """Leave the transport open: the listener closes it."""


class _Gathering:
    """The transport as a sender sees it: something always waits to be written, so nothing goes around it."""

    __slots__ = ("get_extra_info", "get_write_buffer_size", "write")

    def __init__(self, transport: asyncio.Transport) -> None:
        self.get_extra_info = transport.get_extra_info
        self.get_write_buffer_size = repeat(1).__next__
        self.write = transport.write


def _discard(_data: bytes) -> None:
    """Replaces `write` while picows answers the handshake."""


class _ViolationLog:
    """The logger of picows: it reports each violation of the protocol here before it closes."""

    __slots__ = ("_listener",)

    def __init__(self, listener: FrameListener) -> None:
        self._listener = listener

    def isEnabledFor(self, _level: int) -> bool:  # noqa: N802  # the name is logging's
        return False

    def error(self, _message: str, *args: Any) -> None:
        code, text = args[0] if args and isinstance(args[0], tuple) else (WSCloseCode.PROTOCOL_ERROR, "")
        size = _SIZE_IN_TEXT.search(text) if code == WSCloseCode.MESSAGE_TOO_BIG else None
        self._listener.on_violation(code.value, text, int(size[1]) if size else None)

    def exception(self, message: str, *args: Any) -> None:
        _log.exception(message, *args)
        self._listener.on_violation(WSCloseCode.INTERNAL_ERROR.value, "", None)

    def log(self, *_args: Any) -> None:
        """Drop what picows logs about its own work."""

    debug = info = warning = log
