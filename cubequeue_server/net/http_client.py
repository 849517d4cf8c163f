"""The client's side of HTTP/1.1: heads of answers, and the handshake of a WebSocket (RFC 6455, wire.md §1)."""

from __future__ import annotations

import asyncio
import json
import os
import re
import ssl
from base64 import b64encode
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final, NamedTuple, cast

from cubequeue_server.net.http_head import accept_of

_END: Final = b"\r\n\r\n"
_MAX_HEAD_BYTES: Final = 16 * 1024
_MAX_BODY_BYTES: Final = 4 * 1024  # of an error, which is a line of JSON
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: ([ -~\x80-\xff]*))?")
_HEADER: Final = re.compile(rb"([!#-'*+.0-9A-Z^-z|~-]+):([\t -~\x80-\xff]*)")

Headers = tuple[tuple[bytes, bytes], ...]


class NoHttpError(Exception):
    """The bytes are no answer of an HTTP server."""


class DeclinedError(Exception):
    """The server answered the handshake with another status than 101; the text is its error, or the status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status} {text}")
        self.status = status


class AnswerHead(NamedTuple):
    """Status and headers of an answer, in the order they were sent; names are in lower case."""

    status: int
    phrase: bytes
    headers: Headers

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header; `name` is in lower case."""
        return next((value for each, value in self.headers if each == name), None)


class Opened(NamedTuple):
    """A WebSocket: its transport, the head of the answer, and what the server sent behind it."""

    transport: asyncio.Transport
    head: AnswerHead
    already_read: bytes


def take_answer_head(buffer: bytearray) -> AnswerHead | None:
    """Cut the head of an answer off a buffer; None while it is incomplete. Raises NoHttpError."""
    end = buffer.find(_END, 0, _MAX_HEAD_BYTES)
    if end < 0:
        if len(buffer) >= _MAX_HEAD_BYTES or not b"HTTP/1.".startswith(buffer[:7]):
            raise NoHttpError("the answer is no HTTP/1.1")
        return None
    status_line, *lines = bytes(buffer[:end]).split(b"\r\n")
    status, headers = _STATUS_LINE.fullmatch(status_line), [_HEADER.fullmatch(line) for line in lines]
    if status is None or None in headers:
        raise NoHttpError("the head of the answer cannot be read")
    del buffer[: end + len(_END)]
    pairs = tuple((each[1].lower(), each[2].strip(b" \t")) for each in headers if each is not None)
    return AnswerHead(int(status[1]), status[2] or b"", pairs)


async def open_websocket(
    endpoint: tuple[str, int],
    tls: ssl.SSLContext | None,
    headers: Iterable[tuple[bytes, bytes]],
    timeout_s: float,
) -> Opened:
    """Connect, and shake hands for `/ws`. Raises DeclinedError, NoHttpError, OSError or TimeoutError.

    Nothing is read from the transport until its protocol is set.
    """
    key = b64encode(os.urandom(16))
    host, port = endpoint
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(timeout_s):
        transport, opening = await loop.create_connection(
            lambda: _Opening(loop.create_future()), host, port, ssl=tls, server_hostname=host if tls else None
        )
        try:
            transport.write(_request(endpoint, key, headers))
            head = await opening.answer
        except BaseException:
            transport.abort()
            raise
    if head.status != HTTPStatus.SWITCHING_PROTOCOLS:
        transport.abort()
        raise DeclinedError(head.status, _error_text(head, bytes(opening.buffer)))
    if head.header(b"sec-websocket-accept") != accept_of(key):
        transport.abort()
        raise NoHttpError("the answer to the handshake does not belong to it")
    return Opened(transport, head, bytes(opening.buffer))


def _request(endpoint: tuple[str, int], key: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    lines = [
        b"GET /ws HTTP/1.1",
        b"Host: " + host_header(endpoint),
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: " + key,
        *(b"%b: %b" % header for header in headers),
    ]
    return b"\r\n".join(lines) + _END


def host_header(endpoint: tuple[str, int]) -> bytes:
    """The value of the Host header for an endpoint."""
    host, port = endpoint
    return (f"[{host}]:{port}" if ":" in host else f"{host}:{port}").encode()


def _error_text(head: AnswerHead, body: bytes) -> str:
    """What the server says: the error of a JSON body, else the phrase of its status, else what the status means."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        content = None
    error = content.get("error") if isinstance(content, dict) else None
    if isinstance(error, str) and error.isprintable():
        return error
    phrase = head.phrase.decode(errors="replace")
    if phrase.isprintable() and phrase:
        return phrase
    return HTTPStatus(head.status).phrase if head.status in set(HTTPStatus) else "without a word"


class _Opening(asyncio.Protocol):
    """Collects the answer to a handshake: its head and, unless that is 101, a short body."""

    def __init__(self, answer: asyncio.Future[AnswerHead]) -> None:
        self.answer = answer
        self.buffer = bytearray()
        self._head: AnswerHead | None = None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.answer.done():
            return
        self.buffer += data
        try:
            self._head = self._head or take_answer_head(self.buffer)
        except NoHttpError as error:
            self.answer.set_exception(error)
            return
        head = self._head
        if head is None:
            return
        length = head.header(b"content-length") or b""
        is_whole = length.isdigit() and len(length) < 10 and len(self.buffer) >= int(length)
        if head.status == HTTPStatus.SWITCHING_PROTOCOLS:
            self._transport.pause_reading()
        elif not is_whole and len(self.buffer) < _MAX_BODY_BYTES:
            return
        self.answer.set_result(head)

    def connection_lost(self, error: Exception | None) -> None:
        if self.answer.done():
            return
        if self._head is not None:  # the end of the connection is that of the body
            self.answer.set_result(self._head)
        else:
            self.answer.set_exception(error or ConnectionResetError("it closed the connection without an answer"))
