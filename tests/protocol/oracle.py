"""The published FlatBuffers runtime as the oracle: requests as another client builds them, replies as it reads them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flatbuffers import Builder
from flatbuffers import number_types as types
from flatbuffers.table import Table

from protocol import schema
from protocol.messages import InlineTable, Request
from storage.vocabulary import Binary, Cell


def build_request(request: Request, *, forced_defaults: bool = False) -> bytes:
    """A message that reads as this request, laid out back to front as the JS client's builder does."""
    builder = Builder(64)
    builder.ForceDefaults(forced_defaults)
    inline_tables = _vector(builder, [_inline_table(builder, each) for each in request.inline_tables])
    parameters = 0
    if request.parameters is not None:
        parameters = _vector(builder, [_parameter(builder, each) for each in request.parameters])
    query = builder.CreateString(request.query)
    trace = _optional_string(builder, request.trace)
    command = build_table(
        builder,
        _reference(query),
        _reference(trace),
        _reference(inline_tables if request.inline_tables else 0),
        _reference(parameters),
        ("Uint8", request.response_format),
    )
    return finish_message(builder, request.message_id, schema.COMMAND_QUERY, command, request.connection_id)


def finish_message(
    builder: Builder, message_id: int, kind: int, command: int, connection_id: bytes | None = None
) -> bytes:
    """The HttpMessage around a command that was built."""
    connection = _optional_string(builder, connection_id)
    root = build_table(builder, ("Uint32", message_id), ("Uint8", kind), _reference(command), _reference(connection))
    builder.Finish(root)
    return bytes(builder.Output())


def _reference(offset: int) -> tuple[str, int] | None:
    return ("UOffsetTRelative", offset) if offset else None


def build_table(builder: Builder, *fields: tuple[str, int] | None) -> int:
    """A table of `("Uint8", 5)` or `("UOffsetTRelative", offset)` fields in slot order."""
    builder.StartObject(len(fields))
    for slot, field in enumerate(fields):
        if field is not None:
            getattr(builder, f"Prepend{field[0]}Slot")(slot, field[1], 0)
    offset: int = builder.EndObject()
    return offset


def _optional_string(builder: Builder, text: bytes | None) -> int:
    offset: int = 0 if text is None else builder.CreateString(text)
    return offset


def _vector(builder: Builder, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    vector: int = builder.EndVector()
    return vector


def _inline_table(builder: Builder, table: InlineTable) -> int:
    parts = [
        builder.CreateString(table.name),
        _vector(builder, [builder.CreateString(each) for each in table.columns]),
        _vector(builder, [builder.CreateString(each) for each in table.types]),
        builder.CreateString(table.csv_rows),
    ]
    return build_table(builder, *(("UOffsetTRelative", part) for part in parts))


def _parameter(builder: Builder, value: Cell) -> int:
    kind, table = _value(builder, value)
    return build_table(builder, ("Uint8", kind), ("UOffsetTRelative", table))


def _value(builder: Builder, value: Cell) -> tuple[int, int]:
    match value:
        case None:
            return schema.VALUE_NULL, build_table(builder)
        case bool():
            return schema.VALUE_BOOL, build_table(builder, ("Bool", value))
        case int():
            return schema.VALUE_INT64, build_table(builder, ("Int64", value))
        case float():
            builder.StartObject(1)
            builder.PrependFloat64Slot(0, value, 0.0)
            return schema.VALUE_FLOAT64, builder.EndObject()
        case Binary():
            data = builder.CreateByteVector(bytes(value))
            return schema.VALUE_BINARY, build_table(builder, ("UOffsetTRelative", data))
        case _:
            return schema.VALUE_STRING, build_table(builder, ("UOffsetTRelative", builder.CreateString(value)))


class Reading:
    """One table of a reply, through the runtime's accessors."""

    def __init__(self, buffer: bytes, position: int | None = None) -> None:
        root = int.from_bytes(buffer[:4], "little") if position is None else position
        self._table = Table(buffer, root)

    def _field(self, slot: int) -> int:
        offset: int = self._table.Offset(4 + 2 * slot)
        return offset

    def has(self, slot: int) -> bool:
        return self._field(slot) != 0

    def number(self, slot: int, flags: Any) -> Any:
        offset = self._field(slot)
        return self._table.Get(flags, self._table.Pos + offset) if offset else 0

    def u8(self, slot: int) -> int:
        return int(self.number(slot, types.Uint8Flags))

    def u32(self, slot: int) -> int:
        return int(self.number(slot, types.Uint32Flags))

    def text(self, slot: int) -> bytes | None:
        offset = self._field(slot)
        return bytes(self._table.String(self._table.Pos + offset)) if offset else None

    def table(self, slot: int) -> Reading:
        return Reading(self._table.Bytes, self._table.Indirect(self._table.Pos + self._field(slot)))

    def elements(self, slot: int) -> list[int]:
        """The positions of a vector's slots."""
        field = self._field(slot)
        start, count = self._table.Vector(field), self._table.VectorLen(field)
        return [start + 4 * index for index in range(count)]

    def texts(self, slot: int) -> list[bytes]:
        return [bytes(self._table.String(position)) for position in self.elements(slot)]

    def tables(self, slot: int) -> list[Reading]:
        indirect: Callable[[int], int] = self._table.Indirect
        return [Reading(self._table.Bytes, indirect(position)) for position in self.elements(slot)]

    def byte_vector(self, slot: int) -> bytes:
        field = self._field(slot)
        start, size = self._table.Vector(field), self._table.VectorLen(field)
        return bytes(self._table.Bytes[start : start + size])


def read_result_set(reply: bytes) -> tuple[int, list[str], list[list[bytes | None]]]:
    """Message id, column names and rows of an HttpResultSet."""
    message = Reading(reply)
    assert message.u8(1) == schema.COMMAND_RESULT_SET
    result = message.table(2)
    assert result.has(0), "the vector of columns is there, also without any"
    assert result.has(1), "the vector of rows is there, also without any"
    rows = [[cell.text(0) for cell in row.tables(0)] for row in result.tables(1)]
    return message.u32(0), [name.decode() for name in result.texts(0)], rows


def read_error(reply: bytes) -> tuple[int, str]:
    """Message id and text of an HttpError."""
    message = Reading(reply)
    assert message.u8(1) == schema.COMMAND_ERROR
    text = message.table(2).text(0)
    assert text is not None
    return message.u32(0), text.decode()
