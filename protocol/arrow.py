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
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Final, TypeAlias

from protocol import schema
from protocol.cells import effective_type, plain_text
from protocol.errors import ReplyTooLargeError
from protocol.flat import ALIGNMENT, MAX_BUFFER_BYTES, Block, Scalar, message, pack_u32, padding, string, table, vector
from protocol.http_message import cut_message
from storage.vocabulary import Cell, Columns, ColumnType, Result

Values: TypeAlias = Sequence[Cell]

_METADATA_V5: Final = 4
_SCHEMA_HEADER, _RECORD_BATCH_HEADER = 1, 3
_DOUBLE, _MICROSECOND = 2, 2
_CONTINUATION: Final = b"\xff\xff\xff\xff"
_END_OF_STREAM: Final = _CONTINUATION + bytes(4)
_MAX_STREAM_BYTES: Final = MAX_BUFFER_BYTES - (1 << 10)  # leaves room for the head of the reply
_MAX_SCHEMAS: Final = 256  # columns of SELECTs are made anew each time
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
    """The HttpQueryResult of a result: an Arrow stream, or Completed without columns. O(cells + bytes).

    Raises `ReplyTooLargeError` past 2 GiB, before it takes the memory.
    """
    if not len(result.columns):
        return b"".join((_BEFORE_ID, pack_u32(message_id), _COMPLETED))
    columns: Sequence[Values] = list(zip(*result.rows, strict=True)) or [()] * len(result.columns)
    types = tuple(map(effective_type, result.columns.types, columns))
    body = _Body()
    for type_, values in zip(types, columns, strict=True):
        body.add_column(type_, values)
    layout = _layout_of(result.columns, types)
    batch = layout.record_batch(len(result.rows), body)
    size = len(layout.schema) + len(batch) + body.size + len(_END_OF_STREAM)
    _check_size(size)
    return b"".join(
        (
            _BEFORE_ID,
            pack_u32(message_id),
            _ARROW_HEAD,
            pack_u32(size),
            layout.schema,
            batch,
            *body.parts,
            _END_OF_STREAM,
        )
    )


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

    def add_column(self, type_: ColumnType, values: Values) -> None:
        """Append the buffers of a column. O(values + bytes); the bytes of texts are not copied."""
        null_count = values.count(None)
        self.nodes += (len(values), null_count)
        self.add_buffer(_bitmap([value is not None for value in values]) if null_count else b"")
        _WRITERS[type_](self, values)

    def add_buffer(self, *parts: bytes) -> None:
        length = sum(map(len, parts))
        self.places += (self.size, length)
        self.parts += parts
        self.parts.append(padding(length))
        self.size += length + -length % ALIGNMENT


def _bitmap(flags: Sequence[object]) -> bytes:
    """One bit a flag, the first in the lowest bit of the first byte. O(flags)."""
    digits = "".join(["1" if flag else "0" for flag in reversed(flags)])
    return int(digits or "0", 2).to_bytes((len(flags) + 7) // 8, "little")


def _write_booleans(body: _Body, values: Values) -> None:
    body.add_buffer(_bitmap(values))


def _write_ints(body: _Body, values: Values) -> None:
    body.add_buffer(struct.pack(f"<{len(values)}q", *[value or 0 for value in values]))


def _write_floats(body: _Body, values: Values) -> None:
    body.add_buffer(struct.pack(f"<{len(values)}d", *[value or 0.0 for value in values]))


def _write_timestamps(body: _Body, values: Values) -> None:
    body.add_buffer(
        struct.pack(f"<{len(values)}q", *[value * 1_000 if isinstance(value, int) else 0 for value in values])
    )


def _write_bytes(body: _Body, values: Values) -> None:
    texts = [value if isinstance(value, bytes) else b"" if value is None else plain_text(value) for value in values]
    offsets = list(accumulate(map(len, texts), initial=0))
    _check_size(offsets[-1])
    body.add_buffer(struct.pack(f"<{len(offsets)}i", *offsets))
    body.add_buffer(*texts)


_WRITERS: dict[ColumnType, Callable[[_Body, Values], None]] = {
    ColumnType.STRING: _write_bytes,
    ColumnType.BOOLEAN: _write_booleans,
    ColumnType.INT: _write_ints,
    ColumnType.BYTES: _write_bytes,
    ColumnType.FLOAT: _write_floats,
    ColumnType.TIMESTAMP: _write_timestamps,
}
_BUFFER_COUNTS = {type_: 3 if writer is _write_bytes else 2 for type_, writer in _WRITERS.items()}


def _encapsulated(header_type: int, header: Block) -> bytes:
    """An Arrow message without its body: the marker, the length, and the metadata."""
    root = table(Scalar("h", _METADATA_V5), Scalar("B", header_type), header, Scalar("q", 0))
    metadata = message(root)
    return b"".join((_CONTINUATION, pack_u32(len(metadata)), metadata))


def _structs(count: int) -> Block:
    """A vector of `count` structs of zeros, on a multiple of eight."""
    return Block(bytes(4) + pack_u32(count) + bytes(_STRUCT_BYTES * count), 4)


class _Layout:
    """What is constant in the streams with one set of columns of these types."""

    __slots__ = (
        "_batch",
        "_body_size_at",
        "_nodes_at",
        "_pack_nodes",
        "_pack_places",
        "_places_at",
        "_row_count_at",
        "schema",
    )

    def __init__(self, columns: Columns, types: Sequence[ColumnType]) -> None:
        field_blocks = [_field(name, type_) for name, type_ in zip(columns.names, types, strict=True)]
        self.schema = _encapsulated(_SCHEMA_HEADER, table(None, vector(field_blocks)))
        buffer_count = sum(_BUFFER_COUNTS[type_] for type_ in types)
        batch = table(Scalar("q", 0), _structs(len(types)), _structs(buffer_count))
        self._batch = _encapsulated(_RECORD_BATCH_HEADER, batch)
        batch_at = len(self._batch) - len(batch.data)
        self._body_size_at = batch_at - 8  # the last field before the child
        self._row_count_at = batch_at + batch.target + 8  # the first field, aligned
        self._places_at = len(self._batch) - _STRUCT_BYTES * buffer_count
        self._nodes_at = self._places_at - 8 - _STRUCT_BYTES * len(types)
        self._pack_nodes = struct.Struct(f"<{2 * len(types)}q").pack_into
        self._pack_places = struct.Struct(f"<{2 * buffer_count}q").pack_into

    def record_batch(self, row_count: int, body: _Body) -> bytearray:
        """The record batch message of a body, which follows it."""
        batch = bytearray(self._batch)
        struct.pack_into("<q", batch, self._body_size_at, body.size)
        struct.pack_into("<q", batch, self._row_count_at, row_count)
        self._pack_nodes(batch, self._nodes_at, *body.nodes)
        self._pack_places(batch, self._places_at, *body.places)
        return batch


def _field(name: str, type_: ColumnType) -> Block:
    number, type_table = _ARROW_TYPES[type_]
    no_children = vector(())
    return table(string(name.encode()), Scalar("?", True), Scalar("B", number), type_table, None, no_children)


_layouts: dict[tuple[Columns, tuple[ColumnType, ...]], _Layout] = {}


def _layout_of(columns: Columns, types: tuple[ColumnType, ...]) -> _Layout:
    layout = _layouts.get((columns, types))
    if layout is None:
        if len(_layouts) >= _MAX_SCHEMAS:
            _layouts.clear()
        layout = _layouts[columns, types] = _Layout(columns, types)
    return layout
