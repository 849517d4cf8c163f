"""The status port: a small HTTP/1.1 server for probes, metrics and the live page (config.md §2).

One request a connection: GET and HEAD, and POST for actions. The head is limited in size, the request in time, and the
connections in number; a body is not read. Nobody who can reach this port can block the process or fill its memory, or
keep it from answering probes: a silent connection makes room, and requests that are being answered have room of their
own. Where clients need credentials, all paths but the probes need them too.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Final, cast

from cubequeue_server.access.browsers import AllowedHosts
from cubequeue_server.access.credentials import Credentials, Verdict, basic_credentials
from cubequeue_server.net.entrance import TlsEntrance
from cubequeue_server.net.http_head import Answer, Head, RefusedError, take_head
from cubequeue_server.observe.counters import Counters
from cubequeue_server.observe.logs import log_event
from cubequeue_server.server import peer_of
from cubequeue_server.settings.values import Endpoint

_MAX_HEAD_BYTES: Final = 8 * 1024
_REQUEST_TIMEOUT_S: Final = 5.0
_TLS_SHUTDOWN_TIMEOUT_S: Final = 1.0
MAX_WAITING: Final = 128  # connections without a request, or with a refused one; the oldest makes room
MAX_ANSWERING: Final = 64  # requests, until their answer is read; probes are answered beside them
MAX_SOCKETS: Final = MAX_WAITING + MAX_ANSWERING

# Probes come without credentials; their answer says no more than a connection attempt does.
_PROBES: Final = frozenset({b"/livez", b"/readyz"})
# Kubelet, balancers and Prometheus send any Host.
_ANY_HOST: Final = _PROBES | {b"/metrics"}

# 401, not the WebSocket port's 403: with 401 a browser asks its user for credentials.
_ASK: Final = {"www-authenticate": 'Basic realm="cubequeue", charset="UTF-8"'}
_MISSING: Final = Answer(
    401, b"This server has users: give a name and its password. /livez and /readyz need none.\n", headers=_ASK
)
_REFUSALS: Final[Mapping[Verdict, Answer]] = {
    Verdict.REFUSED: Answer(
        401, b"Wrong name or password: CUBEQUEUE_USER or CUBEQUEUE_USERS_FILE of the server has it.\n", headers=_ASK
    ),
    Verdict.BUSY: Answer(503, b"Too many passwords are being checked: try again.\n"),
}
_NOT_HERE: Final = Answer(
    404, b"Nothing is at this path. The page is at /, metrics at /metrics, probes at /livez and /readyz.\n"
)
_NO_WEBSOCKET: Final = Answer(
    404, b"This is the status port of cubequeue. Clients connect to the WebSocket port, CUBESTORE_HTTP_PORT (3030).\n"
)
_NOT_ALLOWED: Final = Answer(405, b"This path takes GET and HEAD.\n", headers={"allow": "GET, HEAD"})
_FAILED: Final = Answer(500, b"This page failed. The log of cubequeue says why.\n")
_NOT_READY: Final = Answer(
    500, b"Not ready: statements are refused. The log of cubequeue says why, and so does its page.\n"
)

_TOO_MANY: Final = Answer(503, b"too many requests at once\n", headers={"retry-after": "1"})
_FOREIGN: Final = Answer(
    403,
    b"The page is not served under this name: name it in CUBEQUEUE_ALLOWED_HOSTS, or use the address of the server.\n",
)

_log = logging.getLogger(__name__)

# Answers a request at once, or with an awaitable.
Route = Callable[[Head], Answer | Awaitable[Answer]]


class NotReadyError(Exception):
    """The known reason of a probe that fails."""


def probe(check: Callable[[], None]) -> Route:
    """A route that answers 200, or 500 when `check` raises. The body is empty.

    A failure is logged when its reason changes, not each time: probes come every few seconds. Only an unknown one has a
    traceback.
    """
    logged = ""

    def answer(request: Head) -> Answer:
        nonlocal logged
        try:
            check()
        except Exception as error:
            if logged != (reason := repr(error)):
                is_known = isinstance(error, NotReadyError)
                fields = {"path": request.path, "reason": error}
                log_event(_log, logging.WARNING, "a probe failed", fields, None if is_known else error)
                logged = reason
            return _NOT_READY
        logged = ""
        return Answer(200)

    return answer


class StatusServer:
    """Answers requests at an endpoint by the path, without its query: GET and HEAD from `routes`, POST from `actions`.

    All paths but the probes need `credentials`, and all but those and the metrics a name of `hosts`. With `tls` it
    speaks HTTPS. With `more_follow`, requests for unknown paths wait until `add` was called.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        routes: Mapping[str, Route],
        credentials: Credentials | None = None,
        tls: ssl.SSLContext | None = None,
        actions: Mapping[str, Route] | None = None,
        *,
        hosts: AllowedHosts | None = None,
        counters: Counters | None = None,
        more_follow: bool = False,
    ) -> None:
        self._endpoint = endpoint
        self._credentials = Credentials() if credentials is None else credentials
        self._tls = tls
        self._hosts = AllowedHosts() if hosts is None else hosts
        self._counters = Counters() if counters is None else counters
        self._routes: dict[bytes, Route] = {}
        self._actions: dict[bytes, Route] = {}
        self._is_complete = asyncio.Event()
        self.add(routes, actions or {})
        if more_follow:
            self._is_complete.clear()
        self._server: asyncio.Server | None = None
        self._waiting: dict[_StatusConnection, None] = {}  # in the order they came
        self._answering: set[_StatusConnection] = set()

    async def start(self) -> None:
        """Listen. Raises OSError when the address is not available."""
        loop = asyncio.get_running_loop()
        host, port = self._endpoint
        self._server = await loop.create_server(self._accept, host, port)

    def _accept(self) -> asyncio.Protocol:
        if len(self._waiting) >= MAX_WAITING:
            oldest = next(iter(self._waiting))
            del self._waiting[oldest]
            oldest.abort()
            self._counters.status_dropped += 1
        connection = _StatusConnection(self)
        self._waiting[connection] = None
        return connection if self._tls is None else connection.inside(self._tls)

    def forget(self, connection: _StatusConnection) -> None:
        """A connection has ended."""
        self._waiting.pop(connection, None)
        self._answering.discard(connection)

    def add(self, routes: Mapping[str, Route], actions: Mapping[str, Route]) -> None:
        """Add the last routes and actions."""
        self._routes.update((path.encode(), route) for path, route in routes.items())
        self._actions.update((path.encode(), route) for path, route in actions.items())
        self._is_complete.set()

    @property
    def address(self) -> Endpoint:
        """The address in use, with the port that the kernel chose."""
        assert self._server is not None
        return Endpoint(*self._server.sockets[0].getsockname()[:2])

    async def stop(self) -> None:
        """Close the listener and every connection."""
        if self._server is None:
            return
        self._server.close()
        for connection in [*self._waiting, *self._answering]:
            connection.abort()
        await self._server.wait_closed()

    async def answer(self, connection: _StatusConnection, request: Head) -> Answer:
        """The answer to the request of a connection."""
        if request.path not in _PROBES:
            if len(self._answering) >= MAX_ANSWERING:
                self._counters.status_refused += 1
                return _TOO_MANY
            self._waiting.pop(connection, None)
            self._answering.add(connection)
        if request.path not in _ANY_HOST and not self._hosts.admit(request.header(b"host")):
            self._counters.foreign_refused += 1
            return _FOREIGN
        return await self._answer(request)

    async def _answer(self, request: Head) -> Answer:
        if self._route(request) is None:
            await self._is_complete.wait()
        if request.method not in {b"GET", b"HEAD"} and request.path not in self._actions:
            return _NOT_ALLOWED
        if request.path not in _PROBES and self._credentials.are_demanded:
            given = basic_credentials(request.header(b"authorization") or b"")
            if given is None:
                return _MISSING
            verdict = await self._credentials.verify(*given)
            if verdict is not Verdict.ADMITTED:
                return _REFUSALS[verdict]
        route = self._route(request)
        if route is None:
            return _NO_WEBSOCKET if request.has_token(b"upgrade", b"websocket") else _NOT_HERE
        answer = route(request)
        return answer if isinstance(answer, Answer) else await answer

    def _route(self, request: Head) -> Route | None:
        routes = {b"GET": self._routes, b"HEAD": self._routes, b"POST": self._actions}.get(request.method, {})
        return routes.get(request.path)


class _StatusConnection(asyncio.Protocol):
    """One connection: reads the head of a request, answers it, and closes."""

    def __init__(self, server: StatusServer) -> None:
        self._server = server
        self._entrance: TlsEntrance | None = None
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._is_lost = False
        self._timeout: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def inside(self, tls: ssl.SSLContext) -> TlsEntrance:
        """What has to accept the connection instead, so that it begins with a TLS handshake."""
        self._entrance = TlsEntrance(
            self,
            tls,
            self._lose,
            silence_timeout_s=_REQUEST_TIMEOUT_S,
            handshake_timeout_s=_REQUEST_TIMEOUT_S,
            close_timeout_s=_TLS_SHUTDOWN_TIMEOUT_S,
        )
        return self._entrance

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's class does not derive from it
        if self._is_lost:
            self._transport.abort()
        else:
            self._timeout = asyncio.get_running_loop().call_later(_REQUEST_TIMEOUT_S, self.abort)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        if self._task is not None or self._transport.is_closing():
            return
        self._buffer += data
        try:
            read = take_head(self._buffer, _MAX_HEAD_BYTES)
        except RefusedError as refused:
            self._send(Answer(refused.status, f"{refused.text}\n".encode()))
            return
        if read is not None:
            request = replace(read[0], peer=peer_of(self._transport))
            self._task = asyncio.get_running_loop().create_task(self._serve(request))

    def connection_lost(self, _error: Exception | None) -> None:
        self._lose()

    def _lose(self) -> None:
        self._is_lost = True
        self._entrance = None  # breaks a cycle
        self._server.forget(self)
        if self._timeout is not None:
            self._timeout.cancel()
        if self._task is not None:
            self._task.cancel()

    def abort(self) -> None:
        """Drop the connection at once, even before it has a transport."""
        self._is_lost = True
        if self._entrance is not None:
            self._entrance.abort()
        if self._transport is not None:
            self._transport.abort()

    async def _serve(self, request: Head) -> None:
        try:
            answer = await self._server.answer(self, request)
        except Exception:
            _log.exception("a page failed unexpectedly")
            answer = _FAILED
        self._send(answer, has_body=request.method != b"HEAD")

    def _send(self, answer: Answer, *, has_body: bool = True) -> None:
        assert self._transport is not None
        self._transport.write(answer.encode(has_body=has_body))
        self._transport.close()
