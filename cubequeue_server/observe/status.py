"""The status port: a very small HTTP/1.1 server for probes (config.md §2), bounded in everything.

One request a connection; GET and HEAD, and POST to the few paths that do something; the head has a size limit and a
time limit, a body is not read, and the number of connections is capped: whoever can reach this port can neither hold
the process up nor fill its memory. Where clients need credentials, so does every page but the probes.

Adding a page: one more entry of the route table that `StatusServer` is given.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final, cast
from urllib.parse import parse_qsl

from cubequeue_server.access.credentials import Credentials, Verdict
from cubequeue_server.settings.values import Endpoint

_MAX_HEAD_BYTES = 8 * 1024
_REQUEST_TIMEOUT_S = 5.0
_TLS_SHUTDOWN_TIMEOUT_S = 1.0
_MAX_CONNECTIONS = 256

_REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
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


@dataclass(slots=True, frozen=True)
class PageRequest:
    """What a route is asked. Names of headers are in lower case; a repeated parameter or header counts once."""

    method: str
    path: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


# 401 and not the 403 of the WebSocket port: it makes a browser ask its user.
_REFUSALS: Mapping[Verdict, Answer] = {
    Verdict.REFUSED: Answer(401, headers={"www-authenticate": 'Basic realm="cubequeue", charset="UTF-8"'}),
    Verdict.BUSY: Answer(503),
}

# A route that has to wait for something answers with an awaitable.
Route = Callable[[PageRequest], Answer | Awaitable[Answer]]


def probe(check: Callable[[], None]) -> Route:
    """A route that answers 200, or 500 when `check` raises; the body is empty either way."""

    def answer(_request: PageRequest) -> Answer:
        try:
            check()
        except Exception:
            _log.warning("a probe failed", exc_info=True)
            return Answer(500)
        return Answer(200)

    return answer


class StatusServer:
    """Listens at an endpoint and answers by the route table, from the path (without its query) to a route.

    `actions` are the routes of POST. `credentials` are what all paths but those of the probes demand; with `tls` it
    speaks HTTPS. Where `more_follow`, who asks for an unknown path waits until `add` has brought the others.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        routes: Mapping[str, Route],
        credentials: Credentials | None = None,
        tls: ssl.SSLContext | None = None,
        actions: Mapping[str, Route] | None = None,
        *,
        more_follow: bool = False,
    ) -> None:
        self._endpoint = endpoint
        self._table = _RouteTable(routes, actions or {})
        if not more_follow:
            self._table.is_complete.set()
        self._credentials = Credentials() if credentials is None else credentials
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._open: set[_StatusConnection] = set()

    async def start(self) -> None:
        """Listen. Raises OSError when the address cannot be had."""
        loop = asyncio.get_running_loop()
        host, port = self._endpoint
        self._server = await loop.create_server(
            lambda: _StatusConnection(self._table, self._credentials, self._open),
            host,
            port,
            ssl=self._tls,
            ssl_handshake_timeout=None if self._tls is None else _REQUEST_TIMEOUT_S,
            ssl_shutdown_timeout=None if self._tls is None else _TLS_SHUTDOWN_TIMEOUT_S,
        )

    def add(self, routes: Mapping[str, Route], actions: Mapping[str, Route]) -> None:
        """Serve these too, and whoever waits for them."""
        self._table.add(routes, actions)
        self._table.is_complete.set()

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


class _RouteTable:
    """The routes by method and path; `is_complete` once all of them are there."""

    def __init__(self, routes: Mapping[str, Route], actions: Mapping[str, Route]) -> None:
        self._pages = dict(routes)
        self._actions = dict(actions)
        self._by_method = {"GET": self._pages, "HEAD": self._pages, "POST": self._actions}
        self.is_complete = asyncio.Event()

    def add(self, routes: Mapping[str, Route], actions: Mapping[str, Route]) -> None:
        self._pages.update(routes)
        self._actions.update(actions)

    def find(self, request: PageRequest) -> Route | None:
        return self._by_method.get(request.method, {}).get(request.path)

    def allows(self, request: PageRequest) -> bool:
        """Whether the method may be used: POST only where it does something."""
        return request.method in {"GET", "HEAD"} or request.path in self._actions


class _StatusConnection(asyncio.Protocol):
    """One connection: collects a request head, answers it, closes."""

    def __init__(
        self,
        routes: _RouteTable,
        credentials: Credentials,
        open_connections: set[_StatusConnection],
    ) -> None:
        self._routes = routes
        self._credentials = credentials
        self._open = open_connections
        self._head = bytearray()
        self._transport: asyncio.Transport | None = None
        self._timeout: asyncio.TimerHandle | None = None
        self._is_answered = False
        self._task: asyncio.Task[None] | None = None

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
        if self._task is not None:
            self._task.cancel()
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
        request = _page_request(words, head)
        if self._routes.is_complete.is_set() or self._routes.find(request) is not None:
            self._admit(request)
        else:
            self._is_answered = True  # from here on nothing more is read
            self._task = asyncio.get_running_loop().create_task(self._admit_later(request))

    async def _admit_later(self, request: PageRequest) -> None:
        await self._routes.is_complete.wait()
        self._admit(request)

    def _admit(self, request: PageRequest) -> None:
        if not self._routes.allows(request):
            self._send(Answer(405), with_body=True)
        elif request.path in _OPEN_PATHS or not self._credentials.are_demanded:
            self._serve(request, Verdict.ADMITTED)
        else:
            self._is_answered = True
            authorization = request.headers.get("authorization")
            raw = None if authorization is None else authorization.encode("latin-1")
            self._credentials.check_header(raw, partial(self._serve, request))

    def _serve(self, request: PageRequest, verdict: Verdict) -> None:
        with_body = request.method != "HEAD"
        if verdict is not Verdict.ADMITTED:
            self._send(_REFUSALS[verdict], with_body=with_body)
            return
        route = self._routes.find(request) or _not_found
        try:
            answer = route(request)
        except Exception:
            _log.exception("a page failed unexpectedly")
            answer = Answer(500)
        if isinstance(answer, Answer):
            self._send(answer, with_body=with_body)
        else:
            self._is_answered = True
            self._task = asyncio.get_running_loop().create_task(self._serve_later(answer, with_body))

    async def _serve_later(self, waited_for: Awaitable[Answer], with_body: bool) -> None:
        try:
            answer = await waited_for
        except Exception:
            _log.exception("a page failed unexpectedly")
            answer = Answer(500)
        self._send(answer, with_body=with_body)

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


def _not_found(_request: PageRequest) -> Answer:
    return Answer(404)


def _page_request(request_line: list[bytes], head: bytes) -> PageRequest:
    method, target, _ = (word.decode("latin-1") for word in request_line)
    path, _, query = target.partition("?")
    lines = (line.decode("latin-1").partition(":") for line in head.split(b"\r\n")[1:])
    headers = {name.strip().lower(): value.strip() for name, _, value in lines}
    return PageRequest(method, path, dict(parse_qsl(query, keep_blank_values=True)), headers)
