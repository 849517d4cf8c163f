"""`cubequeue healthcheck`: asks a running server whether it is ready, over a plain socket.

It asks the status port for /readyz, or the WebSocket port for an upgrade where the status port is off. It sends no
credentials: /readyz needs none, their refusal is a sign of life too, and one more client could evict another.
"""

from __future__ import annotations

import base64
import os
import socket
from typing import TYPE_CHECKING

from cubequeue_server.settings.resolve import Settings
from cubequeue_server.settings.values import Endpoint

if TYPE_CHECKING:
    import ssl

_TIMEOUT_S = 3.0
_MAX_HEAD_BYTES = 16 * 1024
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}  # noqa: S104  # the address to dial for each


class UnhealthyError(Exception):
    """The server did not answer as a healthy one does; the text says why."""


def check_url(url: str) -> None:
    """Ask `http://host[:port]/path`, or `ws://host[:port]/path` for an upgrade. Raises UnhealthyError.

    https:// and wss:// need a certificate that this machine or SSL_CERT_FILE trusts.
    """
    from urllib.parse import urlsplit  # noqa: PLC0415  # not needed by `check_own`

    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError as error:
        raise UnhealthyError(f"{url}: {error}") from error
    if parts.scheme not in {"http", "https", "ws", "wss"} or not parts.hostname:
        raise UnhealthyError(f"{url}: not an http://, https://, ws:// or wss:// address")
    tls = _trusting_context() if parts.scheme in {"https", "wss"} else None
    endpoint = Endpoint(parts.hostname, port or (80 if tls is None else 443))
    if parts.scheme.startswith("http"):
        _expect(endpoint, parts.path or "/readyz", {200}, tls)
    else:
        _expect(endpoint, parts.path or "/ws", {101}, tls)


def check_own(settings: Settings) -> None:
    """Ask the server with these settings on this machine. Raises UnhealthyError."""
    tls = _blind_context() if settings.access.tls_cert else None
    if settings.status is not None and settings.status.port:
        _expect(_dialable(settings.status), "/readyz", {200}, tls)
    elif settings.http.port:
        _expect(_dialable(settings.http), "/ws", {403} if settings.access.demands_credentials else {101}, tls)
    else:
        raise UnhealthyError("the ports are chosen at start (auto): pass --url")


def _dialable(endpoint: Endpoint) -> Endpoint:
    return Endpoint(_WILDCARDS.get(endpoint.host, endpoint.host), endpoint.port)


def _trusting_context() -> ssl.SSLContext:
    import ssl  # noqa: PLC0415  # most checks need no TLS

    return ssl.create_default_context()


def _blind_context() -> ssl.SSLContext:
    """No checks: the certificate of a local port has the names that clients dial, and no secret is sent."""
    context = _trusting_context()
    context.check_hostname = False
    context.verify_mode = context.verify_mode.CERT_NONE
    return context


def _expect(endpoint: Endpoint, path: str, wanted: set[int], tls: ssl.SSLContext | None) -> None:
    try:
        status = _ask(endpoint, path, tls, upgrade=200 not in wanted)
    except OSError as error:
        raise UnhealthyError(f"{endpoint}{path}: {error.strerror or error}") from error
    if status not in wanted:
        raise UnhealthyError(f"{endpoint}{path}: answered {status}")


def _ask(endpoint: Endpoint, path: str, tls: ssl.SSLContext | None, *, upgrade: bool) -> int:
    """The status code of the answer; 0 when it is no HTTP."""
    lines = [f"GET {path} HTTP/1.1", f"Host: {endpoint}", *(_upgrade_lines() if upgrade else ["Connection: close"])]
    with socket.create_connection(endpoint, _TIMEOUT_S) as bare:
        connection = bare if tls is None else tls.wrap_socket(bare, server_hostname=endpoint.host)
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        answer = b""
        while b"\r\n" not in answer and len(answer) < _MAX_HEAD_BYTES:
            data = connection.recv(4096)
            if not data:
                break
            answer += data
    words = answer.split(b"\r\n", 1)[0].split(b" ")
    return int(words[1]) if words[0].startswith(b"HTTP/1.") and len(words) > 1 and words[1].isdigit() else 0


def _upgrade_lines() -> list[str]:
    key = base64.b64encode(os.urandom(16)).decode()
    return ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}"]
