"""`cubequeue healthcheck`: asks a running server whether it is ready, with nothing but a socket.

The status port is asked for /readyz; where it is off, the WebSocket port is asked for an upgrade.
"""

from __future__ import annotations

import base64
import os
import socket

from cubequeue_server.settings import Settings
from cubequeue_server.settings_values import Endpoint

_TIMEOUT_S = 3.0
_MAX_HEAD_BYTES = 16 * 1024
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}  # noqa: S104  # what to dial for each


class UnhealthyError(Exception):
    """The server did not answer as a healthy one does; the text says how."""


def check_url(url: str) -> None:
    """Ask `http://host[:port]/path`, or `ws://host[:port]/path` for an upgrade. Raises UnhealthyError."""
    from urllib.parse import urlsplit  # noqa: PLC0415  # only this way of asking needs it

    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError as error:
        raise UnhealthyError(f"{url}: {error}") from error
    if parts.scheme not in {"http", "ws"} or not parts.hostname:
        raise UnhealthyError(f"{url}: not an http:// or ws:// address")
    if parts.scheme == "http":
        _expect(Endpoint(parts.hostname, port or 80), parts.path or "/readyz", 200)
    else:
        _expect(Endpoint(parts.hostname, port or 80), parts.path or "/ws", 101)


def check_own(settings: Settings) -> None:
    """Ask the server that has these settings on this machine. Raises UnhealthyError."""
    if settings.status is not None and settings.status.port:
        _expect(_dialable(settings.status), "/readyz", 200)
    elif settings.http.port:
        _expect(_dialable(settings.http), "/ws", 101)
    else:
        raise UnhealthyError("the ports are chosen at start (auto): pass --url")


def _dialable(endpoint: Endpoint) -> Endpoint:
    return Endpoint(_WILDCARDS.get(endpoint.host, endpoint.host), endpoint.port)


def _expect(endpoint: Endpoint, path: str, wanted_status: int) -> None:
    try:
        status = _ask(endpoint, path, upgrade=wanted_status == 101)
    except OSError as error:
        raise UnhealthyError(f"{endpoint}{path}: {error.strerror or error}") from error
    if status != wanted_status:
        raise UnhealthyError(f"{endpoint}{path}: answered {status}")


def _ask(endpoint: Endpoint, path: str, *, upgrade: bool) -> int:
    """The status code of the answer, 0 when what came back is no HTTP."""
    lines = [f"GET {path} HTTP/1.1", f"Host: {endpoint}", *(_upgrade_lines() if upgrade else ["Connection: close"])]
    with socket.create_connection(endpoint, _TIMEOUT_S) as connection:
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
