"""Two clients: one of whole messages on the `websockets` library, one of single bytes on a bare socket."""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from protocol.client_codec import Reply, Rows, decode_reply, encode_query
from storage.vocabulary import Cell

DRIVER = "0b7c1a52-6f0e-4a55-9a43-3a1a6a6fd0e1"

TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10

KEY = "AAAAAAAAAAAAAAAAAAAAAA=="
UPGRADE = (
    f"GET /ws HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
).encode()

Address = tuple[str, int]


class ClosedError(Exception):
    """The connection ended ahead of an answer."""


class Client:
    """Sends queries as the driver does, and keeps every reply by its message id."""

    def __init__(self, websocket: ClientConnection, driver: str | None) -> None:
        self.websocket = websocket
        self.replies: defaultdict[int, list[Reply]] = defaultdict(list)
        self._driver = driver
        self._next_id = 1
        self._news = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for message in self.websocket:
                assert isinstance(message, bytes)
                reply = decode_reply(message)
                self.replies[reply.message_id].append(reply)
                self._news.set()
        except ConnectionClosed:
            pass
        finally:
            self._news.set()

    @property
    def is_closed(self) -> bool:
        """Whether no more answers can come."""
        return self._reader.done()

    async def send(
        self, query: str, parameters: Sequence[Cell] | None = None, *, message_id: int | None = None, format_: int = 0
    ) -> int:
        """Send a query without waiting; returns its message id."""
        if message_id is None:
            message_id = self._next_id
            self._next_id += 1
        message = encode_query(message_id, query, parameters, connection_id=self._driver, response_format=format_)
        await self.websocket.send(message)
        return message_id

    async def reply(self, message_id: int) -> Reply:
        """The first reply to a message."""
        while not self.replies[message_id]:
            if self._reader.done():
                raise ClosedError(f"closed without an answer to {message_id}")
            self._news.clear()
            await self._news.wait()
        return self.replies[message_id][0]

    async def ask(self, query: str, parameters: Sequence[Cell] | None = None, **options: Any) -> Reply:
        """Send a query and wait for its reply."""
        return await self.reply(await self.send(query, parameters, **options))

    async def rows(self, query: str, parameters: Sequence[Cell] | None = None) -> list[tuple[bytes | None, ...]]:
        """The rows that a query gives."""
        reply = await self.ask(query, parameters)
        assert isinstance(reply, Rows), reply
        return reply.rows

    async def settle(self) -> None:
        """Wait until everything that was sent has been handled: the server answers in order what it can at once."""
        await self.ask("CACHE GET 'settle'")

    async def closed(self) -> tuple[int | None, str | None]:
        """Wait for the end; the close code and reason that the server gave."""
        await self._reader
        await self.websocket.wait_closed()
        return self.websocket.close_code, self.websocket.close_reason

    def drop(self) -> None:
        """Vanish without a close frame."""
        self.websocket.transport.abort()

    async def close(self) -> None:
        await self.websocket.close()
        await self._reader


@asynccontextmanager
async def connected(
    address: Address, driver: str | None = DRIVER, tls: ssl.SSLContext | None = None, **headers: str
) -> AsyncIterator[Client]:
    """A client, upgraded, inside of `tls` if given. Header names are written with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with connect(
        f"{'ws' if tls is None else 'wss'}://{address[0]}:{address[1]}/ws",
        additional_headers=named,
        max_size=None,
        close_timeout=1,
        ssl=tls,
    ) as websocket:
        client = Client(websocket, driver)
        try:
            yield client
        finally:
            await client.close()


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bytes | None = b"\1\2\3\4"
) -> bytes:
    """A frame as a client sends it; `mask` None leaves it unmasked, which is an error."""
    size = len(payload)
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    masked = 0x80 if mask is not None else 0
    if size < 126:
        header = struct.pack(">BB", first, masked | size)
    elif size < 65_536:
        header = struct.pack(">BBH", first, masked | 126, size)
    else:
        header = struct.pack(">BBQ", first, masked | 127, size)
    if mask is None:
        return header + payload
    key = (mask * (size // 4 + 1))[:size]
    xored = int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")
    return header + mask + xored.to_bytes(size, "big")


class RawClient:
    """Bytes to and from the port."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def read_head(self) -> bytes:
        return await self.reader.readuntil(b"\r\n\r\n")

    async def upgrade(self) -> None:
        await self.send(UPGRADE)
        head = await self.read_head()
        assert head.startswith(b"HTTP/1.1 101 "), head

    async def read_frame(self) -> tuple[int, bytes]:
        """The opcode and payload of the next frame; the server must not mask it."""
        first, second = await self.reader.readexactly(2)
        size = second & 0x7F
        assert second < 0x80
        assert first & 0x70 == 0
        if size == 126:
            (size,) = struct.unpack(">H", await self.reader.readexactly(2))
        elif size == 127:
            (size,) = struct.unpack(">Q", await self.reader.readexactly(8))
        return first & 0x0F, await self.reader.readexactly(size)

    async def read_reply(self) -> Reply:
        opcode, payload = await self.read_frame()
        assert opcode == BINARY
        return decode_reply(payload)

    async def read_close(self) -> tuple[int, str]:
        """The close code and reason; what comes before the close frame is skipped."""
        opcode, payload = await self.read_frame()
        while opcode != CLOSE:
            opcode, payload = await self.read_frame()
        return struct.unpack(">H", payload[:2])[0], payload[2:].decode()

    async def read_to_end(self) -> bytes:
        try:
            return await self.reader.read()
        except ConnectionResetError:
            return b""


@asynccontextmanager
async def raw(address: Address, tls: ssl.SSLContext | None = None) -> AsyncIterator[RawClient]:
    """A bare connection to the port, inside of `tls` if given."""
    reader, writer = await asyncio.open_connection(*address, limit=1 << 16, ssl=tls)
    try:
        yield RawClient(reader, writer)
    finally:
        writer.close()
