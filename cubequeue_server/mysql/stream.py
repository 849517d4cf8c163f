"""Packets on a socket: payloads of up to 16 MB with their length and a sequence number, longer ones in pieces.

It has what mysql-mimic's connection wants of its stream, and bounds: on what a client may send, and on how long one
may take to read what it asked for.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Final

from cubequeue_server.mysql.opening import Opening
from cubequeue_server.net.unfinished import Unfinished
from protocol.mysql_parameters import MalformedPacketError

_MAX_PIECE: Final = 0xFFFFFF
_WRITE_TIMEOUT_S: Final = 60.0
_SMALL_PACKET_BYTES: Final = 16 * 1024  # of which it does not matter that they are awaited


class PacketTooLargeError(Exception):
    """A client sent more than it may."""


class GoneError(Exception):
    """The client has gone, or does not read what it asked for."""


class PacketStream:
    """The packets of one client. `max_packet_bytes` may change between two of them.

    Until `proceed` nothing is read ahead, so that TLS can begin after any packet.
    """

    def __init__(self, opening: Opening, max_packet_bytes: int, unfinished: Unfinished) -> None:
        self.max_packet_bytes = max_packet_bytes
        self._unfinished = unfinished
        self._opening = opening
        self._reader: Opening | asyncio.StreamReader = opening
        self._writer: asyncio.StreamWriter | None = None
        self._transport: asyncio.WriteTransport = opening.transport
        self._sequence = 0
        self._ahead: asyncio.Task[bytes] | None = None

    async def proceed(self, tls: ssl.SSLContext | None = None) -> None:
        """Read ahead from here on; inside of `tls` if given. Raises GoneError."""
        try:
            self._reader, self._writer = await self._opening.proceed(tls)
        except OSError as error:  # of TLS too
            raise GoneError from error
        self._transport = self._writer.transport

    async def read(self) -> bytes:
        """The next payload. Raises GoneError at the end, MalformedPacketError and PacketTooLargeError."""
        payload = bytearray()
        while True:
            header = await self._header()
            length, sequence = int.from_bytes(header[:3], "little"), header[3]
            if sequence != self._sequence:
                raise MalformedPacketError(f"packets out of order: {sequence} where {self._sequence} was due")
            self._sequence = (sequence + 1) % 256
            if len(payload) + length > self.max_packet_bytes:
                raise PacketTooLargeError
            payload += await self._piece(length, len(payload))
            if length < _MAX_PIECE:
                return bytes(payload)

    async def _piece(self, length: int, bytes_before: int) -> bytes:
        """One piece of a payload; while a large one arrives it counts among what all clients have begun."""
        if length + bytes_before <= _SMALL_PACKET_BYTES:
            return await self._exactly(length)
        self._unfinished.hold(self, length + bytes_before, is_unfinished=True)
        try:
            return await self._exactly(length)
        finally:
            self._unfinished.release(self)

    def shrink(self) -> None:
        """Nothing is kept between two packets."""

    def give_up(self, _reason: str) -> None:
        """Close for the sake of others: in the middle of a packet there is no way to say why."""
        self.abort()

    async def write(self, data: bytes, drain: bool = True) -> None:
        """Send a payload, in the order of calls. Raises GoneError."""
        self._transport.write(self.framed(data))
        if drain:
            await self.drain()

    async def write_framed(self, data: bytes) -> None:
        """Send what `framed` gave. Raises GoneError."""
        self._transport.write(data)
        await self.drain()

    def framed(self, payload: bytes) -> bytes:
        """A payload as its packets, which have to be sent in the order in which they were made."""
        if len(payload) < _MAX_PIECE:
            header = len(payload) | self._sequence << 24
            self._sequence = (self._sequence + 1) % 256
            return header.to_bytes(4, "little") + payload
        pieces = [payload[at : at + _MAX_PIECE] for at in range(0, len(payload) + 1, _MAX_PIECE)]
        return b"".join(map(self._framed_piece, pieces))

    def _framed_piece(self, piece: bytes) -> bytes:
        header = len(piece) | self._sequence << 24
        self._sequence = (self._sequence + 1) % 256
        return header.to_bytes(4, "little") + piece

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

    def look_ahead(self) -> asyncio.Task[bytes]:
        """Begin to read the next packet's header; done when the client sends one, failed when it has gone."""
        if self._ahead is None:
            self._ahead = asyncio.get_running_loop().create_task(self._exactly(4))
        return self._ahead

    def close(self) -> None:
        """Close once everything was sent."""
        if self._ahead is not None:
            self._ahead.cancel()
            self._ahead.add_done_callback(lambda ahead: ahead.cancelled() or ahead.exception())
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    async def _header(self) -> bytes:
        if self._ahead is None:
            return await self._exactly(4)
        ahead, self._ahead = self._ahead, None
        return await ahead

    async def _exactly(self, length: int) -> bytes:
        try:
            return await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, OSError) as error:
            raise GoneError from error
