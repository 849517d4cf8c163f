"""HTTP for both ports: reads and checks heads of requests, writes answers (wire.md §1, config.md §2)."""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha1
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl

TLS_HANDSHAKE: Final = b"\x16"  # the first byte of a client that speaks TLS

_MAX_HEADERS: Final = 100
_END: Final = b"\r\n\r\n"
_LENGTHS: Final = (b"content-length", b"transfer-encoding")
_REQUEST_LINE = re.compile(rb"([!#-'*+.0-9A-Z^-z|~-]+) ([!-~\x80-\xff]+) HTTP/1\.([01])")
# Python strips the blanks around a value: parts of a pattern that match the same blanks would take quadratic time.
_HEADER = re.compile(rb"([!#-'*+.0-9A-Z^-z|~-]+):([\t -~\x80-\xff]*)")
_ORIGIN = re.compile(rb"https?://[^/?]*", re.IGNORECASE)
_ACCEPT_SUFFIX: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3


class RefusedError(Exception):
    """A request that is refused; the client gets `text`."""

    def __init__(self, status: HTTPStatus, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.headers = headers or {}


@dataclass(slots=True, frozen=True)
class Head:
    """Request line and headers. `headers` are pairs in the order they were sent, with names in lower case.

    `peer` is the address of the client, where the port tells its routes.
    """

    method: bytes
    target: bytes
    minor_version: int = 1
    headers: tuple[tuple[bytes, bytes], ...] = field(default=(), repr=False)
    peer: str = ""

    @property
    def path(self) -> bytes:
        """The target without scheme, host and query."""
        origin = _ORIGIN.match(self.target)
        return self.target[origin.end() if origin else 0 :].partition(b"?")[0]

    @property
    def parameters(self) -> dict[str, str]:
        """The parameters in the query. The last value of a repeated one counts."""
        return dict(parse_qsl(self.target.partition(b"?")[2].decode("latin-1"), keep_blank_values=True))

    def header(self, name: bytes) -> bytes | None:
        """The value of a header, None without one; `name` is in lower case. Commas join repeated headers."""
        values = [value for each, value in self.headers if each == name]
        return b", ".join(values) if values else None

    def has_token(self, name: bytes, token: bytes) -> bool:
        """Whether a header lists `token`, in any case."""
        return token in [each.strip().lower() for each in (self.header(name) or b"").split(b",")]


@dataclass(slots=True, frozen=True)
class Answer:
    """The last answer of a connection: status, body, and headers beside the usual ones."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)

    def encode(self, *, has_body: bool = True) -> bytes:
        """The bytes to send. `has_body` is False for HEAD."""
        lines = [
            f"HTTP/1.1 {self.status:d} {HTTPStatus(self.status).phrase}",
            f"Content-Type: {self.content_type}",
            f"Content-Length: {len(self.body)}",
            "Connection: close",
            *(f"{name}: {value}" for name, value in self.headers.items()),
        ]
        return "\r\n".join(lines).encode("latin-1") + _END + (self.body if has_body else b"")


def take_head(buffer: bytearray, max_bytes: int) -> tuple[Head, bytes] | None:
    """Take the head of a request from the bytes of a connection: the head and the bytes behind it.

    None while the head is incomplete; `max_bytes` is its limit. Raises `RefusedError`.
    """
    if not buffer[:1].isalpha():
        is_tls = buffer[:1] == TLS_HANDSHAKE
        raise RefusedError(
            HTTPStatus.BAD_REQUEST, "this port speaks no TLS: use ws:// or http://" if is_tls else "this is no HTTP"
        )
    end = buffer.find(_END, 0, max_bytes)
    if end >= 0:
        head, rest = _parse(bytes(buffer[:end])), bytes(buffer[end + len(_END) :])
        buffer.clear()
        return head, rest
    if len(buffer) >= max_bytes:
        text = f"the head of a request may have {max_bytes} bytes"
        raise RefusedError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, text)
    return None


def _parse(raw: bytes) -> Head:
    request_line, *lines = raw.split(b"\r\n")
    request = _REQUEST_LINE.fullmatch(request_line)
    if request is None:
        raise RefusedError(HTTPStatus.BAD_REQUEST, "this is no HTTP/1.1 request")
    return Head(request[1], request[2], int(request[3]), _headers(lines))


def _headers(lines: list[bytes]) -> tuple[tuple[bytes, bytes], ...]:
    """Read header lines. Raises `RefusedError`, also for ambiguous ones (RFC 9112, 3.2 and 6.3)."""
    if len(lines) > _MAX_HEADERS:
        raise RefusedError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"more than {_MAX_HEADERS} headers")
    headers = []
    for line in lines:
        header = _HEADER.fullmatch(line)
        if header is None:
            raise RefusedError(HTTPStatus.BAD_REQUEST, "a header line cannot be read")
        headers.append((header[1].lower(), header[2].strip(b" \t")))
    names = [name for name, _ in headers]
    if names.count(b"host") > 1 or sum(map(names.count, _LENGTHS)) > 1:
        raise RefusedError(HTTPStatus.BAD_REQUEST, "more than one Host, or more than one length of the body")
    return tuple(headers)


def accept_key(head: Head) -> bytes:
    """The `Sec-WebSocket-Accept` for a head. Raises `RefusedError` when it does not ask for a WebSocket (RFC 6455)."""
    if not (
        head.minor_version and head.has_token(b"upgrade", b"websocket") and head.has_token(b"connection", b"upgrade")
    ):
        raise RefusedError(HTTPStatus.UPGRADE_REQUIRED, "/ws speaks WebSocket only", {"Upgrade": "websocket"})
    if head.header(b"sec-websocket-version") != b"13":
        raise RefusedError(
            HTTPStatus.UPGRADE_REQUIRED, "only version 13 of WebSocket is spoken", {"Sec-WebSocket-Version": "13"}
        )
    key = head.header(b"sec-websocket-key") or b""
    try:
        is_valid = len(b64decode(key, validate=True)) == 16
    except ValueError:
        is_valid = False
    if not is_valid:
        raise RefusedError(HTTPStatus.BAD_REQUEST, "Sec-WebSocket-Key is not the base64 of 16 bytes")
    return accept_of(key)


def accept_of(key: bytes) -> bytes:
    """The `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key`."""
    return b64encode(sha1(key + _ACCEPT_SUFFIX).digest())  # noqa: S324  # the algorithm is the RFC's


def upgrade_response(accept: bytes, announced: bytes) -> bytes:
    """The 101 that ends the handshake, without extensions. `announced` are header lines about the server."""
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\n%b\r\n" % (accept, announced)
    )


def error_response(refused: RefusedError, *, has_body: bool = True) -> bytes:
    """The error as JSON; `has_body` as in `Answer.encode`."""
    body = json.dumps({"error": refused.text}).encode()
    return Answer(refused.status, body, "application/json", refused.headers).encode(has_body=has_body)
