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
from functools import partial
from typing import Final, cast

from cubequeue_server.access.credentials import Credentials, Verdict
from cubequeue_server.net.http_head import Answer, Head, RefusedError, take_head
from cubequeue_server.settings.values import Endpoint

_MAX_HEAD_BYTES = 8 * 1024
_REQUEST_TIMEOUT_S = 5.0
_TLS_SHUTDOWN_TIMEOUT_S = 1.0
_MAX_CONNECTIONS = 256

_log = logging.getLogger(__name__)

# Whoever runs probes has no credentials, and learns nothing from them that a connection attempt does not tell.
_OPEN_PATHS: Final = frozenset({b"/livez", b"/readyz"})


# 401 and not the 403 of the WebSocket port: it makes a browser ask its user.
_REFUSALS: Mapping[Verdict, Answer] = {
    Verdict.REFUSED: Answer(401, headers={"www-authenticate": 'Basic realm="cubequeue", charset="UTF-8"'}),
    Verdict.BUSY: Answer(503),
}

# A route that has to wait for something answers with an awaitable.
Route = Callable[[Head], Answer | Awaitable[Answer]]


def probe(check: Callable[[], None]) -> Route:
    """A route that answers 200, or 500 when `check` raises; the body is empty either way."""

    def answer(_request: Head) -> Answer:
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
        self._pages: dict[bytes, Route] = {}
        self._actions: dict[bytes, Route] = {}
        self._by_method = {b"GET": self._pages, b"HEAD": self._pages, b"POST": self._actions}
        self.is_complete = asyncio.Event()
        self.add(routes, actions)

    def add(self, routes: Mapping[str, Route], actions: Mapping[str, Route]) -> None:
        self._pages.update((path.encode(), route) for path, route in routes.items())
        self._actions.update((path.encode(), route) for path, route in actions.items())

    def find(self, request: Head) -> Route | None:
        return self._by_method.get(request.method, {}).get(request.path)

    def allows(self, request: Head) -> bool:
        """Whether the method may be used: POST only where it does something."""
        return request.method in {b"GET", b"HEAD"} or request.path in self._actions


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
        self._buffer = bytearray()
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
        self._buffer += data
        try:
            read = take_head(self._buffer, _MAX_HEAD_BYTES)
        except RefusedError as refused:
            self._send(Answer(refused.status), with_body=True)
            return
        if read is not None:
            self._answer(read[0])

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

    def _answer(self, request: Head) -> None:
        if self._routes.is_complete.is_set() or self._routes.find(request) is not None:
            self._admit(request)
        else:
            self._is_answered = True  # from here on nothing more is read
            self._task = asyncio.get_running_loop().create_task(self._admit_later(request))

    async def _admit_later(self, request: Head) -> None:
        await self._routes.is_complete.wait()
        self._admit(request)

    def _admit(self, request: Head) -> None:
        if not self._routes.allows(request):
            self._send(Answer(405), with_body=True)
        elif request.path in _OPEN_PATHS or not self._credentials.are_demanded:
            self._serve(request, Verdict.ADMITTED)
        else:
            self._is_answered = True
            self._credentials.check_header(request.header(b"authorization"), partial(self._serve, request))

    def _serve(self, request: Head, verdict: Verdict) -> None:
        with_body = request.method != b"HEAD"
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
        self._transport.write(answer.encode(has_body=with_body))
        self._transport.close()


def _not_found(_request: Head) -> Answer:
    return Answer(404)
