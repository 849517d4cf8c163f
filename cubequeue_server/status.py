"""The status port: a very small HTTP/1.1 server for probes (config.md §2), bounded in everything.

One request a connection; only GET and HEAD; the head has a size limit and a time limit, and the number of
connections is capped: whoever can reach this port can neither hold the process up nor fill its memory.
Where clients need credentials, so does every page but the probes.

Adding a page: one more entry of the route table that `StatusServer` is given.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final, cast

from cubequeue_server.auth import Credentials, Verdict
from cubequeue_server.settings_values import Endpoint

_MAX_HEAD_BYTES = 8 * 1024
_REQUEST_TIMEOUT_S = 5.0
_TLS_SHUTDOWN_TIMEOUT_S = 1.0
_MAX_CONNECTIONS = 256

_REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
_log = logging.getLogger(__name__)

# Whoever runs probes has no credentials, and learns nothing from them that a connection attempt does not tell.
_OPEN_PATHS: Final = frozenset({"/livez", "/readyz"})


@dataclass(slots=True, frozen=True)
class Answer:
    """What a route answers."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)


# 401 and not the 403 of the WebSocket port: it makes a browser ask its user.
_REFUSALS: Mapping[Verdict, Answer] = {
    Verdict.REFUSED: Answer(401, headers={"www-authenticate": 'Basic realm="cubequeue", charset="UTF-8"'}),
    Verdict.BUSY: Answer(503),
}

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
    """Listens at an endpoint and answers by the route table, from the path (without its query) to a route.

    `credentials` are what all paths but those of the probes demand; with `tls` it speaks HTTPS.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        routes: Mapping[str, Route],
        credentials: Credentials | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._routes = routes
        self._credentials = Credentials() if credentials is None else credentials
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._open: set[_StatusConnection] = set()

    async def start(self) -> None:
        """Listen. Raises OSError when the address cannot be had."""
        loop = asyncio.get_running_loop()
        host, port = self._endpoint
        self._server = await loop.create_server(
            lambda: _StatusConnection(self._routes, self._credentials, self._open),
            host,
            port,
            ssl=self._tls,
            ssl_handshake_timeout=None if self._tls is None else _REQUEST_TIMEOUT_S,
            ssl_shutdown_timeout=None if self._tls is None else _TLS_SHUTDOWN_TIMEOUT_S,
        )

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

    def __init__(
        self, routes: Mapping[str, Route], credentials: Credentials, open_connections: set[_StatusConnection]
    ) -> None:
        self._routes = routes
        self._credentials = credentials
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
        path = target.split(b"?", 1)[0].decode("latin-1")
        if path in _OPEN_PATHS or not self._credentials.are_demanded:
            self._serve(path, method == b"GET", Verdict.ADMITTED)
        else:
            self._is_answered = True  # from here on nothing more is read
            self._credentials.check_header(_authorization(head), partial(self._serve, path, method == b"GET"))

    def _serve(self, path: str, with_body: bool, verdict: Verdict) -> None:
        route = self._routes.get(path)
        if verdict is Verdict.ADMITTED:
            self._send(Answer(404) if route is None else route(), with_body=with_body)
        else:
            self._send(_REFUSALS[verdict], with_body=with_body)

    def _send(self, answer: Answer, *, with_body: bool) -> None:
        self._is_answered = True
        if self._transport is None:
            return
        head = (
            f"HTTP/1.1 {answer.status} {_REASONS.get(answer.status, 'Status')}\r\n"
            f"content-type: {answer.content_type}\r\ncontent-length: {len(answer.body)}\r\nconnection: close\r\n"
        ) + "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
        self._transport.write(head.encode("latin-1") + b"\r\n" + (answer.body if with_body else b""))
        self._transport.close()


def _authorization(head: bytes) -> bytes | None:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"authorization":
            return value.strip()
    return None
