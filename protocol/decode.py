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

import re
from collections.abc import Callable
from typing import NoReturn

from protocol import schema
from protocol.errors import DecodeError
from protocol.flat import READ_ERRORS, MalformedError, Table, View, check_utf8, read_span, read_text, read_vector
from protocol.messages import InlineTable, Request, ResponseFormat
from storage.vocabulary import Binary, Cell

MAX_PARAMETERS = 65_535
MAX_INLINE_TABLES = 1_024
MAX_INLINE_COLUMNS = 65_535

# Builders may share a string between fields, so the texts of an honest message can exceed its size, a little.
_TEXT_BYTES_PER_MESSAGE_BYTE = 2
_TEXT_FRAME_BYTES = 8  # what even an empty string takes: its length, and its NUL padded

_COLUMN_TYPE = re.compile(
    rb"text|int|int96|bigint|bytes|timestamp|float|boolean|decimal(96)?\(\d+(, *\d+)?\)|hyperloglog\w*|hll_\w+"
)


def decode_request(buffer: bytes | bytearray | memoryview) -> Request:
    """Read one message of a client. `buffer` is not kept.

    Raises `DecodeError` for bytes that are no request; it says what to answer and whether to close.
    """
    view: View = buffer if type(buffer) is bytes else memoryview(buffer)
    try:
        message = Table.root(view)
        message_id = message.u32(schema.MESSAGE_ID)
    except READ_ERRORS as error:
        raise DecodeError(_undecodable(error)) from None
    try:
        command = message.u8(schema.MESSAGE_COMMAND_TYPE)
        if command != schema.COMMAND_QUERY:
            _refuse_command(command, message_id)
        connection_id = message.text(schema.MESSAGE_CONNECTION_ID)
        query = Table(view, message.required(schema.MESSAGE_COMMAND, "the command"))
        return _read_query(view, query, message_id, connection_id)
    except READ_ERRORS as error:
        raise DecodeError(_undecodable(error), message_id) from None


def response_format_refusal(request: Request) -> str | None:
    """The HttpError for a request whose answer cannot be written as asked; None when it can (wire.md §5).

    To be asked before the statement is executed.
    """
    if request.response_format in (ResponseFormat.LEGACY, ResponseFormat.ARROW):
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


def _read_query(view: View, query: Table, message_id: int, connection_id: bytes | None) -> Request:
    text = read_text(view, query.required(schema.QUERY_TEXT, "the query text"))
    request = Request(message_id, connection_id, text)
    request.trace = query.text(schema.QUERY_TRACE)
    request.response_format = query.u8(schema.QUERY_RESPONSE_FORMAT)
    parameters = query.reference(schema.QUERY_PARAMETERS)
    inline_tables = query.reference(schema.QUERY_INLINE_TABLES)
    if parameters or inline_tables:
        texts = _Texts(view)
        if parameters:
            request.parameters = _read_parameters(view, parameters, message_id, texts)
        if inline_tables:
            request.inline_tables = _read_inline_tables(view, inline_tables, message_id, texts)
    return request


class _Texts:
    """Copies texts out of a message, up to the bound of all of them together."""

    __slots__ = ("_left_bytes", "_view")

    def __init__(self, view: View) -> None:
        self._view = memoryview(view)
        self._left_bytes = _TEXT_BYTES_PER_MESSAGE_BYTE * len(view)

    def _span(self, position: int) -> View:
        span = read_span(self._view, position)
        self._left_bytes -= _TEXT_FRAME_BYTES + len(span)
        if self._left_bytes < 0:
            raise MalformedError("the texts of a message are longer than the message")
        return span

    def read_binary(self, position: int) -> Binary:
        return Binary(self._span(position))

    def read_text(self, position: int) -> bytes:
        text = bytes(self._span(position))
        check_utf8(text)
        return text

    def read_texts(self, position: int, max_texts: int) -> tuple[bytes, ...]:
        return tuple(self.read_text(each) for each in read_vector(self._view, position, max_texts))


def _read_parameters(view: View, position: int, message_id: int, texts: _Texts) -> tuple[Cell, ...]:
    values: list[Cell] = []
    for each in read_vector(view, position, MAX_PARAMETERS):
        parameter = Table(view, each)
        kind = parameter.u8(schema.UNION_TYPE)
        read = _READ_VALUE.get(kind)
        if read is None:
            name = _name(schema.VALUE_NAMES, kind)
            raise DecodeError(f"Internal: Unsupported parameter type: {name}", message_id, closes=True)
        value = Table(view, parameter.required(schema.UNION_VALUE, "the value of a parameter"))
        values.append(read(value, texts))
    return tuple(values)


def _read_string(value: Table, texts: _Texts) -> bytes:
    return texts.read_text(value.required(schema.ONLY, "the text of a string parameter"))


def _read_binary(value: Table, texts: _Texts) -> Binary:
    return texts.read_binary(value.required(schema.ONLY, "the bytes of a binary parameter"))


_READ_VALUE: dict[int, Callable[[Table, _Texts], Cell]] = {
    schema.VALUE_INT64: lambda value, _: value.i64(schema.ONLY),
    schema.VALUE_BOOL: lambda value, _: value.u8(schema.ONLY) != 0,
    schema.VALUE_STRING: _read_string,
    schema.VALUE_BINARY: _read_binary,
    schema.VALUE_FLOAT64: lambda value, _: value.f64(schema.ONLY),
    schema.VALUE_NULL: lambda value, _: None,
}


def _read_inline_tables(view: View, position: int, message_id: int, texts: _Texts) -> tuple[InlineTable, ...]:
    return tuple(
        _read_inline_table(Table(view, each), message_id, texts)
        for each in read_vector(view, position, MAX_INLINE_TABLES)
    )


def _read_inline_table(table: Table, message_id: int, texts: _Texts) -> InlineTable:
    def required(slot: int, name: str) -> int:
        position = table.reference(slot)
        if not position:
            raise DecodeError(f"Internal: Inline table without {name}", message_id, closes=True)
        return position

    name = texts.read_text(required(schema.TABLE_NAME, "name"))
    columns = texts.read_texts(required(schema.TABLE_COLUMNS, "columns"), MAX_INLINE_COLUMNS)
    types = texts.read_texts(required(schema.TABLE_TYPES, "types"), MAX_INLINE_COLUMNS)
    csv_rows = texts.read_text(required(schema.TABLE_CSV_ROWS, "rows"))
    if len(columns) != len(types):
        text = f"Internal: Inline table with {len(columns)} columns and {len(types)} types"
        raise DecodeError(text, message_id, closes=True)
    for type_ in types:
        if not _COLUMN_TYPE.fullmatch(type_):
            raise DecodeError(f"Column type '{type_.decode()}' is not supported", message_id, closes=True)
    return InlineTable(name, columns, types, csv_rows)
