"""Large messages, read in steps: a message of 60 MB must not hold up the requests of others.

`begin_large` reads the structure of a message and leaves its large texts where they are. `read_large` then checks,
unescapes and copies them, about half a millisecond a step. It takes a large literal out of the text of the statement
and binds it as one more parameter, so that the parser gets a short text.

Whoever advances the steps lets others have a turn between them, and joins the pieces that a step yields, best in a
thread: `bytes.join` of more than a megabyte works without the interpreter's lock.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Final, TypeAlias

from protocol.commands import FAMILIES, parse_statement
from protocol.cursor import Cursor
from protocol.decode import Depth, decode_request
from protocol.errors import DecodeError, ParserError, TokenizerError
from protocol.flat import Utf8Check
from protocol.lexer import HEX_DIGITS, PREFIXED_LITERAL, WORD_PARTS, skip_trivia
from protocol.literals import ContentReader, unterminated
from protocol.messages import Request, Unread
from protocol.placeholders import find_placeholders
from protocol.position import preview
from storage.vocabulary import Binary, OtherSql, Statement

# A smaller message is read as a whole, in less than a millisecond.
LARGE_BYTES: Final = 1 << 20
# A smaller message for another server is read as a whole, too, and copied.
PASSED_BYTES: Final = 1 << 18
_STEP_BYTES: Final = 128 << 10
# So much of a statement may stand ahead of its large value, and as much behind it.
_AROUND_BYTES: Final = 64 << 10
# So much of it tells where it goes.
_HEAD_BYTES: Final = 4 << 10

# Yields None after a step, and pieces of which the joined text is to be sent back.
Steps: TypeAlias = Generator[list[bytes] | None, bytes | None, Statement]
_Copying: TypeAlias = Generator[list[bytes] | None, bytes | None, bytes]


def begin_large(message: memoryview, *, passes_on: bool = False) -> Request:
    """Read the structure of a message, which has to stay as it is until all steps are done.

    With `passes_on` a statement that is neither of QUEUE nor of CACHE nor of SYS is not read beyond its head, which is
    O(1), and the request says so. Raises `DecodeError`. O(parameters), and a copy of its short texts.
    """
    if passes_on:
        request = decode_request(message, depth=Depth.HEAD, unread_bytes=_HEAD_BYTES)
        text = request.query
        head = bytes(text.view[:_HEAD_BYTES]) if isinstance(text, Unread) else text
        if _passes(head):
            request.query, request.passes_on = head, True
            return request
        if len(message) <= LARGE_BYTES:
            return decode_request(message, depth=Depth.VALUES)
    return decode_request(message, unread_bytes=_STEP_BYTES)


def read_large(request: Request) -> Steps:
    """Read the large texts of a request, and its statement; `request` has a short text then.

    Raises TokenizerError and ParserError, as `parse_statement` does, and DecodeError.
    """
    try:
        return (yield from _read(request))
    except UnicodeDecodeError:
        raise DecodeError("Internal: Undecodable message: a text is not UTF-8", request.message_id) from None
    finally:
        if isinstance(request.query, Unread):  # it was refused, which is logged with its beginning
            request.query = bytes(request.query.view[:_AROUND_BYTES])


def _read(request: Request) -> Steps:
    values = None if request.parameters is None else list(request.parameters)
    for at, value in enumerate(values or ()):
        if isinstance(value, Unread):
            copy = yield from _copy(value)
            assert values is not None
            values[at] = Binary(copy) if value.is_binary else copy
    text = request.query
    if isinstance(text, Unread):
        head = bytes(text.view[:_AROUND_BYTES])
        if _is_other(head):
            request.query = head
            whole = yield from _copy(text)
            return OtherSql(whole, tuple(values or ()))
        placeholders, open_at = find_placeholders(head)
        if open_at < 0:  # the head may end within a doubled quote, which then looks like the end of the value
            placeholders, open_at = find_placeholders(head[:-1])
        if open_at < 0:
            raise ParserError(f"{len(text.view)} bytes without a value of nearly that size are not supported")
        value, behind = yield from _value(text.view, head, open_at)
        values = values or []
        values.insert(placeholders, value)
        end = open_at - 1 if isinstance(value, Binary) else open_at
        text = b"".join((head[:end], b"? ", behind))
    request.query = text
    return parse_statement(text, None if values is None else tuple(values))


def _passes(head: bytes) -> bool:
    """Whether the statement is for another server, which is to read it. One of blanks and comments so far is not."""
    try:
        return bool(head.strip()) and _is_other(head)
    except TokenizerError:
        return False


def _is_other(head: bytes) -> bool:
    """Whether the statement is neither of QUEUE nor of CACHE nor of SYS. Raises TokenizerError."""
    return Cursor(head, skip_trivia(head, 0), None).word() not in FAMILIES


def _windows(view: memoryview, start: int) -> Iterator[bytes]:
    return (bytes(view[at : at + _STEP_BYTES]) for at in range(start, len(view), _STEP_BYTES))


def _copy(unread: Unread) -> _Copying:
    pieces: list[bytes] = []
    check = Utf8Check()
    for window in _windows(unread.view, 0):
        if not unread.is_binary:
            check.feed(window)
        pieces.append(window)
        yield None
    check.feed(b"", is_last=True)
    return (yield from _joined(pieces))


def _joined(pieces: list[bytes]) -> _Copying:
    joined = yield pieces
    assert joined is not None, "the joined text is to be sent"
    return joined


def _value(
    view: memoryview, head: bytes, open_at: int
) -> Generator[list[bytes] | None, bytes | None, tuple[bytes, bytes]]:
    """The value whose opening quote is at `open_at`, and what stands behind it."""
    prefix = _prefix(head, open_at)
    reader = ContentReader(head[open_at : open_at + 1])
    check = Utf8Check()
    position = open_at + 1
    for window in _windows(view, position):
        check.feed(window)
        position += len(window)
        reader.feed(window, is_last=position >= len(view))
        yield None
        if reader.is_closed:
            break
    else:
        raise unterminated(head, open_at)
    position -= len(reader.rest)
    if len(view) - position > _AROUND_BYTES:
        raise ParserError(f"{len(view) - position} bytes behind the value of a statement are not supported")
    check.feed(bytes(view[position + len(reader.rest) :]), is_last=True)
    pieces = reader.pieces
    if prefix:
        pieces = yield from _bytes_of(prefix, pieces)
    value = yield from _joined(pieces)
    return Binary(value) if prefix == b"X" else value, bytes(view[position:])


def _prefix(head: bytes, open_at: int) -> bytes:
    """`X` or `N` where a literal begins with it."""
    start = open_at - 1
    if start < 0 or PREFIXED_LITERAL.match(head, start) is None or (start and head[start - 1] in WORD_PARTS):
        return b""
    return head[start:open_at].upper()


def _bytes_of(prefix: bytes, pieces: list[bytes]) -> Generator[None, None, list[bytes]]:
    """What the hexadecimal digits of `X'…'` mean. `N'…'` is no value here."""
    made: list[bytes] = []
    held = b""
    for piece in pieces:
        digits = held + piece
        if prefix == b"N" or HEX_DIGITS.fullmatch(digits) is None:
            held = b"?"
            break
        held = digits[len(digits) & -2 :]
        made.append(bytes.fromhex(digits[: len(digits) & -2].decode()))
        yield
    if held:
        raise ParserError(f"Expected: literal string, found: {prefix.decode()}'{preview(b''.join(pieces[:1]))}'")
    return made
