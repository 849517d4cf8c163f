"""Reads the WebSocket messages of a server: unmasked frames, large ones into pieces that are never copied.

picows, which reads what clients send, gathers a whole frame in one buffer and ends a connection whose frame is too
large. A relay needs more: a reply of 60 MB in pieces that can be handed to a socket as they are, and of a reply that is
too large the first bytes, which say whose it is.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol, cast

from protocol.pieces import Message, Pieces

_FINAL_BINARY: Final = 0x82
_CONTINUATION, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x2, 0x8, 0x9, 0xA
_MAX_CONTROL_BYTES: Final = 125

# A payload of more is read into pieces of this size.
LARGE_BYTES: Final = 64 * 1024
PIECE_BYTES: Final = 256 * 1024
HEAD_BYTES: Final = 4 * 1024
SCRATCH_BYTES: Final = 64 * 1024


class Sink(Protocol):
    """What a reader calls. None of these may raise."""

    def on_message(self, message: Message) -> None:
        """A whole message."""

    def on_oversized(self, head: bytes, size_bytes: int) -> None:
        """A message above the limit: its first bytes, and a size that it has at least. The rest of it is skipped."""

    def on_ping(self, payload: bytes) -> None:
        """A ping, to be answered."""

    def on_close(self, code: int, reason: str) -> None:
        """A close frame; nothing is read after it. The code is 1005 where it names none."""

    def on_lost(self, error: Exception | None) -> None:
        """The connection is gone."""

    def pause_writing(self) -> None:
        """Too much waits to be written."""

    def resume_writing(self) -> None:
        """Little waits to be written again."""


class Room:
    """Bounds the large messages that are being read, of all connections together, by their announced sizes.

    One that does not fit waits for others to be complete; a connection alone always has room.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held: dict[FrameReader, int] = {}
        self._waiting: dict[FrameReader, int] = {}  # in the order they came
        self.held_bytes = 0

    def enter(self, reader: FrameReader, size_bytes: int) -> bool:
        """Whether a message of this size may be read now; else `proceed` of the reader is called once it may."""
        if self._held and (self._waiting or self.held_bytes + size_bytes > self._max_bytes):
            self._waiting[reader] = size_bytes
            return False
        self._held[reader] = size_bytes
        self.held_bytes += size_bytes
        return True

    def leave(self, reader: FrameReader) -> None:
        """Its message is complete, or nobody reads it any more."""
        self._waiting.pop(reader, None)
        self.held_bytes -= self._held.pop(reader, 0)
        while self._waiting:
            other, size_bytes = next(iter(self._waiting.items()))
            if self._held and self.held_bytes + size_bytes > self._max_bytes:
                return
            del self._waiting[other]
            self._held[other] = size_bytes
            self.held_bytes += size_bytes
            other.proceed()


class FrameReader(asyncio.BufferedProtocol):
    """The protocol of a transport whose handshake is done. A message may have `max_bytes`.

    All readers of one loop may share a `scratch`: bytes stay there for one call only.
    """

    def __init__(
        self, transport: asyncio.Transport, sink: Sink, max_bytes: int, scratch: memoryview, room: Room
    ) -> None:
        self._transport = transport
        self._sink = sink
        self._max_bytes = max_bytes
        self._scratch = scratch
        self._room = room
        self._loop = asyncio.get_running_loop()
        self._rest = b""  # of a frame that is not complete, and small
        self._pieces: list[bytearray] | None = None  # of a message that is large, or comes in several frames
        self._size_bytes = 0  # of it so far, as far as its frames announce
        self._piece = bytearray()
        self._filled = 0
        self._left_bytes = 0  # of the frame that is read into pieces
        self._ends_message = False
        self._is_skipping = self._is_told = False  # of a message above the limit
        self._is_paused = self._waits_for_room = self._is_closed = False
        self.read_bytes = 0  # since the start

    # The transport's side

    def get_buffer(self, _size_hint: int) -> memoryview:
        return memoryview(self._piece)[self._filled :] if self._left_bytes else self._scratch

    def buffer_updated(self, size: int) -> None:
        self.read_bytes += size
        if not self._left_bytes:
            data = bytes(self._scratch[:size])
            self._parse(self._rest + data if self._rest else data)
            is_full = size == len(self._scratch)
        else:
            self._filled += size
            is_full = self._filled == len(self._piece)
            if is_full:
                self._finish_piece()
        if is_full and not self._is_closed:  # libuv would read 32 times before others get their turn
            self._transport.pause_reading()
            self._loop.call_soon(self._read_on)

    def eof_received(self) -> None:
        """The transport closes itself."""

    def pause_writing(self) -> None:
        self._sink.pause_writing()

    def resume_writing(self) -> None:
        self._sink.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        self.close()
        self._sink.on_lost(error)

    # The owner's side

    @property
    def is_paused(self) -> bool:
        """Whether nothing is read, at the owner's wish or for want of room."""
        return self._is_paused or self._waits_for_room

    def feed(self, data: bytes) -> None:
        """Take what was read before this was the transport's protocol."""
        self._parse(data)

    def pause(self) -> None:
        """Read nothing more."""
        self._is_paused = True
        if not self._is_closed:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        self._is_paused = False
        self._read_on()

    def proceed(self) -> None:
        """There is room for the message that waited for it."""
        self._waits_for_room = False
        self._read_on()

    def close(self) -> None:
        """Deliver nothing more."""
        self._is_closed = True
        self._pieces, self._piece, self._rest, self._left_bytes = None, bytearray(), b"", 0
        self._room.leave(self)

    def _read_on(self) -> None:
        if not (self.is_paused or self._is_closed or self._transport.is_closing()):
            self._transport.resume_reading()

    # Frames

    def _parse(self, data: bytes) -> None:
        at, end = 0, len(data)
        while end - at >= 2 and not self._is_closed:
            size, start = data[at + 1], at + 2
            if size > _MAX_CONTROL_BYTES:
                extra = {126: 2, 127: 8}.get(size)
                if extra is None:
                    self._fail("a masked frame")
                    return
                if end - start < extra:
                    break
                size = int.from_bytes(data[start : start + extra])
                start += extra
            behind = start + size
            if behind <= end:
                if data[at] == _FINAL_BINARY and self._pieces is None and size <= self._max_bytes:
                    self._sink.on_message(data[start:behind])
                else:
                    self._on_frame(data[at], data[start:behind])
                at = behind
            elif size <= LARGE_BYTES:
                break
            else:
                self._begin_large(data[at], size, data[start:])
                return
        self._rest = b"" if self._is_closed else data[at:]

    def _on_frame(self, first: int, payload: bytes) -> None:
        """A whole frame that is no message of its own."""
        kind = first & 0x0F
        if kind in {_CONTINUATION, _BINARY}:
            if self._begin_frame(first, len(payload)):
                self._add(bytearray(payload))
                self._end_frame()
        elif len(payload) > _MAX_CONTROL_BYTES or first & 0xF0 != 0x80:
            self._fail("a control frame that is none")
        elif kind == _CLOSE:
            self._is_closed = True
            code = int.from_bytes(payload[:2]) if len(payload) >= 2 else 1005
            self._sink.on_close(code, payload[2:].decode(errors="replace"))
        elif kind == _PING:
            self._sink.on_ping(payload)
        elif kind != _PONG:
            self._fail(f"a frame of kind {kind}")

    def _begin_frame(self, first: int, size: int) -> bool:
        """Note a frame of a message; False when it breaks the protocol."""
        is_first = self._pieces is None
        if first & 0x70 or (first & 0x0F == _BINARY) != is_first or first & 0x0F not in {_BINARY, _CONTINUATION}:
            self._fail("a frame that is no part of a message")
            return False
        if is_first:
            self._pieces, self._size_bytes, self._is_skipping, self._is_told = [], 0, False, False
        self._ends_message = bool(first & 0x80)
        self._size_bytes += size
        if self._size_bytes > self._max_bytes:
            self._is_skipping = True
        return True

    def _begin_large(self, first: int, size: int, begun: bytes) -> None:
        self._rest = b""
        if not self._begin_frame(first, size):
            return
        self._left_bytes = size
        self._new_piece()
        self._filled = len(begun)
        self._piece[: len(begun)] = begun
        if not self._is_skipping and not self._room.enter(self, self._size_bytes):
            self._waits_for_room = True
            self._transport.pause_reading()

    def _new_piece(self) -> None:
        if not self._is_skipping or not self._piece:
            self._piece = bytearray(min(self._left_bytes, PIECE_BYTES))
        elif len(self._piece) > self._left_bytes:
            self._piece = bytearray(self._left_bytes)
        self._filled = 0

    def _finish_piece(self) -> None:
        self._left_bytes -= len(self._piece)
        self._add(self._piece)
        if self._left_bytes:
            self._new_piece()
        else:
            self._piece = bytearray()
            self._end_frame()

    def _add(self, piece: bytearray) -> None:
        """Put bytes behind those of the message; of one above the limit only the first are of use."""
        pieces = self._pieces
        if pieces is None:  # what was called has closed the connection
            return
        if self._is_skipping:
            if not self._is_told:
                self._is_told = True
                self._room.leave(self)
                self._sink.on_oversized(bytes((pieces or [piece])[0][:HEAD_BYTES]), self._size_bytes)
            pieces.clear()
        elif pieces and len(pieces[-1]) + len(piece) <= PIECE_BYTES:
            pieces[-1] += piece
        else:
            pieces.append(piece)

    def _end_frame(self) -> None:
        if not self._ends_message or self._pieces is None:
            return
        pieces, self._pieces = self._pieces, None
        self._room.leave(self)
        if not self._is_skipping:
            self._sink.on_message(Pieces(cast(list[bytes], pieces)))  # a socket takes the one as well as the other

    def _fail(self, text: str) -> None:
        self.close()
        self._sink.on_close(1002, f"it sent {text}")
