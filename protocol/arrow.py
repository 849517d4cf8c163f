"""Results to Arrow replies: one IPC stream of a schema, one record batch and the end marker (wire.md §5).

The schema message depends on the columns alone and is kept. A record batch is a small FlatBuffers head, numbers
only, and then the buffers of the columns one after the other:

    Boolean                 bitmap of the cells that are there | bitmap of the truth values
    Int, Float, Timestamp   bitmap of the cells that are there | numbers of 64 bits
    String, Bytes           bitmap of the cells that are there | offsets of 32 bits | the bytes

The first bitmap is empty when no cell is NULL. Every buffer begins on a multiple of eight bytes within the stream,
and the stream on one within the reply.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import Final, TypeAlias

from protocol import schema
from protocol.cells import binary_columns, plain_text
from protocol.errors import ReplyTooLargeError
from protocol.flat import ALIGNMENT, MAX_BUFFER_BYTES, Block, Scalar, message, pack_u32, padding, string, table, vector
from protocol.http_message import cut_message
from protocol.pieces import JOINED_BYTES, LARGE_BYTES, STEP_ROWS, Message, Pieces, Steps, blocks_of, finish
from storage.vocabulary import Binary, Cell, Columns, ColumnType, Result

Values: TypeAlias = Sequence[Cell]

_METADATA_V5: Final = 4
_SCHEMA_HEADER, _RECORD_BATCH_HEADER = 1, 3
_DOUBLE, _MICROSECOND = 2, 2
_CONTINUATION: Final = b"\xff\xff\xff\xff"
_END_OF_STREAM: Final = _CONTINUATION + bytes(4)
_MAX_STREAM_BYTES: Final = MAX_BUFFER_BYTES - (1 << 10)  # leaves room for the head of the reply
_MAX_SCHEMAS: Final = 256  # columns of SELECTs are made anew each time
_PADS = tuple(padding(length) for length in range(ALIGNMENT))
_NULL_CELL: Final = bytes(16)  # a bitmap without its bit, and a number, a truth value or two offsets
_TRUE_CELL, _FALSE_CELL = b"\1".ljust(ALIGNMENT, b"\0"), bytes(ALIGNMENT)
_pack_offsets = struct.Struct("<ii").pack
_pack_i32 = struct.Struct("<i").pack
_STRUCT_BYTES: Final = 16  # of a FieldNode and of a Buffer: two numbers of 64 bits each

# By the type of a column: its number in the union Type, and its table.
_ARROW_TYPES: dict[ColumnType, tuple[int, Block]] = {
    ColumnType.STRING: (5, table()),
    ColumnType.BOOLEAN: (6, table()),
    ColumnType.INT: (2, table(Scalar("i", 64), Scalar("?", True))),
    ColumnType.BYTES: (4, table()),
    ColumnType.FLOAT: (3, table(Scalar("h", _DOUBLE))),
    ColumnType.TIMESTAMP: (10, table(Scalar("h", _MICROSECOND))),
}

# An empty vector of bytes whose content, were there any, would begin on a multiple of eight.
_NO_STREAM = Block(bytes(ALIGNMENT), ALIGNMENT - 4)
_BEFORE_ID, _ARROW_HEAD = cut_message(
    schema.COMMAND_QUERY_RESULT,
    table(Scalar("B", schema.DATA_ARROW), table(_NO_STREAM, Scalar("?", True))),
    Block(bytes(4)),
)
_COMPLETED = cut_message(schema.COMMAND_QUERY_RESULT, table(Scalar("B", schema.DATA_COMPLETED), table()), Block(b""))[1]


def encode_arrow(message_id: int, result: Result) -> bytes:
    """The HttpQueryResult of a result in one piece: an Arrow stream, or Completed without columns. O(cells + bytes).

    Raises `ReplyTooLargeError` past 2 GiB, before it takes the memory.
    """
    message = arrow_message(message_id, result)
    return message if type(message) is bytes else bytes(message)


def arrow_message(message_id: int, result: Result) -> Message:
    """The same; values of a long one are not copied."""
    rows = result.rows
    layout = _layouts.get(result.columns) or _layout_of(result.columns)
    if not rows or not layout.types:
        return b"".join((_BEFORE_ID, pack_u32(message_id), layout.empty))
    if len(rows) > STEP_ROWS:
        return finish(arrow_steps(message_id, result))
    if len(rows) == 1 and Binary not in map(type, rows[0]):
        body = _body_of_row(layout, rows[0])
    else:
        types = list(layout.types)
        for at in binary_columns(rows):
            types[at] = ColumnType.BYTES
        layout = layout.with_types(tuple(types))
        columns = [_Column(type_) for type_ in types]
        for column, values in zip(columns, zip(*rows, strict=True), strict=True):
            column.add(values)
        body = _body_of_columns(columns)
    parts = (layout.head(message_id, len(rows), body), *body.parts, _END_OF_STREAM)
    return b"".join(parts) if body.size <= JOINED_BYTES else Pieces(parts)


def arrow_steps(message_id: int, result: Result) -> Steps:
    """The same step by step; the rows are read a block at a time, twice."""
    rows = result.rows
    layout = _layouts.get(result.columns) or _layout_of(result.columns)
    types = list(layout.types)
    for block in blocks_of(rows):
        for at in binary_columns(block):
            types[at] = ColumnType.BYTES
        yield
    layout = layout.with_types(tuple(types))
    columns = [_Column(type_) for type_ in types]
    for block in blocks_of(rows):
        for column, values in zip(columns, zip(*block, strict=True), strict=True):
            column.add(values)
        yield
    body = _body_of_columns(columns)
    message = Pieces((layout.head(message_id, len(rows), body),))
    message.add((*body.parts, _END_OF_STREAM))
    return message


def _check_size(size_bytes: int) -> None:
    if size_bytes > _MAX_STREAM_BYTES:
        raise ReplyTooLargeError(size_bytes)


class _Body:
    """The buffers of a record batch as they grow: their bytes, their places, and the NULLs of each column."""

    __slots__ = ("nodes", "parts", "places", "size")

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size = 0
        self.nodes: list[int] = []  # number of cells and number of NULLs, column after column
        self.places: list[int] = []  # offset and length, buffer after buffer

    def add_buffer(self, parts: list[bytes]) -> None:
        self.parts += parts
        length = sum(map(len, parts))
        self.places += (self.size, length)
        self.parts.append(padding(length))
        self.size += length + -length % ALIGNMENT


class _Column:
    """One column as it grows, a block of rows at a time; the bytes of large texts are not copied."""

    __slots__ = ("_bitmaps", "_count", "_end", "_null_count", "_numbers", "_texts", "_write_numbers")

    def __init__(self, type_: ColumnType) -> None:
        self._write_numbers = _WRITERS.get(type_)
        self._count = 0
        self._null_count = 0
        self._bitmaps: list[bytes] = []
        self._numbers: list[bytes] = []  # or truth values, or offsets but the last one
        self._texts = Pieces()
        self._end = 0  # the last offset

    def add(self, values: Values) -> None:
        """Append the values of a block: a multiple of eight of them, or the last ones. O(values + bytes)."""
        null_count = values.count(None)
        self._bitmaps.append(_bitmap([value is not None for value in values]) if null_count else _ones(len(values)))
        self._count += len(values)
        self._null_count += null_count
        if self._write_numbers is None:
            self._add_texts(values)
        else:
            self._numbers.append(self._write_numbers(values))

    def _add_texts(self, values: Values) -> None:
        texts = [value if isinstance(value, bytes) else b"" if value is None else plain_text(value) for value in values]
        offsets = list(accumulate(map(len, texts), initial=self._end))
        start, self._end = self._end, offsets.pop()
        _check_size(self._end)
        self._numbers.append(struct.pack(f"<{len(offsets)}i", *offsets))
        if self._end - start < LARGE_BYTES:
            self._texts.add_joined(texts)
        else:
            self._texts.add(texts)

    def write(self, body: _Body) -> None:
        """Append the buffers."""
        body.nodes += (self._count, self._null_count)
        body.add_buffer(self._bitmaps if self._null_count else [])
        if self._write_numbers is None:
            self._numbers.append(_pack_i32(self._end))
            body.add_buffer(self._numbers)
            body.add_buffer(self._texts.pieces)
        else:
            body.add_buffer(self._numbers)


def _body_of_columns(columns: Iterable[_Column]) -> _Body:
    body = _Body()
    for column in columns:
        column.write(body)
    return body


def _body_of_row(layout: _Layout, row: Values) -> _Body:
    """The same for a single row, as most replies are, in a quarter of the time."""
    body = _Body()
    parts, nodes, places, at = body.parts, body.nodes, body.places, 0
    for width, write, value in zip(layout.cell_widths, layout.cell_writers, row, strict=True):
        if value is None:
            nodes += (1, 1)
            places += (at, 1, at + 8, width)
            if write is None:
                places += (at + 16, 0)
            parts.append(_NULL_CELL)
            at += 16
        elif write is not None:
            nodes += (1, 0)
            places += (at, 0, at, width)
            parts.append(write(value))
            at += 8
        else:
            text = value if type(value) is bytes else plain_text(value)
            length = len(text)
            _check_size(length)
            nodes += (1, 0)
            places += (at, 0, at, 8, at + 8, length)
            parts += (_pack_offsets(0, length), text, _PADS[length & 7])
            at += 8 + length + (-length & 7)
    body.size = at
    return body


def _bitmap(flags: Sequence[object]) -> bytes:
    """One bit a flag, the first in the lowest bit of the first byte. O(flags)."""
    digits = "".join(["1" if flag else "0" for flag in reversed(flags)])
    return int(digits or "0", 2).to_bytes((len(flags) + 7) // 8, "little")


def _ones(count: int) -> bytes:
    """The bitmap of so many cells that are all there."""
    return ((1 << count) - 1).to_bytes((count + 7) // 8, "little")


# The buffer of a block of numbers or truth values; other types are written as texts.
_WRITERS: dict[ColumnType, Callable[[Values], bytes]] = {
    ColumnType.BOOLEAN: _bitmap,
    ColumnType.INT: lambda values: struct.pack(f"<{len(values)}q", *[value or 0 for value in values]),
    ColumnType.FLOAT: lambda values: struct.pack(
        f"<{len(values)}d", *[0.0 if value is None else value for value in values]
    ),
    ColumnType.TIMESTAMP: lambda values: struct.pack(
        f"<{len(values)}q", *[value * 1_000 if isinstance(value, int) else 0 for value in values]
    ),
}
# The value of a number or truth value as the only one of its column; texts have no fixed width and are not here.
_CELL_WRITERS: dict[ColumnType, Callable[[Cell], bytes]] = {
    ColumnType.BOOLEAN: lambda value: _TRUE_CELL if value else _FALSE_CELL,
    ColumnType.INT: struct.Struct("<q").pack,
    ColumnType.FLOAT: struct.Struct("<d").pack,
    ColumnType.TIMESTAMP: lambda value: struct.pack("<q", value * 1_000 if isinstance(value, int) else 0),
}
_BUFFER_COUNTS = {type_: 2 if type_ in _WRITERS else 3 for type_ in ColumnType}


def _encapsulated(header_type: int, header: Block) -> bytes:
    """An Arrow message without its body: the marker, the length, and the metadata."""
    root = table(Scalar("h", _METADATA_V5), Scalar("B", header_type), header, Scalar("q", 0))
    metadata = message(root)
    return b"".join((_CONTINUATION, pack_u32(len(metadata)), metadata))


def _structs(count: int) -> Block:
    """A vector of `count` structs of zeros, on a multiple of eight."""
    return Block(bytes(4) + pack_u32(count) + bytes(_STRUCT_BYTES * count), 4)


class _Layout:
    """What is constant in the streams with columns of these names and types."""

    __slots__ = ("_constants", "_names", "_pack", "_size", "_variants", "cell_widths", "cell_writers", "empty", "types")

    def __init__(self, names: Sequence[str], types: tuple[ColumnType, ...]) -> None:
        self.types = types
        self.cell_widths = [1 if type_ is ColumnType.BOOLEAN else 8 for type_ in types]
        self.cell_writers = [_CELL_WRITERS.get(type_) for type_ in types]
        self._names = names
        self._variants: dict[tuple[ColumnType, ...], _Layout] = {}
        field_blocks = [_field(name, type_) for name, type_ in zip(names, types, strict=True)]
        stream_head = _encapsulated(_SCHEMA_HEADER, table(None, vector(field_blocks)))
        buffer_count = sum(_BUFFER_COUNTS[type_] for type_ in types)
        batch = table(Scalar("q", 0), _structs(len(types)), _structs(buffer_count))
        stream_head += _encapsulated(_RECORD_BATCH_HEADER, batch)
        self._size = len(stream_head) + len(_END_OF_STREAM)
        batch_at = len(stream_head) - len(batch.data)
        places_at = len(stream_head) - _STRUCT_BYTES * buffer_count
        numbers = {
            batch_at - 8: 1,  # the size of the body, the last field before the child
            batch_at + batch.target + 8: 1,  # the number of rows, the first field, aligned
            places_at - 8 - _STRUCT_BYTES * len(types): 2 * len(types),
            places_at: 2 * buffer_count,
        }
        self._constants = []
        format_ = f"<{len(_BEFORE_ID)}sI{len(_ARROW_HEAD)}sI"
        position = 0
        for at, count in numbers.items():
            self._constants.append(stream_head[position:at])
            format_ += f"{at - position}s{count}q"
            position = at + 8 * count
        self._pack = struct.Struct(format_).pack
        self.empty = self._empty() if types else _COMPLETED

    def _empty(self) -> bytes:
        """The reply without rows, from behind the message id."""
        body = _body_of_columns([_Column(type_) for type_ in self.types])
        return b"".join((self.head(0, 0, body)[len(_BEFORE_ID) + 4 :], *body.parts, _END_OF_STREAM))

    def with_types(self, types: tuple[ColumnType, ...]) -> _Layout:
        """The layout of the same columns with other types: those that hold a binary value are Bytes."""
        if types == self.types:
            return self
        if types not in self._variants:
            self._variants[types] = _Layout(self._names, types)
        return self._variants[types]

    def head(self, message_id: int, row_count: int, body: _Body) -> bytes:
        """The reply up to the body of its record batch. Raises `ReplyTooLargeError`."""
        size = self._size + body.size
        _check_size(size)
        to_size, to_rows, to_nodes, to_places = self._constants
        return self._pack(
            _BEFORE_ID,
            message_id,
            _ARROW_HEAD,
            size,
            to_size,
            body.size,
            to_rows,
            row_count,
            to_nodes,
            *body.nodes,
            to_places,
            *body.places,
        )


def _field(name: str, type_: ColumnType) -> Block:
    number, type_table = _ARROW_TYPES[type_]
    no_children = vector(())
    return table(string(name.encode()), Scalar("?", True), Scalar("B", number), type_table, None, no_children)


_layouts: dict[Columns, _Layout] = {}


def _layout_of(columns: Columns) -> _Layout:
    if len(_layouts) >= _MAX_SCHEMAS:
        _layouts.clear()
    return _layouts.setdefault(columns, _Layout(columns.names, columns.types))
