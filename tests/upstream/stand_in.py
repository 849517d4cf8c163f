"""A stand-in of CubeStore: the behaviour that a pass-through meets (wire.md §1 to §3), and faults at a word.

Answers are those that a real CubeStore 1.6.60 gave (`tests/recorded`), or what a test says. What it received is kept
byte for byte.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import ssl
import struct
import time
from base64 import b64decode
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from cubequeue_server.net.http_head import accept_of
from protocol.decode import Depth, decode_request
from protocol.encode import encode_error, encode_result
from protocol.flat import fields, follow
from protocol.messages import Request
from storage.vocabulary import Columns, ColumnType, Result
from tests.recorded.files import upstream_exchanges

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

COMPLETE_KEPT_S: Final = 600.0
_MAX_CONTENT_BYTES: Final = 1 << 20

# What is done with a statement: a reply, or None for no reply at all.
Answer = Callable[["Received"], Awaitable[bytes | None]]
Key = tuple[bytes, int]


@dataclass
class Received:
    """A message as it came, on the connection of this number."""

    connection: Connection
    raw: bytes
    request: Request

    @property
    def text(self) -> str:
        return self.request.query.decode()

    def forget(self) -> None:
        """It ends here: a repeat runs anew."""
        self.connection.stand_in.forget(self.request)


@dataclass
class Upload:
    """A file that was sent, by the head of its request."""

    head: bytes
    size: int = 0
    digest: str = ""
    is_whole: bool = False
    content: bytes = b""  # of a small one


@dataclass
class _Kept:
    """An entry of the de-duplication table."""

    receivers: list[Connection] = field(default_factory=list)
    reply: bytes | None = None
    since_s: float = 0.0


class Connection:
    """One WebSocket."""

    def __init__(self, stand_in: StandIn, number: int, head: bytes, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.head = head
        self.is_open = True
        self.pings = 0
        self.stand_in = stand_in
        self._writer = writer

    def header(self, name: str) -> str | None:
        found = re.search(rf"(?im)^{name}:[ \t]*(.*?)\r?$", self.head.decode("latin-1"))
        return None if found is None else found[1]

    def send(self, opcode: int, payload: bytes, *, fin: bool = True) -> None:
        if self.is_open:
            size = len(payload)
            first = (0x80 if fin else 0) | opcode
            if size < 126:
                header = struct.pack(">BB", first, size)
            elif size < 65_536:
                header = struct.pack(">BBH", first, 126, size)
            else:
                header = struct.pack(">BBQ", first, 127, size)
            self._writer.writelines([header, payload])

    def reply(self, message: bytes) -> None:
        self.send(BINARY, message)

    def close(self, code: int, reason: str) -> None:
        self.send(CLOSE, struct.pack(">H", code) + reason.encode())
        self.is_open = False
        self._writer.close()

    @property
    def executed(self) -> Counter[Key]:
        """What the stand-in has executed."""
        return self.stand_in.executed

    def drop(self) -> None:
        """Without a word."""
        self.is_open = False
        self._writer.transport.abort()


class StandIn:
    """Listens on a port of this machine. `start` and `stop` may follow each other: it comes back on the same port."""

    def __init__(self, version: str | None = "1.6.60", *, tls: ssl.SSLContext | None = None) -> None:
        self.version = version
        self.credentials: tuple[str, str] | None = None
        self.port = 0
        self.received: list[Received] = []
        self.replies: list[bytes] = []  # that reached a living connection
        self.executed: Counter[Key] = Counter()
        self.connections: list[Connection] = []
        self.uploads: list[Upload] = []
        self.deaths = 0
        self.answer: Answer = recorded_answer
        self.upload_answer: Callable[[Upload], Awaitable[bytes]] = _stored
        self.upload_bytes_per_s: float | None = None
        self.answers_pings = True
        self.keeps_alive = True  # connections of uploads
        self.is_uploading = 0
        self.is_reading = asyncio.Event()
        self.is_reading.set()
        self._tls = tls
        self._kept: dict[Key, _Kept] = {}
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._numbers = 0

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._tls, limit=1 << 20)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Die: all connections end, and all that was known is gone."""
        assert self._server is not None
        self._server.close()
        for connection in self.connections:
            if connection.is_open:
                connection.drop()
        for task in list(self._tasks):
            task.cancel()
        self._kept.clear()
        await self._server.wait_closed()

    def forget(self, request: Request) -> None:
        """Lose what is known of a message: a repeat of it runs anew."""
        if request.connection_id is not None:
            self._kept.pop((request.connection_id, request.message_id), None)

    def die(self) -> None:
        """As `stop`, from within an answer; the port is closed at once."""
        self.deaths += 1
        assert self._server is not None
        self._server.close()
        for connection in self.connections:
            if connection.is_open:
                connection.drop()
        self._kept.clear()

    @property
    def used_connections(self) -> set[int]:
        """The numbers of the connections that statements came on; others only looked whether somebody is there."""
        return {received.connection.number for received in self.received}

    @property
    def open_connections(self) -> list[Connection]:
        return [each for each in self.connections if each.is_open]

    def texts(self) -> list[str]:
        return [each.text for each in self.received]

    # One client

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                await self._serve_request(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _serve_request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if not self._is_authorized(head):
            body = json.dumps({"error": "Not authorized"}).encode()
            writer.write(
                b"HTTP/1.1 403 Forbidden\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
                % (len(body), body)
            )
            await writer.drain()
            while await reader.read(1 << 16):  # a reset could overtake the answer
                pass
            return
        if head.startswith(b"GET /ws "):
            await self._serve_websocket(head, reader, writer)
        else:
            self.is_uploading += 1
            try:
                await self._serve_upload(head, reader, writer)
            finally:
                self.is_uploading -= 1

    def _is_authorized(self, head: bytes) -> bool:
        if self.credentials is None:
            return True
        found = re.search(rb"(?im)^authorization: basic (\S+)\r$", head)
        return found is not None and b64decode(found[1]).decode() == ":".join(self.credentials)

    async def _serve_websocket(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        key = re.search(rb"(?im)^sec-websocket-key: (\S+)\r$", head)
        assert key is not None
        announced = f"x-cubestore-version: {self.version}\r\n" if self.version else ""
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
            b"sec-websocket-accept: %b\r\n%b\r\n" % (accept_of(key[1]), announced.encode())
        )
        self._numbers += 1
        connection = Connection(self, self._numbers, head, writer)
        self.connections.append(connection)
        parts: list[bytes] = []
        try:
            while True:
                await self.is_reading.wait()
                opcode, fin, payload = await _read_frame(reader)
                if opcode == PING:
                    connection.pings += 1
                    if self.answers_pings:
                        connection.send(PONG, b"")  # empty, whatever the ping held
                elif opcode == CLOSE:
                    return
                elif opcode in {BINARY, CONTINUATION}:
                    parts.append(payload)
                    if fin:
                        self._receive(connection, b"".join(parts))
                        parts = []
                await writer.drain()
        finally:
            connection.is_open = False

    # Statements

    def _receive(self, connection: Connection, raw: bytes) -> None:
        request = decode_request(raw, depth=Depth.VALUES)
        received = Received(connection, raw, request)
        self.received.append(received)
        if request.connection_id is None:
            self._spawn(self._execute(received, None))
            return
        key = (request.connection_id, request.message_id)
        now_s = time.monotonic()
        for old, kept in list(self._kept.items()):
            if kept.reply is not None and now_s - kept.since_s > COMPLETE_KEPT_S:
                del self._kept[old]
        known = self._kept.get(key)
        if known is None:
            self._kept[key] = _Kept([connection])
            self._spawn(self._execute(received, key))
        elif known.reply is None:
            known.receivers.append(connection)
        else:
            del self._kept[key]
            connection.reply(known.reply)

    def _spawn(self, coroutine: Awaitable[None]) -> None:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _execute(self, received: Received, key: Key | None) -> None:
        if key is not None:
            self.executed[key] += 1
        reply = await self.answer(received)
        if reply is None:
            return
        kept = _Kept([received.connection]) if key is None else self._kept.get(key)
        if kept is None:  # it has died meanwhile
            return
        living = [each for each in kept.receivers if each.is_open]
        for connection in living:
            self.replies.append(reply)
            connection.reply(reply)
        if key is not None and living:
            del self._kept[key]
        else:
            kept.reply, kept.since_s = reply, time.monotonic()

    # Uploads

    async def _serve_upload(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upload = Upload(head)
        self.uploads.append(upload)
        digest = hashlib.sha256()
        length = re.search(rb"(?im)^content-length: (\d+)\r$", head)
        if b"chunked" in head.lower():
            while size := int(await reader.readuntil(b"\r\n"), 16):
                await self._take(upload, digest, await reader.readexactly(size))
                await reader.readexactly(2)
            await reader.readexactly(2)
        elif length is not None:
            left = int(length[1])
            while left:
                data = await reader.read(min(left, 1 << 16))
                if not data:
                    return
                left -= len(data)
                await self._take(upload, digest, data)
        upload.is_whole = True
        upload.digest = digest.hexdigest()
        writer.write(await self.upload_answer(upload))
        await writer.drain()
        if self.keeps_alive:  # as a real one does, which reads the next request
            await reader.read()

    async def _take(self, upload: Upload, digest: hashlib._Hash, data: bytes) -> None:
        await self.is_reading.wait()
        upload.size += len(data)
        digest.update(data)
        if upload.size <= _MAX_CONTENT_BYTES:
            upload.content += data
        if self.upload_bytes_per_s is not None:
            await asyncio.sleep(len(data) / self.upload_bytes_per_s)


async def _stored(_upload: Upload) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\ndate: Sat, 28 Nov 2026 13:06:50 GMT\r\n\r\n"


async def _read_frame(reader: asyncio.StreamReader) -> tuple[int, bool, bytes]:
    first, second = await reader.readexactly(2)
    assert second & 0x80, "a client masks"
    size = second & 0x7F
    if size == 126:
        (size,) = struct.unpack(">H", await reader.readexactly(2))
    elif size == 127:
        (size,) = struct.unpack(">Q", await reader.readexactly(8))
    mask = await reader.readexactly(4)
    masked = await reader.readexactly(size)
    key = (mask * (size // 4 + 1))[:size]
    payload = (int.from_bytes(masked, "little") ^ int.from_bytes(key, "little")).to_bytes(size, "little")
    return first & 0x0F, bool(first & 0x80), payload


# Answers

_RECORDED: Final = {(each.sql, each.format == "arrow"): each.reply for each in upstream_exchanges()}
_ROWS: Final = Columns(("answer", ColumnType.STRING))


def with_id(reply: bytes, message_id: int) -> bytes:
    """A recorded reply for another message."""
    root = follow(reply, 0)
    (place,) = fields(reply, root, 1)
    assert place, "every recorded reply has an id that is not the default"
    return reply[: root + place] + struct.pack("<I", message_id) + reply[root + place + 4 :]


async def recorded_answer(received: Received) -> bytes | None:
    """What a real CubeStore answered to this text; the text itself where none was recorded."""
    request = received.request
    known = _RECORDED.get((received.text, bool(request.response_format)))
    if known is not None:
        return with_id(known, request.message_id)
    return text_answer(received, received.text)


def text_answer(received: Received, text: str) -> bytes:
    """One row of one text."""
    return encode_result(received.request.message_id, Result(_ROWS, [(text.encode(),)]))


def error_answer(received: Received, text: str) -> bytes:
    return encode_error(received.request.message_id, text)
