"""Where a command finds its server, what it says who it is, and what a failure to connect means for a person."""

from __future__ import annotations

import json
import os
import socket
import ssl
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit, urlunsplit

from picows.common import WSError, WSHandshakeError

DEFAULT_URL: Final = "ws://127.0.0.1:3030"
URL_VARIABLE: Final = "CUBEQUEUE_URL"
_PORT: Final = 3030
_CREDENTIAL_VARIABLES: Final = "CUBEQUEUE_USER and CUBEQUEUE_PASSWORD or CUBEQUEUE_PASSWORD_FILE"
_PORTS: Final = "clients connect to CUBESTORE_HTTP_PORT (3030); 3031 is the status port, 3306 that of MySQL"
_MAX_TOLD: Final = 300  # characters of what a server says


class CommandError(Exception):
    """The failure of a command: one line for a person. `is_usage` when the command line or a variable is wrong."""

    def __init__(self, text: str, *, is_usage: bool = False) -> None:
        super().__init__(text)
        self.is_usage = is_usage


def websocket_url(given: str | None, environment: Mapping[str, str] = os.environ, *, flag: str = "--url") -> str:
    """The whole address of `flag`, else of CUBEQUEUE_URL, else of this machine: `host`, `host:port` or a URL.

    Raises CommandError; its text never repeats a password.
    """
    source = flag if given is not None else URL_VARIABLE
    text = given if given is not None else environment.get(URL_VARIABLE) or DEFAULT_URL
    parts = _split(text if "://" in text else f"ws://{_bracketed(text)}", source)
    if "@" in parts.netloc:
        raise CommandError(
            f"{source} takes no credentials, everyone can read command lines: set {_CREDENTIAL_VARIABLES}",
            is_usage=True,
        )
    if parts.scheme in {"http", "https"}:
        wanted = "wss" if parts.scheme == "https" else "ws"
        raise CommandError(f"{source}: not a ws:// address: use {wanted}://{parts.hostname}:{_PORT}", is_usage=True)
    if parts.scheme not in {"ws", "wss"} or not parts.hostname:
        raise CommandError(f"{source}: not a host, a host with its port, or a ws:// or wss:// address", is_usage=True)
    path = parts.path if parts.path not in {"", "/"} else "/ws"
    return urlunsplit((parts.scheme, f"{_bracketed(parts.hostname)}:{parts.port or _PORT}", path, parts.query, ""))


def _split(text: str, source: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018  # raises when it is none
    except ValueError as error:
        raise CommandError(f"{source}: {error}", is_usage=True) from error
    return parts


def _bracketed(host: str) -> str:
    return f"[{host}]" if host.count(":") > 1 and not host.startswith("[") else host


def status_url(given: str | None, whole: str, announced: int | None) -> str:
    """The address of the status port: `--status-url`, else the port that the server announced, on its host.

    Raises CommandError.
    """
    parts = urlsplit(whole)
    url = (
        given
        or f"{'https' if parts.scheme == 'wss' else 'http'}://{_bracketed(str(parts.hostname))}:{announced or 3031}"
    )
    parts = _split(url, "--status-url")
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in url or parts.port == 0:
        raise CommandError("--status-url: not an http:// or https:// address without credentials", is_usage=True)
    return url


def credentials(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The Authorization header of the environment's credentials; empty without any. Raises CommandError."""
    user = environment.get("CUBEQUEUE_USER", "")
    password = environment.get("CUBEQUEUE_PASSWORD")
    file = environment.get("CUBEQUEUE_PASSWORD_FILE")
    if not password and file:
        try:
            password = Path(file).read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8"
            raise CommandError(f"CUBEQUEUE_PASSWORD_FILE {file}: {reason}", is_usage=True) from error
    if not password:
        return {}
    return {"Authorization": "Basic " + b64encode(f"{user}:{password}".encode()).decode()}


def refused(status: int, *, are_given: bool) -> str | None:
    """What 401 or 403 means; None for any other status."""
    if status not in {401, 403}:
        return None
    if are_given:
        return (
            "wrong user or password: CUBEQUEUE_USER and CUBEQUEUE_PASSWORD of this command are not those of the server"
        )
    return f"not authorized: this server has users, set {_CREDENTIAL_VARIABLES}"


_MEANINGS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (ConnectionRefusedError, f"nothing listens there: is cubequeue up, and is that its port? ({_PORTS})"),
    (socket.gaierror, "there is no host of that name"),
    (TimeoutError, f"no answer in time: {_PORTS}"),
)


def why_not_connected(error: Exception, whole: str, *, are_given: bool) -> str:
    """What to do about a failure to connect. `are_given` tells whether credentials were sent."""
    if isinstance(error, WSError):
        return _of_handshake(error, whole, are_given=are_given)
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{error.verify_message}: SSL_CERT_FILE=/path/ca.pem trusts an authority of your own"
    if isinstance(error, ssl.SSLError) and whole.startswith("wss:"):
        return f"that port speaks no TLS: use {_of_scheme('ws', whole)}"
    known = (text for kind, text in _MEANINGS if isinstance(error, kind))
    return next(known, "") or getattr(error, "strerror", None) or str(error) or nothing_there(whole)


def _of_handshake(error: WSError, whole: str, *, are_given: bool) -> str:
    if not isinstance(error, WSHandshakeError) or error.response is None:
        return f"no WebSocket there ({error}): {_PORTS}"
    status, told = int(error.response.status), _told(error.raw_body or b"")
    if "speaks TLS only" in told:
        return f"that port speaks TLS: use {_of_scheme('wss', whole)}"
    return refused(status, are_given=are_given) or f"no WebSocket there, it answered {status}: {told or _PORTS}"


def _of_scheme(scheme: str, whole: str) -> str:
    return f"{scheme}://{whole.partition('://')[2].removesuffix('/ws')}"


def nothing_there(whole: str) -> str:
    """What an end of the connection within the handshake means."""
    other = "ws://" if whole.startswith("wss:") else "wss://"
    return f"no WebSocket there ({_PORTS}), or one that wants {other}"


def _told(body: bytes) -> str:
    """The error of a refusal: its JSON, else its first line."""
    text = body[: 4 * _MAX_TOLD].decode(errors="replace")
    try:
        content = json.loads(text)
    except ValueError:
        content = None
    if isinstance(content, dict) and isinstance(content.get("error"), str):
        text = content["error"]
    return text.strip().split("\n")[0][:_MAX_TOLD]
