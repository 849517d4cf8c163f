"""Where the body of an HTTP/1.1 message ends (RFC 9112, sections 6 and 7), found without decoding it."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final, Protocol

_SIZE_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t -~\x80-\xff]*)?\r\n")
_MAX_LINE_BYTES: Final = 4 * 1024
_MAX_TRAILER_BYTES: Final = 16 * 1024
_MAX_DIGITS: Final = 18
_CRLF: Final = b"\r\n"
_BODILESS: Final = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})

Pairs = tuple[tuple[bytes, bytes], ...]


class BadBodyError(Exception):
    """The length of a body cannot be told, or its chunks break the protocol."""


class Body(Protocol):
    """Told all bytes that follow a head, in any pieces."""

    is_whole: bool

    def feed(self, data: bytes) -> int:
        """How many of these bytes belong to the body. Raises BadBodyError. O(n), O(1) a chunk."""


class SizedBody:
    """One of `Content-Length`."""

    def __init__(self, size_bytes: int) -> None:
        self._left_bytes = size_bytes
        self.is_whole = not size_bytes

    def feed(self, data: bytes) -> int:
        taken = min(len(data), self._left_bytes)
        self._left_bytes -= taken
        self.is_whole = not self._left_bytes
        return taken


class EndlessBody:
    """One that ends with its connection."""

    is_whole = False

    def feed(self, data: bytes) -> int:
        return len(data)


class ChunkedBody:
    """One of `Transfer-Encoding: chunked`. What stands behind the last chunk and its trailers is no part of it."""

    def __init__(self) -> None:
        self._left_bytes = 0  # of a chunk
        self._line = b""
        self._ends_chunk = self._is_in_trailers = False
        self._trailer_bytes = 0
        self.is_whole = False

    def feed(self, data: bytes) -> int:
        at, size = 0, len(data)
        while at < size and not self.is_whole:
            if self._left_bytes:
                taken = min(self._left_bytes, size - at)
                self._left_bytes -= taken
                at += taken
                continue
            end = data.find(b"\n", at, at + _MAX_LINE_BYTES)
            stop = min(size, at + _MAX_LINE_BYTES) if end < 0 else end + 1
            self._line += data[at:stop]
            at = stop
            if len(self._line) > _MAX_LINE_BYTES:
                raise BadBodyError("a line between chunks is too long")
            if end >= 0:
                line, self._line = self._line, b""
                self._on_line(line)
        return at

    def _on_line(self, line: bytes) -> None:
        if self._is_in_trailers:
            self._trailer_bytes += len(line)
            if self._trailer_bytes > _MAX_TRAILER_BYTES:
                raise BadBodyError("the trailers are too long")
            self.is_whole = line == _CRLF
        elif self._ends_chunk:
            self._ends_chunk = False
            if line != _CRLF:
                raise BadBodyError("a chunk does not end where it should")
        else:
            size = _SIZE_LINE.fullmatch(line)
            if size is None:
                raise BadBodyError("the size of a chunk cannot be read")
            self._left_bytes = int(size[1], 16)
            self._ends_chunk = self._left_bytes > 0
            self._is_in_trailers = not self._left_bytes


def body_of_request(headers: Pairs) -> Body:
    """The body behind the head of a request. Raises BadBodyError."""
    return _framed(headers) or SizedBody(0)


def body_of_answer(status: int, headers: Pairs) -> Body:
    """The body behind the head of an answer to a POST. Raises BadBodyError."""
    return SizedBody(0) if status in _BODILESS else _framed(headers) or EndlessBody()


def _framed(headers: Pairs) -> Body | None:
    codings = [value.lower() for name, value in headers if name == b"transfer-encoding"]
    lengths = [value for name, value in headers if name == b"content-length"]
    if codings:
        if codings != [b"chunked"] or lengths:
            raise BadBodyError("the only Transfer-Encoding is chunked, without a Content-Length")
        return ChunkedBody()
    if not lengths:
        return None
    if len(lengths) > 1 or not lengths[0].isdigit() or len(lengths[0]) > _MAX_DIGITS:
        raise BadBodyError("the Content-Length cannot be read")
    return SizedBody(int(lengths[0]))
