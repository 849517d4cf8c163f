"""Frame bytes to a request (wire.md §2 to §4). Any bytes at all give a `Request` or raise `DecodeError`.

Time is linear in the message. Every text is copied once; shared and overlapping strings cannot multiply memory,
because the texts of one message together are bounded by a small multiple of its size. References only ever point
forward and the depth of the schema is fixed, so there is no cycle and no recursion. Alignment is not asked for.

What is refused, in order:

no message id can be read               DecodeError without an id: nothing can be answered
HttpResultSet                           an HttpError, the connection stays
any other command that is no HttpQuery  an HttpError, then the connection is closed
a parameter of an unknown type          an HttpError, then the connection is closed
a bad inline table                      an HttpError, then the connection is closed
anything else that is malformed         an HttpError, the connection stays
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from typing import NoReturn

from protocol import schema
from protocol.errors import DecodeError
from protocol.flat import (
    READ_ERRORS,
    MalformedError,
    View,
    fields,
    follow,
    read_f64,
    read_i64,
    read_span,
    read_text,
    read_u32,
    read_vector,
)
from protocol.messages import InlineTable, Request, ResponseFormat, Unread
from storage.vocabulary import Binary, Cell

MAX_PARAMETERS = 65_535
MAX_INLINE_TABLES = 1_024
MAX_INLINE_COLUMNS = 65_535

# Builders may share a string between fields, so an honest message can say more than its size: a little, or some
# tens of kilobytes. Every text is charged for what its copy takes beside its bytes.
_TEXT_BYTES_PER_MESSAGE_BYTE = 2
_SHARED_TEXT_BYTES = 1 << 16
_TEXT_OVERHEAD_BYTES = 24
_LAST_FORMAT = int(ResponseFormat.ARROW)

_COLUMN_TYPE = re.compile(
    rb"text|int|int96|bigint|bytes|timestamp|float|boolean|decimal(96)?\(\d+(, *\d+)?\)|hyperloglog\w*|hll_\w+"
)


class Depth(enum.IntEnum):
    """How far a message is read. What is not read is not checked either."""

    HEAD = 0  # the ids, the text and the response format
    VALUES = 1  # the parameters, too
    ALL = 2  # inline tables, too


def decode_request(
    buffer: bytes | bytearray | memoryview, *, depth: Depth = Depth.ALL, unread_bytes: int | None = None
) -> Request:
    """Read one message of a client, as far as `depth` says. `buffer` is not kept.

    Texts of more than `unread_bytes`, if that is given, are left in the message, unchecked: they are `Unread`, and
    such rows of inline tables, which nobody uses, are left out. Raises `DecodeError` for bytes that are no request; it
    says what to answer and whether to close.
    """
    view: View = buffer if type(buffer) is bytes else memoryview(buffer)
    try:
        position = follow(view, 0)
        id_, type_, command, connection = fields(view, position, 4)
        message_id = read_u32(view, position + id_)[0] if id_ else 0
    except READ_ERRORS as error:
        raise DecodeError(_undecodable(error)) from None
    try:
        kind = view[position + type_] if type_ else schema.COMMAND_NONE
        if kind != schema.COMMAND_QUERY:
            _refuse_command(kind, message_id)
        if not command:
            raise MalformedError("the command is missing")
        connection_id = read_text(view, follow(view, position + connection)) if connection else None
        texts = _Texts(view) if unread_bytes is None else _LongTexts(memoryview(view), unread_bytes)
        return _read_query(view, follow(view, position + command), message_id, connection_id, texts, depth)
    except READ_ERRORS as error:
        raise DecodeError(_undecodable(error), message_id) from None


def response_format_refusal(request: Request) -> str | None:
    """The HttpError for a request whose answer cannot be written as asked; None when it can (wire.md §5).

    To be asked before the statement is executed.
    """
    if request.response_format <= _LAST_FORMAT:
        return None
    return f"Unsupported response_format: {request.response_format}"


def _undecodable(error: Exception) -> str:
    detail = error.text if isinstance(error, MalformedError) else "an offset points past the message"
    if isinstance(error, UnicodeDecodeError):
        detail = "a text is not UTF-8"
    return f"Internal: Undecodable message: {detail}"


def _name(names: tuple[str, ...], number: int) -> str:
    return names[number] if number < len(names) else str(number)


def _refuse_command(command: int, message_id: int) -> NoReturn:
    name = _name(schema.COMMAND_NAMES, command)
    if command == schema.COMMAND_RESULT_SET:
        raise DecodeError(f"Unexpected command: {name}", message_id)
    raise DecodeError(f"Internal: Unexpected command: {name}", message_id, closes=True)


def _read_query(  # noqa: PLR0917  # each is of its own type
    view: View, position: int, message_id: int, connection_id: bytes | None, texts: _Texts, depth: Depth
) -> Request:
    text, trace, inline_tables, parameters, response_format = fields(view, position, 5)
    if not text:
        raise MalformedError("the query text is missing")
    request = Request(message_id, connection_id, texts.read_text(follow(view, position + text)))
    if trace and depth > Depth.HEAD:
        request.trace = read_text(view, follow(view, position + trace))
    if response_format:
        request.response_format = view[position + response_format]
    if parameters and depth >= Depth.VALUES:
        request.parameters = _read_parameters(view, follow(view, position + parameters), message_id, texts)
    if inline_tables and depth >= Depth.ALL:
        request.inline_tables = _read_inline_tables(view, follow(view, position + inline_tables), message_id, texts)
    return request


class _Texts:
    """Copies texts out of a message, up to the bound of all of them together, which the last may exceed once."""

    __slots__ = ("_left_bytes", "_view")

    def __init__(self, view: View) -> None:
        self._view = view
        self._left_bytes = _SHARED_TEXT_BYTES + _TEXT_BYTES_PER_MESSAGE_BYTE * len(view)

    def _charge(self, size_bytes: int) -> None:
        self._left_bytes -= _TEXT_OVERHEAD_BYTES + size_bytes
        if self._left_bytes < 0:
            raise MalformedError("the texts of a message are longer than the message")

    def read_binary(self, position: int) -> bytes:
        data = Binary(read_span(memoryview(self._view), position))
        self._charge(len(data))
        return data

    def read_text(self, position: int) -> bytes:
        text = read_text(self._view, position)
        self._charge(len(text))
        return text

    def read_texts(self, position: int, max_texts: int) -> tuple[bytes, ...]:
        return tuple(self.read_text(each) for each in read_vector(self._view, position, max_texts))


class _LongTexts(_Texts):
    """Leaves those of more than `max_bytes` where they are."""

    __slots__ = ("_max_bytes",)

    def __init__(self, view: memoryview, max_bytes: int) -> None:
        super().__init__(view)
        self._max_bytes = max_bytes

    def read_binary(self, position: int) -> bytes:
        span = read_span(self._view, position)
        return super().read_binary(position) if len(span) <= self._max_bytes else self._unread(span, is_binary=True)

    def read_text(self, position: int) -> bytes:
        span = read_span(self._view, position)
        return super().read_text(position) if len(span) <= self._max_bytes else self._unread(span, is_binary=False)

    def _unread(self, span: View, *, is_binary: bool) -> Unread:
        self._charge(len(span))
        unread = Unread()
        unread.view, unread.is_binary = memoryview(span), is_binary
        return unread


def _read_parameters(view: View, position: int, message_id: int, texts: _Texts) -> tuple[Cell, ...]:
    values: list[Cell] = []
    for each in read_vector(view, position, MAX_PARAMETERS):
        type_, value = fields(view, each, 2)
        kind = view[each + type_] if type_ else schema.VALUE_NONE
        read = _READ_VALUE.get(kind)
        if read is None:
            name = _name(schema.VALUE_NAMES, kind)
            raise DecodeError(f"Internal: Unsupported parameter type: {name}", message_id, closes=True)
        if not value:
            raise MalformedError("the value of a parameter is missing")
        table = follow(view, each + value)
        (field,) = fields(view, table, 1)
        values.append(read(view, table + field if field else 0, texts))
    return tuple(values)


# Readers of a value: `field` is where it is in the message, 0 when it is left out because it is the default.


def _read_int64(view: View, field: int, _: _Texts) -> int:
    return read_i64(view, field)[0] if field else 0


def _read_bool(view: View, field: int, _: _Texts) -> bool:
    return view[field] != 0 if field else False


def _read_float64(view: View, field: int, _: _Texts) -> float:
    return read_f64(view, field)[0] if field else 0.0


def _read_string(view: View, field: int, texts: _Texts) -> bytes:
    if not field:
        raise MalformedError("the text of a string parameter is missing")
    return texts.read_text(follow(view, field))


def _read_binary(view: View, field: int, texts: _Texts) -> bytes:
    if not field:
        raise MalformedError("the bytes of a binary parameter are missing")
    return texts.read_binary(follow(view, field))


def _read_null(_view: View, _field: int, _texts: _Texts) -> None:
    return None


_READ_VALUE: dict[int, Callable[[View, int, _Texts], Cell]] = {
    schema.VALUE_INT64: _read_int64,
    schema.VALUE_BOOL: _read_bool,
    schema.VALUE_STRING: _read_string,
    schema.VALUE_BINARY: _read_binary,
    schema.VALUE_FLOAT64: _read_float64,
    schema.VALUE_NULL: _read_null,
}


def _read_inline_tables(view: View, position: int, message_id: int, texts: _Texts) -> tuple[InlineTable, ...]:
    tables = read_vector(view, position, MAX_INLINE_TABLES)
    return tuple(_read_inline_table(view, each, message_id, texts) for each in tables)


def _read_inline_table(view: View, position: int, message_id: int, texts: _Texts) -> InlineTable:
    offsets = fields(view, position, 4)
    for offset, part in zip(offsets, ("name", "columns", "types", "rows"), strict=True):
        if not offset:
            raise DecodeError(f"Internal: Inline table without {part}", message_id, closes=True)
    name, columns, types, csv_rows = (follow(view, position + offset) for offset in offsets)
    table = InlineTable(
        texts.read_text(name),
        texts.read_texts(columns, MAX_INLINE_COLUMNS),
        texts.read_texts(types, MAX_INLINE_COLUMNS),
        texts.read_text(csv_rows),
    )
    if len(table.columns) != len(table.types):
        text = f"Internal: Inline table with {len(table.columns)} columns and {len(table.types)} types"
        raise DecodeError(text, message_id, closes=True)
    for type_ in table.types:
        if not _COLUMN_TYPE.fullmatch(type_):
            raise DecodeError(f"Column type '{type_.decode()}' is not supported", message_id, closes=True)
    return table
