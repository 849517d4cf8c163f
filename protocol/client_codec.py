"""The client's side of the wire: requests to bytes, replies to data (wire.md §4).

Used by the command line, the load generator and the tests, and by the server where it is a client of a CubeStore.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from protocol import schema
from protocol.errors import ProtocolError
from protocol.flat import (
    READ_ERRORS,
    Block,
    MalformedError,
    Scalar,
    View,
    byte_vector,
    fields,
    follow,
    message,
    pack_u32,
    read_span,
    read_text,
    read_u32,
    read_vector,
    string,
    table,
    vector,
)
from protocol.http_message import cut_message
from protocol.messages import InlineTable, ResponseFormat
from storage.vocabulary import Binary, Cell

MAX_CELLS = 10_000_000  # of one vector: as many tables as the native client reads


@dataclass(slots=True)
class Rows:
    """An HttpResultSet: every value is text, NULL is None."""

    message_id: int
    columns: tuple[str, ...]
    rows: list[tuple[bytes | None, ...]]


@dataclass(slots=True)
class ErrorReply:
    """An HttpError."""

    message_id: int
    text: str


@dataclass(slots=True)
class ArrowReply:
    """An HttpQueryResult: an Arrow IPC stream, or None when the command has no columns (Completed)."""

    message_id: int
    stream: bytes | None
    is_last: bool = True


Reply: TypeAlias = Rows | ErrorReply | ArrowReply


def encode_query(
    message_id: int,
    query: str | bytes,
    parameters: Sequence[Cell] | None = None,
    *,
    connection_id: str | None = None,
    response_format: int = ResponseFormat.LEGACY,
    trace: str | None = None,
    inline_tables: Sequence[InlineTable] = (),
) -> bytes:
    """One HttpQuery. A parameter is text as `bytes`, binary as `Binary`, or a number, a truth value or None."""
    text = query.encode() if isinstance(query, str) else query
    command = table(
        string(text),
        string(trace.encode()) if trace is not None else None,
        vector([_inline_table(each) for each in inline_tables]) if inline_tables else None,
        vector([_parameter(each) for each in parameters]) if parameters is not None else None,
        Scalar("B", response_format) if response_format else None,
    )
    connection = string(connection_id.encode()) if connection_id is not None else None
    return message(table(Scalar("I", message_id), Scalar("B", schema.COMMAND_QUERY), command, connection))


def _inline_table(inline: InlineTable) -> Block:
    columns, types = (vector([string(each) for each in texts]) for texts in (inline.columns, inline.types))
    return table(string(inline.name), columns, types, string(inline.csv_rows))


def _parameter(value: Cell) -> Block:
    kind, block = _union_value(value)
    return table(Scalar("B", kind), block)


def _union_value(value: Cell) -> tuple[int, Block]:
    if value is None:
        return schema.VALUE_NULL, table()
    if isinstance(value, bool):
        return schema.VALUE_BOOL, table(Scalar("B", value))
    if isinstance(value, int):
        return schema.VALUE_INT64, table(Scalar("q", value))
    if isinstance(value, float):
        return schema.VALUE_FLOAT64, table(Scalar("d", value))
    if isinstance(value, Binary):
        return schema.VALUE_BINARY, table(byte_vector(value))
    return schema.VALUE_STRING, table(string(value))


class QueryEncoder:
    """Encodes the plain queries of one connection: text alone, everything else a constant. About 1 µs each.

    `trace` is the text of the trace object, which clients write into every message (wire.md §4).
    """

    __slots__ = ("_after_id", "_before_id")

    def __init__(
        self,
        connection_id: str | None = None,
        response_format: int = ResponseFormat.LEGACY,
        trace: str | None = None,
    ) -> None:
        text, trace_text = string(b""), string(trace.encode()) if trace is not None else None
        format_ = Scalar("B", response_format) if response_format else None
        command = table(text, trace_text, None, None, format_, tail=0)
        connection = string(connection_id.encode()) if connection_id is not None else None
        self._before_id, self._after_id = cut_message(schema.COMMAND_QUERY, command, text, connection)

    def encode(self, message_id: int, query: bytes) -> bytes:
        """One HttpQuery with this text."""
        padding = bytes(4 - (len(query) & 3))
        return b"".join((self._before_id, pack_u32(message_id), self._after_id, pack_u32(len(query)), query, padding))


def decode_reply(buffer: bytes | bytearray | memoryview) -> Reply:
    """Read one message of the server. Raises `ProtocolError` for bytes that are no reply."""
    view: View = buffer if type(buffer) is bytes else memoryview(buffer)
    try:
        kind, position, message_id = _read_envelope(view)
        return _READ_REPLY[kind](view, position, message_id)
    except READ_ERRORS as error:
        raise ProtocolError(f"not a reply: {error}") from error


def decode_rows(buffer: bytes) -> ErrorReply | tuple[tuple[str, ...], Iterator[tuple[bytes | None, ...]]]:
    """The same for a reply in the legacy format: names of columns, and an iterator that decodes a row at a time.

    Both may raise `ProtocolError`.
    """
    try:
        kind, position, message_id = _read_envelope(buffer)
        if kind == schema.COMMAND_ERROR:
            return _read_error(buffer, position, message_id)
        if kind != schema.COMMAND_RESULT_SET:
            raise MalformedError(f"command {kind}")
        columns, positions = _read_columns(buffer, position)
        return columns, _decoded_rows(buffer, positions, len(columns))
    except READ_ERRORS as error:
        raise ProtocolError(f"not a reply: {error}") from error


def _decoded_rows(view: View, positions: Sequence[int], count: int) -> Iterator[tuple[bytes | None, ...]]:
    try:
        for position in positions:
            yield _read_row(view, position, count)
    except READ_ERRORS as error:
        raise ProtocolError(f"not a reply: {error}") from error


def _read_envelope(view: View) -> tuple[int, int, int]:
    """The kind of a message, where its command is, and its id."""
    position = follow(view, 0)
    id_, type_, command, _ = fields(view, position, 4)
    message_id = read_u32(view, position + id_)[0] if id_ else 0
    kind = view[position + type_] if type_ else schema.COMMAND_NONE
    if kind not in _READ_REPLY:
        raise MalformedError(f"command {kind}")
    return kind, _required(view, position, command), message_id


def _required(view: View, position: int, offset: int) -> int:
    if not offset:
        raise MalformedError("a part of it is missing")
    return follow(view, position + offset)


def _read_rows(view: View, position: int, message_id: int) -> Rows:
    columns, positions = _read_columns(view, position)
    return Rows(message_id, columns, [_read_row(view, row, len(columns)) for row in positions])


def _read_columns(view: View, position: int) -> tuple[tuple[str, ...], Sequence[int]]:
    names, rows = (_required(view, position, offset) for offset in fields(view, position, 2))
    columns = tuple(read_text(view, name).decode() for name in read_vector(view, names, MAX_CELLS))
    return columns, list(read_vector(view, rows, MAX_CELLS))


def _read_row(view: View, position: int, count: int) -> tuple[bytes | None, ...]:
    (values,) = fields(view, position, 1)
    cells = read_vector(view, _required(view, position, values), count)
    return tuple(_read_cell(view, cell) for cell in cells)


def _read_cell(view: View, position: int) -> bytes | None:
    (text,) = fields(view, position, 1)
    return read_text(view, follow(view, position + text)) if text else None


def _read_error(view: View, position: int, message_id: int) -> ErrorReply:
    return ErrorReply(message_id, (_read_cell(view, position) or b"").decode())


def _read_arrow(view: View, position: int, message_id: int) -> ArrowReply:
    type_, data = fields(view, position, 2)
    kind = view[position + type_] if type_ else schema.DATA_NONE
    table = _required(view, position, data)
    if kind == schema.DATA_COMPLETED:
        return ArrowReply(message_id, None)
    if kind != schema.DATA_ARROW:
        raise MalformedError(f"query result data of type {kind}")
    stream, is_last = fields(view, table, 2)
    return ArrowReply(
        message_id,
        bytes(read_span(view, _required(view, table, stream))),
        view[table + is_last] != 0 if is_last else False,
    )


_READ_REPLY: dict[int, Callable[[View, int, int], Reply]] = {
    schema.COMMAND_RESULT_SET: _read_rows,
    schema.COMMAND_ERROR: _read_error,
    schema.COMMAND_QUERY_RESULT: _read_arrow,
}
