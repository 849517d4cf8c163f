"""A connection before its upgrade: reads the head of one HTTP request, then upgrades or refuses (wire.md §1)."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from ipaddress import IPv6Address
from typing import Final, Protocol, TypeAlias, cast

from cubequeue_server.access.browsers import is_allowed_origin
from cubequeue_server.access.credentials import Credentials, Verdict, basic_credentials
from cubequeue_server.net.entrance import TlsEntrance, mysql_refusal
from cubequeue_server.net.http_head import Head, RefusedError, accept_key, error_response, take_head, upgrade_response
from cubequeue_server.net.lingering import Lingering
from cubequeue_server.options import ServerOptions
from cubequeue_server.settings.values import Endpoint

_log = logging.getLogger(__name__)

_MAX_PROCESS_ID_BYTES: Final = 64
_MAX_SHOWN_ORIGIN: Final = 200
_MAX_AGENT_BYTES: Final = 100

_UPLOAD_PATH: Final = b"/upload-temp-file"
_UPLOAD_TEXT: Final = (
    "cubequeue is a queue and cache server: it stores no pre-aggregations and takes no uploads. "
    "Set CUBEQUEUE_UPSTREAM to the CubeStore that keeps pre-aggregations, or build them in the source database "
    "(external: false)."
)


# Takes a connection, the head of its request, the process id in it, and the bytes behind it.
TakeUpload: TypeAlias = Callable[[asyncio.Transport, Head, bytes | None, bytes], None]


class Gate(Protocol):
    """Admits clients.

    `take_upload` takes a connection over that uploads a file; None where no files are taken.
    """

    take_upload: TakeUpload | None

    announced: bytes  # header lines about the server, for the 101 of a handshake

    def check_room(self) -> None:
        """Raise `RefusedError` when too many connections are open."""

    def count_foreign(self) -> None:
        """Count a request that is refused for its `Origin`."""

    def admit(
        self,
        transport: asyncio.Transport,
        user: bytes,
        process_id: bytes | None,
        already_read: bytes,
        *,
        agent: bytes,
        authorization: bytes | None,
    ) -> None:
        """Take a new WebSocket over; `already_read` followed its handshake. `user` may be empty, as `agent`.

        `authorization` is the value of that header.
        """


class Front(asyncio.Protocol):
    """One connection before its upgrade, limited in time and bytes. `on_done` is called once it is upgraded or lost."""

    __slots__ = (
        "_buffer", "_credentials", "_entrance", "_gate", "_is_done", "_is_silent", "_may_have_body", "_on_done",
        "_options", "_timer", "_transport"
    )  # fmt: skip

    def __init__(
        self,
        options: ServerOptions,
        gate: Gate,
        credentials: Credentials,
        on_done: Callable[[Front], None],
    ) -> None:
        self._options = options
        self._gate = gate
        self._credentials = credentials
        self._on_done = on_done
        self._buffer = bytearray()
        self._is_silent = True  # nothing was read yet
        self._is_done = False
        self._may_have_body = True
        self._entrance: TlsEntrance | None = None
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle | None = None  # until the request has arrived

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but its bases
        if self._is_done:
            self._transport.abort()
            return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._options.handshake_timeout_s / 2, self._on_silence)

    def data_received(self, data: bytes) -> None:
        if self._is_done:
            return
        self._is_silent = False
        self._buffer += data
        self._guarded(self._read_request)

    def connection_lost(self, _error: Exception | None) -> None:
        self._finish()

    def abort(self) -> None:
        """End the connection at once, even before it has a transport."""
        has_transport, entrance = self._timer is not None, self._entrance
        self._finish()
        if entrance is not None:
            entrance.abort()
        if has_transport:
            self._transport.abort()

    def inside(self, tls: ssl.SSLContext) -> TlsEntrance:
        """What has to accept the connection instead, so that it begins with a TLS handshake."""
        options = self._options
        self._entrance = TlsEntrance(
            self,
            tls,
            self._finish,
            silence_timeout_s=options.handshake_timeout_s / 2,
            handshake_timeout_s=options.handshake_timeout_s,
            close_timeout_s=options.close_timeout_s,
            to_silent=mysql_refusal(),
        )
        return self._entrance

    def _guarded(self, step: Callable[[], None]) -> None:
        """Run a step, and answer with the error that it raises."""
        try:
            step()
        except RefusedError as refused:
            self._refuse(refused)
        except Exception as error:
            _log.exception("a handshake failed unexpectedly")
            text = f"unexpected {type(error).__name__}, see the log of cubequeue"
            self._refuse(RefusedError(HTTPStatus.INTERNAL_SERVER_ERROR, text))

    def _read_request(self) -> None:
        read = take_head(self._buffer, self._options.max_head_bytes)
        if read is not None:
            self._serve(*read)

    def _serve(self, head: Head, already_read: bytes) -> None:
        self._may_have_body = head.method != b"HEAD"
        conclude = partial(self._conclude, head, _process_id_of(head), already_read)
        self._credentials.check_header(
            head.header(b"authorization"), lambda verdict: self._guarded(partial(conclude, verdict))
        )
        if not self._is_done:  # the verdict comes later
            self._transport.pause_reading()

    def _conclude(self, head: Head, process_id: bytes | None, already_read: bytes, verdict: Verdict) -> None:
        if self._is_done:
            return
        self._transport.resume_reading()
        if verdict is Verdict.BUSY:
            raise RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, "too many passwords are being checked")
        if verdict is Verdict.REFUSED:
            with_credentials = head.header(b"authorization") is not None
            self._credentials.count_refusal(peer_of(self._transport), with_credentials=with_credentials)
            raise RefusedError(HTTPStatus.FORBIDDEN, "Not authorized")
        if head.path == _UPLOAD_PATH and self._gate.take_upload is not None:
            self._check_origin(head)
            self._gate.take_upload(self._transport, head, process_id, already_read)
            self._finish()
        else:
            self._upgrade(head, process_id, already_read)

    def _upgrade(self, head: Head, process_id: bytes | None, already_read: bytes) -> None:
        _check_route(head)
        self._check_origin(head)
        accept = accept_key(head)
        self._gate.check_room()
        self._finish()
        self._transport.write(upgrade_response(accept, self._gate.announced))
        agent = (head.header(b"user-agent") or b"")[:_MAX_AGENT_BYTES]
        authorization = head.header(b"authorization")
        self._gate.admit(
            self._transport, _user_of(head), process_id, already_read, agent=agent, authorization=authorization
        )

    def _check_origin(self, head: Head) -> None:
        """Browsers send an `Origin`, Cube's drivers do not: a page of any site could use a server without users."""
        origin = head.header(b"origin")
        if origin is not None and not is_allowed_origin(origin, self._options.allowed_origins):
            self._gate.count_foreign()
            shown = origin[:_MAX_SHOWN_ORIGIN].decode(errors="replace")
            text = f"WebSockets of the web page {shown} are refused: CUBEQUEUE_ALLOWED_ORIGINS does not name it"
            raise RefusedError(HTTPStatus.FORBIDDEN, text)

    def _refuse(self, refused: RefusedError) -> None:
        self._end_with(error_response(refused, has_body=self._may_have_body))

    def _end_with(self, last_words: bytes) -> None:
        self._is_done = True
        self._stop_timer()
        self._transport.write(last_words)
        options = self._options
        Lingering(self._transport, options.close_timeout_s, options.max_discarded_bytes, self._finish)

    def _on_silence(self) -> None:
        """A client of MySQL waits for the server to begin; any other one has said something by now."""
        if not self._is_silent or self._transport.get_extra_info("sslcontext") is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._options.handshake_timeout_s / 2, self._on_timeout)
        else:
            self._end_with(mysql_refusal())

    def _on_timeout(self) -> None:
        self._refuse(RefusedError(HTTPStatus.REQUEST_TIMEOUT, "no request arrived in time"))

    def _finish(self) -> None:
        self._is_done = True
        self._entrance = None  # breaks a cycle
        self._stop_timer()
        self._on_done(self)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


def _process_id_of(head: Head) -> bytes | None:
    process_id = head.header(b"x-process-id") or b""
    if len(process_id) > _MAX_PROCESS_ID_BYTES:
        text = f"x-process-id header exceeds maximum allowed length of {_MAX_PROCESS_ID_BYTES} characters"
        raise RefusedError(HTTPStatus.BAD_REQUEST, text)
    return process_id or None


def _user_of(head: Head) -> bytes:
    """The name that an admitted client gave, or empty."""
    given = basic_credentials(head.header(b"authorization") or b"")
    return given[0] if given is not None else b""


def _check_route(head: Head) -> None:
    if head.path == _UPLOAD_PATH:
        raise RefusedError(HTTPStatus.METHOD_NOT_ALLOWED, _UPLOAD_TEXT, {"Allow": ""})
    if head.path != b"/ws":
        raise RefusedError(HTTPStatus.NOT_FOUND, "Not found: cubequeue serves WebSocket clients at /ws")
    if head.method != b"GET":
        raise RefusedError(HTTPStatus.METHOD_NOT_ALLOWED, "/ws is opened with GET", {"Allow": "GET"})


def peer_of(transport: asyncio.BaseTransport) -> str:
    """The address of a client as `host:port`; empty when it has gone."""
    name = transport.get_extra_info("peername")
    return str(Endpoint(*name[:2])) if isinstance(name, tuple) else str(name or "")


def host_of(transport: asyncio.BaseTransport) -> str:
    """The address of a client without its port, of IPv6 the network of 64 bits: a client chooses the rest itself."""
    name = transport.get_extra_info("peername")
    if not isinstance(name, tuple):
        return ""
    host = str(name[0])
    if ":" not in host:
        return host
    address = IPv6Address(host)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Address(int(address) >> 64 << 64))
