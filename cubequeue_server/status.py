"""The status port: a very small HTTP/1.1 server for probes (config.md §2), bounded in everything.

One request a connection; only GET and HEAD; the head has a size limit and a time limit, and the number of
connections is capped: whoever can reach this port can neither hold the process up nor fill its memory.

Adding a page: one more entry of the route table that `StatusServer` is given.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from cubequeue_server.settings_values import Endpoint

_MAX_HEAD_BYTES = 8 * 1024
_REQUEST_TIMEOUT_S = 5.0
_MAX_CONNECTIONS = 256

_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
_log = logging.getLogger(__name__)


@dataclass(slots=True, frozen=True)
class Answer:
    """What a route answers."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"


Route = Callable[[], Answer]


def probe(check: Callable[[], None]) -> Route:
    """A route that answers 200, or 500 when `check` raises; the body is empty either way."""

    def answer() -> Answer:
        try:
            check()
        except Exception:
            _log.warning("a probe failed", exc_info=True)
            return Answer(500)
        return Answer(200)

    return answer


class StatusServer:
    """Listens at an endpoint and answers by the route table, from the path (without its query) to a route."""

    def __init__(self, endpoint: Endpoint, routes: Mapping[str, Route]) -> None:
        self._endpoint = endpoint
        self._routes = routes
        self._server: asyncio.Server | None = None
        self._open: set[_StatusConnection] = set()

    async def start(self) -> None:
        """Listen. Raises OSError when the address cannot be had."""
        loop = asyncio.get_running_loop()
        host, port = self._endpoint
        self._server = await loop.create_server(lambda: _StatusConnection(self._routes, self._open), host, port)

    @property
    def address(self) -> Endpoint:
        """Where it really listens, the port that the kernel chose included."""
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()[:2]
        return Endpoint(host, port)

    async def stop(self) -> None:
        """Close the listener and every connection."""
        if self._server is None:
            return
        self._server.close()
        for connection in list(self._open):
            connection.abort()
        await self._server.wait_closed()


class _StatusConnection(asyncio.Protocol):
    """One connection: collects a request head, answers it, closes."""

    def __init__(self, routes: Mapping[str, Route], open_connections: set[_StatusConnection]) -> None:
        self._routes = routes
        self._open = open_connections
        self._head = bytearray()
        self._transport: asyncio.Transport | None = None
        self._timeout: asyncio.TimerHandle | None = None
        self._is_answered = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not derive from it
        self._timeout = asyncio.get_running_loop().call_later(_REQUEST_TIMEOUT_S, self.abort)
        too_many = len(self._open) >= _MAX_CONNECTIONS
        self._open.add(self)
        if too_many:
            self._send(Answer(503), with_body=True)

    def data_received(self, data: bytes) -> None:
        if self._is_answered:
            return
        self._head += data
        end = self._head.find(b"\r\n\r\n")
        if max(end, 0 if end >= 0 else len(self._head)) > _MAX_HEAD_BYTES:
            self._send(Answer(431), with_body=True)
        elif end >= 0:
            self._answer(bytes(self._head[:end]))

    def connection_lost(self, exc: Exception | None) -> None:
        self._open.discard(self)
        if self._timeout is not None:
            self._timeout.cancel()
        self._transport = None

    def abort(self) -> None:
        """Drop the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def _answer(self, head: bytes) -> None:
        words = head.split(b"\r\n", 1)[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            self._send(Answer(400), with_body=True)
            return
        method, target, _ = words
        if method not in {b"GET", b"HEAD"}:
            self._send(Answer(405), with_body=True)
            return
        route = self._routes.get(target.split(b"?", 1)[0].decode("latin-1"))
        self._send(Answer(404) if route is None else route(), with_body=method == b"GET")

    def _send(self, answer: Answer, *, with_body: bool) -> None:
        self._is_answered = True
        if self._transport is None:
            return
        head = (
            f"HTTP/1.1 {answer.status} {_REASONS.get(answer.status, 'Status')}\r\n"
            f"content-type: {answer.content_type}\r\ncontent-length: {len(answer.body)}\r\nconnection: close\r\n\r\n"
        )
        self._transport.write(head.encode("latin-1") + (answer.body if with_body else b""))
        self._transport.close()
