"""Packets on a socket: payloads of up to 16 MB with a length and a sequence number, longer ones in pieces.

Bounded: the bytes that a client may send, and the time it may take to read what it asked for.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Final, cast

from cubequeue_server.net.unfinished import Unfinished
from protocol.mysql_parameters import MalformedPacketError

_HEADER_BYTES: Final = 4
_MAX_PIECE: Final = 0xFFFFFF
_WRITE_TIMEOUT_S: Final = 60.0
_SMALL_PACKET_BYTES: Final = 16 * 1024  # an incomplete packet below this size is not worth counting
_PART_BYTES: Final = 256 * 1024


class PacketTooLargeError(Exception):
    """A client sent more than it may."""


class GoneError(Exception):
    """The client has gone, or does not read what it asked for."""


class Opening(asyncio.BufferedProtocol):
    """The beginning of a connection, where the client may ask for TLS: reads exactly the bytes that are wanted.

    A client starts TLS right after it asked for it, and both may come in one read. Bytes read ahead would be missing
    from the TLS handshake, and a packet that a third party slipped in before it would count as sent inside TLS.
    """

    def __init__(self, on_connected: Callable[[Opening], None]) -> None:
        self._on_connected = on_connected
        self._buffer = bytearray(_HEADER_BYTES)  # of the first packet: loops read as soon as they are connected
        self._filled = 0
        self._is_first = True
        self._is_lost = False
        self._read: asyncio.Future[None] | None = None
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's class does not derive from it
        self._on_connected(self)

    def connection_lost(self, _error: Exception | None) -> None:
        self._is_lost = True
        self._end_read()

    def eof_received(self) -> None:
        self.connection_lost(None)

    def get_buffer(self, _size_hint: int) -> memoryview:
        return memoryview(self._buffer)[self._filled :]

    def buffer_updated(self, size: int) -> None:
        self._filled += size
        if self._filled == len(self._buffer):
            self.transport.pause_reading()
            self._end_read()

    def _end_read(self) -> None:
        if self._read is not None and not self._read.done():
            self._read.set_result(None)

    async def readexactly(self, size: int) -> bytes:
        """The next bytes, at first those of a header. Raises IncompleteReadError when the client has gone."""
        if not self._is_first:
            self._buffer, self._filled = bytearray(size), 0
        self._is_first = False
        if self._filled < size and not self._is_lost:
            self._read = asyncio.get_running_loop().create_future()
            self.transport.resume_reading()
            await self._read
        if self._filled < size:
            raise asyncio.IncompleteReadError(b"", size)
        return bytes(self._buffer)

    async def proceed(self, tls: ssl.SSLContext | None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Streams for the rest of the connection, inside `tls` if given. Raises OSError."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        transport: asyncio.Transport | None = self.transport
        if self._is_lost or self.transport.is_closing():
            raise ConnectionResetError
        if tls is None:
            self.transport.set_protocol(protocol)
        else:
            transport = await loop.start_tls(self.transport, protocol, tls, server_side=True)
        if transport is None:
            raise ConnectionResetError
        protocol.connection_made(transport)
        if tls is None:
            transport.resume_reading()
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


class PacketStream:
    """The packets of one client, with the methods that mysql-mimic's connection calls.

    `max_packet_bytes` may change between two packets. Until `proceed` nothing is read ahead, so that TLS can begin
    after any packet.
    """

    def __init__(self, opening: Opening, max_packet_bytes: int, unfinished: Unfinished) -> None:
        self.max_packet_bytes = max_packet_bytes
        self._unfinished = unfinished
        self._opening = opening
        self._reader: Opening | asyncio.StreamReader = opening
        self._writer: asyncio.StreamWriter | None = None
        self._transport: asyncio.WriteTransport = opening.transport
        self.bytes_in = self.bytes_out = 0
        self._sequence = 0
        self._ahead: asyncio.Task[bytes] | None = None
        self._values_bytes = 0

    async def proceed(self, tls: ssl.SSLContext | None = None) -> None:
        """Read ahead from here on; inside `tls` if given. Raises GoneError."""
        try:
            self._reader, self._writer = await self._opening.proceed(tls)
        except OSError as error:  # of TLS too
            raise GoneError from error
        self._transport = self._writer.transport

    async def read(self) -> bytes | bytearray:
        """The next payload. Raises GoneError at the end, MalformedPacketError and PacketTooLargeError."""
        payload = bytearray()
        while True:
            ahead, self._ahead = self._ahead, None
            header = await (self._exactly(_HEADER_BYTES) if ahead is None else ahead)
            length, sequence = int.from_bytes(header[:3], "little"), header[3]
            if sequence != self._sequence:
                raise MalformedPacketError(f"packets out of order: {sequence} where {self._sequence} was due")
            self._sequence = (sequence + 1) % 256
            if len(payload) + length > self.max_packet_bytes:
                raise PacketTooLargeError
            self.bytes_in += length + _HEADER_BYTES
            if length < _SMALL_PACKET_BYTES and not payload:
                return await self._exactly(length)
            await self._read_piece(length, payload)
            if length < _MAX_PIECE:
                return payload

    async def _read_piece(self, length: int, payload: bytearray) -> None:
        """Add a piece to a payload, in parts: to copy many megabytes at once would hold everybody up.

        While a large payload arrives it counts among the unfinished messages.
        """
        self._unfinished.hold(self, self._values_bytes + length + len(payload), is_unfinished=True)
        try:
            while length:
                part = await self._exactly(min(length, _PART_BYTES))
                payload += part
                length -= len(part)
        finally:
            self.hold_values(self._values_bytes)

    def hold_values(self, size_bytes: int) -> None:
        """Count values that were sent ahead of their statement among the unfinished messages."""
        self._values_bytes = size_bytes
        if size_bytes:
            self._unfinished.hold(self, size_bytes, is_unfinished=True)
        else:
            self._unfinished.release(self)

    async def _exactly(self, length: int) -> bytes:
        try:
            return await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, OSError) as error:
            raise GoneError from error

    def look_ahead(self) -> asyncio.Task[bytes]:
        """Begin to read the next packet's header; done when the client sends one, failed when it has gone."""
        if self._ahead is None:
            self._ahead = asyncio.get_running_loop().create_task(self._exactly(_HEADER_BYTES))
        return self._ahead

    def shrink(self) -> None:
        """Called by `Unfinished` for what is idle; nothing is."""

    def give_up(self, _reason: str) -> None:
        """Called by `Unfinished` to make room. Within a packet no error can be sent."""
        self.abort()

    async def write(self, data: bytes, drain: bool = True) -> None:
        """Send a payload, in the order of calls. Raises GoneError."""
        framed = self.framed(data)
        self.bytes_out += len(framed)
        self._transport.write(framed)
        if drain:
            await self.drain()

    async def write_framed(self, data: bytes) -> None:
        """Send packets that `framed` made. Raises GoneError."""
        self.bytes_out += len(data)
        self._transport.write(data)
        await self.drain()

    def framed(self, payload: bytes) -> bytes:
        """A payload as its packets. They have to be sent in the order in which they were made."""
        if len(payload) < _MAX_PIECE:
            return self._header(len(payload)) + payload
        pieces = [payload[at : at + _MAX_PIECE] for at in range(0, len(payload) + 1, _MAX_PIECE)]
        return b"".join([part for piece in pieces for part in (self._header(len(piece)), piece)])

    def _header(self, length: int) -> bytes:
        header = length | self._sequence << 24
        self._sequence = (self._sequence + 1) % 256
        return header.to_bytes(4, "little")

    async def drain(self) -> None:
        """Wait until the client has read enough. Raises GoneError when it does not."""
        if self._writer is None:  # the few bytes of a greeting
            return
        try:
            async with asyncio.timeout(_WRITE_TIMEOUT_S):
                await self._writer.drain()
        except (TimeoutError, OSError) as error:
            raise GoneError from error

    def reset_seq(self) -> None:
        """A command, or the answer to one, begins."""
        self._sequence = 0

    def close(self) -> None:
        """Close once everything was sent."""
        self.hold_values(0)
        if self._ahead is not None:
            self._ahead.cancel()
            self._ahead.add_done_callback(lambda ahead: ahead.cancelled() or ahead.exception())
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self.hold_values(0)
        self._transport.abort()
