"""A blocking client of few lines on a bare socket: what it costs is little beside what a server does."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from types import TracebackType

from protocol.client_codec import ErrorReply, QueryEncoder, Reply, Rows, decode_reply, encode_query
from protocol.messages import ResponseFormat

_HEAD = (
    b"GET /ws HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_BINARY, _CLOSE, _PING, _PONG = 2, 8, 9, 10
_WINDOW = 256  # requests in flight while many are sent: more would only wait in buffers


def frame(payload: bytes, opcode: int = _BINARY) -> bytes:
    """One frame, masked with the key 0: masking is then the identity."""
    size = len(payload)
    if size < 126:
        head = struct.pack(">BB", 0x80 | opcode, 0x80 | size)
    elif size < 65_536:
        head = struct.pack(">BBH", 0x80 | opcode, 0x80 | 126, size)
    else:
        head = struct.pack(">BBQ", 0x80 | opcode, 0x80 | 127, size)
    return head + bytes(4) + payload


class Client:
    """One connection; `name` is its connection id, under which answers are kept."""

    def __init__(self, port: int, name: str, timeout_s: float = 120.0) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(_HEAD)
        self._input = self._socket.makefile("rb", buffering=1 << 18)
        while self._input.readline() not in {b"\r\n", b""}:
            pass
        self._encoder = QueryEncoder(name)
        self._name = name
        self._sent = 0

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Without a word."""
        self._input.close()
        self._socket.close()

    def send(self, query: bytes, *, arrow: bool = False, parameters: tuple[bytes, ...] | None = None) -> None:
        """Send one query."""
        self._socket.sendall(self._framed(query, arrow, parameters))

    def send_at_once(self, queries: Sequence[tuple[bytes, bool]]) -> None:
        """Send some queries, each with whether its reply is to be Arrow, so that the server reads them together."""
        self._socket.sendall(b"".join(self._framed(query, arrow, None) for query, arrow in queries))

    def _framed(self, query: bytes, arrow: bool, parameters: tuple[bytes, ...] | None) -> bytes:
        self._sent += 1
        if arrow or parameters is not None:
            format_ = ResponseFormat.ARROW if arrow else ResponseFormat.LEGACY
            message = encode_query(self._sent, query, parameters, connection_id=self._name, response_format=format_)
        else:
            message = self._encoder.encode(self._sent, query)
        return frame(message)

    def receive(self) -> bytes:
        """The next message, not decoded; pings are answered on the way."""
        while True:
            head = self._read(2)
            size = head[1] & 127
            if size >= 126:
                size = int.from_bytes(self._read(2 if size == 126 else 8), "big")
            payload = self._read(size)
            opcode = head[0] & 15
            if opcode == _BINARY:
                return payload
            if opcode == _PING:
                self._socket.sendall(frame(payload, _PONG))
            elif opcode == _CLOSE:
                raise ConnectionError(f"closed by the server: {payload[2:].decode(errors='replace')}")

    def _read(self, size: int) -> bytes:
        data: bytes = self._input.read(size)
        if len(data) < size:
            raise ConnectionError("the server hung up")
        return data

    def answer(self) -> Reply:
        """The next message as a reply that is no error."""
        reply = decode_reply(self.receive())
        if isinstance(reply, ErrorReply):
            raise RuntimeError(reply.text)
        return reply

    def ask(self, query: bytes) -> list[tuple[bytes | None, ...]]:
        """Send a query; its rows."""
        self.send(query)
        reply = self.answer()
        assert isinstance(reply, Rows)
        return reply.rows

    def ask_all(self, queries: list[bytes]) -> None:
        """Send many, with a window of them in flight; each has to be answered without an error."""
        for number, query in enumerate(queries):
            self.send(query)
            if number >= _WINDOW:
                self.answer()
        for _ in range(min(len(queries), _WINDOW)):
            self.answer()
