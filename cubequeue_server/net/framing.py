"""The seam to picows, which parses and writes frames: the only module that imports it.

A `FrameListener` gets each frame of its peer, also continuation and control frames. The handshake was answered
before and the connection is closed by the listener: picows does neither. What it says in its log about a peer that
breaks the protocol is turned into `FrameListener.on_violation`.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from typing import Any, Final

from picows import WSCloseCode, WSListener, WSMsgType, WSTransport, WSUpgradeRequest
from picows import WSFrame as Frame
from picows.picows import WSProtocol  # type: ignore[attr-defined]  # not in its stub, but what its own API makes

TEXT: Final = WSMsgType.TEXT
BINARY: Final = WSMsgType.BINARY
CONTINUATION: Final = WSMsgType.CONTINUATION
PING: Final = WSMsgType.PING
PONG: Final = WSMsgType.PONG

__all__ = [
    "BINARY",
    "CONTINUATION",
    "PING",
    "PONG",
    "TEXT",
    "Frame",
    "FrameListener",
    "Framing",
    "WSMsgType",
    "WSTransport",
]

_log = logging.getLogger(__name__)

_READ_BUFFER_BYTES: Final = 16 * 1024
# So much is read at once, but for the rest of a larger frame: a hundred requests or pings. It is less than what makes
# picows double its buffer, and read twice as much the next time.
_READ_BYTES: Final = 14 * 1024
# Of a larger frame so much, about half a millisecond: others have a turn after each such part.
_LARGE_READ_BYTES: Final = 512 * 1024
_SIZE_IN_TEXT = re.compile(r"(\d+) > \d+")

# picows wants to see a handshake before frames; the real one was checked and answered by the front.
_HANDSHAKE: Final = (
    b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


class FrameListener(WSListener):
    """Base of what receives frames. `on_ws_frame` and `on_ws_disconnected` are called by picows.

    `unparsed_bytes` were read and are no whole frame yet: it is added to with each read, and `on_ws_frame` sets it to
    what is behind the last frame. With `is_holding`, and after any read of more than a small buffer has room for,
    `on_read` is called; `on_full_read` after one that may not be all that the peer has sent.
    """

    __slots__ = ("is_holding", "unparsed_bytes")

    unparsed_bytes: int
    is_holding: bool

    def on_read(self, pending_bytes: int) -> None:
        """A read was handled, with which `pending_bytes` waited to be parsed; if still so many do, no frame ended."""
        raise NotImplementedError

    def on_full_read(self) -> None:
        """A read brought as much as one may, and frames or the next part of one: let others have a turn."""
        raise NotImplementedError

    def on_end(self) -> None:
        """The peer sends no more. Of TLS nothing can be written after this."""
        raise NotImplementedError

    def on_violation(self, code: int, text: str, frame_bytes: int | None) -> None:
        """The peer broke the protocol; nothing more can be read from it.

        `code` is the close code due. `frame_bytes` is the announced size of a frame that is too large.
        """
        raise NotImplementedError


class Framing:
    """Has picows read `transport` for `listener`, and writes single frames.

    `send(kind, payload)` writes a small frame at once, to the socket itself where nothing waits to be written
    before it: 1 µs less than through the transport. `send_close(code, reason)` does the same with the last frame.
    """

    __slots__ = ("_listener", "_max_frame_bytes", "_protocol", "_transport", "send", "send_close")

    def __init__(self, transport: asyncio.Transport, listener: FrameListener, max_frame_bytes: int) -> None:
        self._transport = transport
        self._listener = listener
        self._max_frame_bytes = max_frame_bytes
        self._attach()

    def _attach(self) -> None:
        self._protocol = _make_protocol(self._listener, self._max_frame_bytes)
        outlet = _Outlet(self._transport)
        self._protocol.connection_made(outlet)  # takes `write` for its frames
        outlet.write = _discard
        self.feed(_HANDSHAKE)
        self._listener.unparsed_bytes = 0
        self.send = self._protocol.transport.send
        self.send_close = self._protocol.transport.send_close
        self._transport.set_protocol(self._protocol)

    def feed(self, data: bytes) -> None:
        """Take `data` as if it had been read from the peer."""
        view = memoryview(data)
        while view:
            room = self._protocol.get_buffer(-1)
            part = view[: len(room)]
            room[: len(part)] = part
            self._protocol.buffer_updated(len(part))
            view = view[len(part) :]

    @property
    def buffer_bytes(self) -> int:
        """How much was in the read buffer at once, if it was more than a small one has room for; else 0.

        It is what the buffer takes of memory: picows never shrinks one.
        """
        peak: int = self._protocol.peak_bytes
        return peak

    def narrow(self) -> None:
        """Replace a read buffer that large messages widened.

        Only to be called when nothing is left in it, or from `on_ws_frame` with the last frame in it.
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
    """Bounds what is read at once, and counts what is no whole frame yet: picows knows, and does not tell."""

    __slots__ = ("frame_listener", "peak_bytes")

    frame_listener: FrameListener
    peak_bytes: int

    def get_buffer(self, size_hint: int) -> memoryview:
        buffer: memoryview = _get_buffer(self, size_hint)
        return buffer[: _LARGE_READ_BYTES if self.frame_listener.unparsed_bytes >= _READ_BYTES else _READ_BYTES]

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


class _Outlet:
    """The transport as picows sees it: it writes frames, but neither the answer to the handshake nor the end."""

    __slots__ = ("get_extra_info", "get_write_buffer_size", "write", "writelines")

    def __init__(self, transport: asyncio.Transport) -> None:
        self.get_extra_info = transport.get_extra_info
        self.get_write_buffer_size = transport.get_write_buffer_size
        self.write: Callable[[bytes], None] = transport.write
        self.writelines = transport.writelines

    def close(self) -> None:
        """Leave the transport open: who closes it is the listener."""


def _discard(_data: bytes) -> None:
    """In the place of `write` while picows answers the handshake that it was given."""


class _ViolationLog:
    """The logger that picows is given: it names each breach of the protocol there, before it closes."""

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
        """What picows tells about its own workings is of no interest here."""

    debug = info = warning = log
