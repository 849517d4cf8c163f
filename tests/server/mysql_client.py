"""A MySQL client of single packets: it says what a client library never would."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

OK, ERROR, EOF = 0x00, 0xFF, 0xFE
QUIT, QUERY, PREPARE, EXECUTE, LONG_DATA, CLOSE, RESET, FETCH = 0x01, 0x03, 0x16, 0x17, 0x18, 0x19, 0x1A, 0x1C
# PROTOCOL_41, SECURE_CONNECTION, PLUGIN_AUTH
_CAPABILITIES, _SSL = 0x0008_8200, 0x0800


def _head(capabilities: int) -> bytes:
    return capabilities.to_bytes(4, "little") + (1 << 24).to_bytes(4, "little") + b"\x2d" + bytes(23)


HEAD, HEAD_FOR_TLS = _head(_CAPABILITIES), _head(_CAPABILITIES | _SSL)
LOGIN = b"ann\0" + b"\0" + b"mysql_native_password\0"


def offers_tls(greeting: bytes) -> bool:
    """Whether the server's greeting says so."""
    after_version = greeting.index(b"\0") + 1 + 4 + 8 + 1
    return bool(int.from_bytes(greeting[after_version : after_version + 2], "little") & _SSL)


class MysqlClient:
    """Sends packets and reads them; sequence numbers are kept, unless told otherwise."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.sequence = 0

    async def read(self) -> bytes:
        """The next payload, pieces put together."""
        payload = b""
        while True:
            header = await self.reader.readexactly(4)
            length = int.from_bytes(header[:3], "little")
            assert header[3] == self.sequence
            self.sequence = (self.sequence + 1) % 256
            payload += await self.reader.readexactly(length)
            if length < 0xFFFFFF:
                return payload

    def packet(self, payload: bytes) -> bytes:
        """A payload of less than 16 MB in its frame."""
        framed = len(payload).to_bytes(3, "little") + bytes([self.sequence]) + payload
        self.sequence = (self.sequence + 1) % 256
        return framed

    def command(self, code: int, rest: bytes = b"") -> None:
        """Send a command without waiting."""
        self.sequence = 0
        self.writer.write(self.packet(bytes([code]) + rest))

    async def log_in(self, tls: ssl.SSLContext | None = None) -> bytes:
        """The handshake of anybody, inside of `tls` if given; the last packet of it."""
        greeting = await self.read()
        if greeting[0] == ERROR:
            return greeting
        assert greeting[0] == 10
        assert tls is None or offers_tls(greeting)
        if tls is not None:
            self.writer.write(self.packet(HEAD_FOR_TLS))
            await self.writer.start_tls(tls)
        self.writer.write(self.packet((HEAD if tls is None else HEAD_FOR_TLS) + LOGIN))
        return await self.read()

    async def ask(self, code: int, rest: bytes = b"") -> list[bytes]:
        """The packets that answer a command: one, or those of a table with both its ends."""
        self.command(code, rest)
        return await self.answer()

    async def answer(self) -> list[bytes]:
        packets = [await self.read()]
        if packets[0][0] in {OK, ERROR}:
            return packets
        for _ in range(2):
            while True:
                packets.append(await self.read())
                if (packets[-1][0] == EOF and len(packets[-1]) < 9) or packets[-1][0] == ERROR:
                    break
        return packets

    async def rows(self, text: str) -> list[bytes]:
        """The text rows, as they are on the wire."""
        packets = await self.ask(QUERY, text.encode())
        assert packets[0][0] != ERROR, packets[0]
        return packets[packets[0][0] + 2 : -1] if len(packets) > 1 else []

    async def is_closed(self) -> bool:
        """Wait for the end; whether nothing more came."""
        try:
            return await self.reader.read() == b""
        except ConnectionError:
            return True


def error_of(packets: list[bytes]) -> tuple[int, str]:
    """Code and text of the error that is the last packet."""
    assert packets[-1][0] == ERROR
    return int.from_bytes(packets[-1][1:3], "little"), packets[-1][9:].decode()


@asynccontextmanager
async def mysql(address: tuple[str, int], *, log_in: bool = True) -> AsyncIterator[MysqlClient]:
    """A client, logged in unless told otherwise."""
    reader, writer = await asyncio.open_connection(*address)
    client = MysqlClient(reader, writer)
    try:
        if log_in:
            assert (await client.log_in())[0] == OK
        yield client
    finally:
        writer.close()
