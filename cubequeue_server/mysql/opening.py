"""The beginning of a MySQL connection, where the client may ask for TLS (mysql.md)."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Final, cast

_BUFFER_BYTES: Final = 4096


class Opening(asyncio.BufferedProtocol):
    """Reads what it is asked for and not a byte more.

    A client begins with TLS right after it has asked for it, and both may come in one read: what a stream reads ahead
    would be missing to TLS, and what somebody slipped in before it would count as said inside of it.
    """

    def __init__(self, on_connected: Callable[[Opening], None]) -> None:
        self._on_connected = on_connected
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._wanted = 0  # of the bytes that are read now
        self._filled = 0
        self._told: asyncio.Future[None] | None = None
        self._is_lost = False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but its bases
        self._on_connected(self)

    def connection_lost(self, _error: Exception | None) -> None:
        self._is_lost = True
        self._tell()

    def eof_received(self) -> None:
        self.connection_lost(None)

    async def readexactly(self, size: int) -> bytes:
        """So many bytes. Raises IncompleteReadError when the client has gone."""
        read = bytearray()
        while len(read) < size:
            read += await self._read(min(size - len(read), _BUFFER_BYTES))
        return bytes(read)

    async def _read(self, size: int) -> bytes:
        self._wanted, self._filled = size, 0
        if not self._is_lost:
            self._told = asyncio.get_running_loop().create_future()
            self.transport.resume_reading()
            await self._told
        if self._filled < self._wanted:
            raise asyncio.IncompleteReadError(b"", size)
        return bytes(self._buffer[:size])

    def get_buffer(self, _size_hint: int) -> memoryview:
        return self._buffer[self._filled : self._wanted]

    def buffer_updated(self, size: int) -> None:
        self._filled += size
        if self._filled == self._wanted:
            self.transport.pause_reading()
            self._tell()

    def _tell(self) -> None:
        if self._told is not None and not self._told.done():
            self._told.set_result(None)

    async def proceed(self, tls: ssl.SSLContext | None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Streams for all that follows, inside of `tls` if given. Raises OSError when that does not come about."""
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
