"""The head of an HTTP request, and the answers that are no upgrade (wire.md §1)."""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha1
from http import HTTPStatus
from typing import Final

_MAX_HEADERS: Final = 100
_REQUEST_LINE = re.compile(rb"([!#-'*+.0-9A-Z^-z|~-]+) ([!-~\x80-\xff]+) HTTP/1\.([01])")
# Blanks around a value are cut off in Python: parts that can match the same blank would be tried in every division.
_HEADER = re.compile(rb"([!#-'*+.0-9A-Z^-z|~-]+):([\t -~\x80-\xff]*)")
_ORIGIN = re.compile(rb"https?://[^/?]*", re.IGNORECASE)
_ACCEPT_SUFFIX: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3


class RefusedError(Exception):
    """A request that gets an error; `text` is what the client is told."""

    def __init__(self, status: HTTPStatus, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.headers = headers or {}


@dataclass(slots=True, frozen=True)
class Head:
    """Request line and headers. Names are in lower case, values of a repeated header joined by commas."""

    method: bytes
    path: bytes
    minor_version: int
    headers: Mapping[bytes, bytes] = field(repr=False)

    def has_token(self, name: bytes, token: bytes) -> bool:
        """Whether a header lists `token`, in any case."""
        return token in [each.strip().lower() for each in self.headers.get(name, b"").split(b",")]


def parse_head(raw: bytes) -> Head:
    """Read the lines before the empty one. Raises `RefusedError`."""
    request_line, *lines = raw.split(b"\r\n")
    request = _REQUEST_LINE.fullmatch(request_line)
    if request is None:
        raise RefusedError(HTTPStatus.BAD_REQUEST, "this is no HTTP/1.1 request")
    if len(lines) > _MAX_HEADERS:
        raise RefusedError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"more than {_MAX_HEADERS} headers")
    headers: dict[bytes, bytes] = {}
    for line in lines:
        header = _HEADER.fullmatch(line)
        if header is None:
            raise RefusedError(HTTPStatus.BAD_REQUEST, "a header line cannot be read")
        name, value = header[1].lower(), header[2].strip(b" \t")
        headers[name] = headers[name] + b", " + value if name in headers else value
    origin = _ORIGIN.match(request[2])
    target = request[2] if origin is None else request[2][origin.end() :]
    return Head(request[1], target.partition(b"?")[0], int(request[3]), headers)


def accept_key(head: Head) -> bytes:
    """Check that `head` asks for a WebSocket as RFC 6455 wants; the `Sec-WebSocket-Accept` for it."""
    if not (
        head.minor_version and head.has_token(b"upgrade", b"websocket") and head.has_token(b"connection", b"upgrade")
    ):
        raise RefusedError(HTTPStatus.UPGRADE_REQUIRED, "/ws speaks WebSocket only", {"Upgrade": "websocket"})
    if head.headers.get(b"sec-websocket-version") != b"13":
        raise RefusedError(
            HTTPStatus.UPGRADE_REQUIRED, "only version 13 of WebSocket is spoken", {"Sec-WebSocket-Version": "13"}
        )
    key = head.headers.get(b"sec-websocket-key", b"")
    try:
        is_valid = len(b64decode(key, validate=True)) == 16
    except ValueError:
        is_valid = False
    if not is_valid:
        raise RefusedError(HTTPStatus.BAD_REQUEST, "Sec-WebSocket-Key is not the base64 of 16 bytes")
    return b64encode(sha1(key + _ACCEPT_SUFFIX).digest())  # noqa: S324  # the algorithm is the RFC's


def upgrade_response(accept: bytes, announce_version: str) -> bytes:
    """The 101 that ends the handshake; no extension is ever negotiated."""
    announced = b"X-CubeStore-Version: %b\r\n" % announce_version.encode() if announce_version else b""
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\n%b\r\n" % (accept, announced)
    )


def error_response(refused: RefusedError, *, has_body: bool = True) -> bytes:
    """A JSON error that ends the connection; `has_body` is False in answer to HEAD."""
    body = json.dumps({"error": refused.text}).encode()
    headers = {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "close",
        **refused.headers,
    }
    lines = [f"HTTP/1.1 {refused.status.value} {refused.status.phrase}", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (body if has_body else b"")
