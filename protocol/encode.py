"""Results and errors to legacy reply bytes (wire.md §4, §5).

A reply is a head that depends on the columns alone, a vector of offsets to the rows, and the rows. Rows and cells
are position-independent, each with its vtable in front, so that all of them but the texts are constants:

    cell    vtable 8 | to vtable 4 | to string 4 | length 4 | text | NUL and padding
    NULL    vtable 8 | to vtable 4
    row     vtable 8 | to vtable 4 | to vector 4 | count 4 | offsets to the cells | cells

A reference is the distance from its own place to the table it means, `_TABLE` bytes into the block.

Text cells are sent as they are: they are UTF-8 because the decoder let nothing else in, and a client would refuse a
reply with other bytes in it. Binary cells become hexadecimal digits, and error texts are cleaned here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from protocol import schema
from protocol.cells import cell_text, float_text
from protocol.errors import ReplyTooLargeError
from protocol.flat import MAX_BUFFER_BYTES, pack_u32, string, table, vector
from protocol.http_message import cut_message
from protocol.pieces import JOINED_BYTES, LARGE_BYTES, STEP_BYTES, STEP_ROWS, Message, Pieces, Steps, blocks_of, finish
from storage.vocabulary import Binary, Cell, Columns, ColumnType, Result

_TABLE: Final = 8
_ONE_FIELD = struct.pack("<4H", 6, 8, 4, 0)  # the vtable of a table with one reference, padded
_NO_FIELD = struct.pack("<4H", 4, 4, 0, 0)
_CELL_HEAD = _ONE_FIELD + struct.pack("<iI", _TABLE, 4)
_CELL_BYTES: Final = len(_CELL_HEAD) + 4  # before the text
_ROW_BYTES: Final = len(_CELL_HEAD) + 4  # before the offsets
_NULL_CELL = _NO_FIELD + struct.pack("<i", _TABLE)

_PADS = (b"\0\0\0\0", b"\0\0\0", b"\0\0", b"\0")  # after a text, by its length modulo 4
_KNOWN_LENGTHS: Final = 512
_CELL_HEADS = tuple(_CELL_HEAD + pack_u32(length) for length in range(_KNOWN_LENGTHS))

_MAX_ROWS_BYTES: Final = MAX_BUFFER_BYTES - (1 << 20)  # leaves room for any head
_MAX_LAYOUTS: Final = 256  # columns of SELECTs are made anew each time


def _cell(text: bytes) -> bytes:
    return b"".join((_CELL_HEAD, pack_u32(len(text)), text, _PADS[len(text) & 3]))


_WORD_CELLS: Final = {None: _NULL_CELL, True: _cell(b"true"), False: _cell(b"false")}
_KNOWN_INTS: Final = 1024
_SMALL_INTS = tuple(_cell(b"%d" % number) for number in range(_KNOWN_INTS))


_NO_TEXT = string(b"")
# The bytes before the message id are the same in every reply.
BEFORE_ID, _ERROR_HEAD = cut_message(schema.COMMAND_ERROR, table(_NO_TEXT), _NO_TEXT)


class _Layout:
    """What is constant in the replies with one set of columns."""

    __slots__ = (
        "empty",
        "head",
        "is_plain",
        "is_single",
        "one_cell",
        "one_row",
        "pack_offsets",
        "row_head",
    )

    def __init__(self, columns: Columns) -> None:
        count = len(columns)
        no_rows = vector(())
        names = vector([string(name.encode()) for name in columns.names])
        _, self.head = cut_message(schema.COMMAND_RESULT_SET, table(names, no_rows, tail=1), no_rows)
        self.empty = self.head + no_rows.data
        self.row_head = _CELL_HEAD + pack_u32(count)
        self.one_row = self.head + pack_u32(1) + pack_u32(4 + _TABLE) + self.row_head
        self.pack_offsets = struct.Struct(f"<{count}I").pack
        # Cells of these types read otherwise than their Python type says.
        self.is_plain = not {ColumnType.BYTES, ColumnType.TIMESTAMP}.intersection(columns.types)
        self.is_single = self.is_plain and count == 1
        self.one_cell = self.one_row + pack_u32(4 + _TABLE)


_layouts: dict[Columns, _Layout] = {}


def _layout_of(columns: Columns) -> _Layout:
    if len(_layouts) >= _MAX_LAYOUTS:
        _layouts.clear()
    return _layouts.setdefault(columns, _Layout(columns))


def encode_error(message_id: int, text: str) -> bytes:
    """The HttpError with this text; what cannot be written as UTF-8 becomes `?`. O(len(text))."""
    error = string(text.encode(errors="replace"))
    return b"".join((BEFORE_ID, pack_u32(message_id), _ERROR_HEAD, error.data))


def encode_result(message_id: int, result: Result) -> bytes:
    """The HttpResultSet of a result (wire.md §5) in one piece. O(cells + bytes); each value is copied once.

    Raises `ReplyTooLargeError` past 2 GiB, before it takes the memory.
    """
    message = result_message(message_id, result)
    return message if type(message) is bytes else bytes(message)


def result_message(message_id: int, result: Result) -> Message:
    """The same; values of a long one are not copied."""
    columns, rows = result.columns, result.rows
    layout = _layouts.get(columns) or _layout_of(columns)
    if not rows:
        return b"".join((BEFORE_ID, pack_u32(message_id), layout.empty))
    if layout.is_single and len(rows) == 1:
        value = rows[0][0]
        if type(value) is bytes and (length := len(value)) <= JOINED_BYTES:
            head = _CELL_HEADS[length] if length < _KNOWN_LENGTHS else _CELL_HEAD + pack_u32(length)
            return b"".join((BEFORE_ID, pack_u32(message_id), layout.one_cell, head, value, _PADS[length & 3]))
        if value is None or value is True or value is False:
            return b"".join((BEFORE_ID, pack_u32(message_id), layout.one_cell, _WORD_CELLS[value]))
    if len(rows) > STEP_ROWS:
        return finish(result_steps(message_id, result))
    try:
        return _encode_rows(message_id, layout, rows if layout.is_plain else _text_rows(result))
    except _BinaryCellError:
        return _encode_rows(message_id, layout, _text_rows(result))


def result_steps(message_id: int, result: Result) -> Steps:
    """The same step by step; the rows are read a block at a time."""
    rows = result.rows
    layout = _layouts.get(result.columns) or _layout_of(result.columns)
    if layout.is_plain:
        try:
            return (yield from _row_steps(message_id, layout, len(rows), blocks_of(rows)))
        except _BinaryCellError:
            pass
    return (yield from _row_steps(message_id, layout, len(rows), _text_blocks(result.columns.types, blocks_of(rows))))


class _BinaryCellError(Exception):
    """A cell is binary, so it has to be written as text first."""


def _text_rows(result: Result) -> list[tuple[bytes | None, ...]]:
    return [tuple(map(cell_text, result.columns.types, row)) for row in result.rows]


def _text_blocks(
    types: Sequence[ColumnType], blocks: Iterable[Sequence[Sequence[Cell]]]
) -> Iterator[Sequence[Sequence[Cell]]]:
    return ([tuple(map(cell_text, types, row)) for row in block] for block in blocks)


def _encode_rows(message_id: int, layout: _Layout, rows: Sequence[Sequence[Cell]]) -> Message:
    if len(rows) == 1:
        parts = [BEFORE_ID, pack_u32(message_id), layout.one_row]
        size = _append_cells(parts, layout, rows[0])
        return b"".join(parts) if size <= JOINED_BYTES else Pieces(parts)
    parts = [BEFORE_ID, pack_u32(message_id), layout.head, b""]
    references = []
    reference = 4 * len(rows) + _TABLE
    for row in rows:
        references.append(reference)
        parts.append(layout.row_head)
        reference += _ROW_BYTES - 4 + _append_cells(parts, layout, row)
        _check_size(reference)
    parts[3] = struct.pack(f"<{len(rows) + 1}I", len(rows), *references)
    return b"".join(parts) if reference <= JOINED_BYTES else Pieces(parts)


def _row_steps(message_id: int, layout: _Layout, row_count: int, blocks: Iterable[Sequence[Sequence[Cell]]]) -> Steps:
    head = Pieces((BEFORE_ID, pack_u32(message_id), layout.head, pack_u32(row_count)))
    body = Pieces()
    reference = 4 * row_count + _TABLE
    for block in blocks:
        references: list[int] = []
        parts: list[bytes] = []
        size = 0
        for row in block:
            references.append(reference)
            if size >= STEP_BYTES:
                body.add_joined(parts)
                parts, size = [], 0
                yield
            row_parts = [layout.row_head]
            row_bytes = _append_cells(row_parts, layout, row)
            if row_bytes < LARGE_BYTES:
                parts += row_parts
            else:
                body.add_joined(parts)
                body.add(row_parts)
                parts = []
            size += row_bytes
            reference += _ROW_BYTES - 4 + row_bytes
            _check_size(reference)
        body.add_joined(parts)
        head.add_joined((struct.pack(f"<{len(references)}I", *references),))
        yield
    head.extend(body)
    return head


def _append_cells(parts: list[bytes], layout: _Layout, row: Sequence[Cell]) -> int:
    """Append the offsets to the cells and the cells; the size of both in bytes."""
    references = []
    reference = 4 * len(row) + _TABLE
    at = len(parts)
    parts.append(b"")
    for value in row:
        references.append(reference)
        if type(value) is bytes:
            length = len(value)
            head = _CELL_HEADS[length] if length < _KNOWN_LENGTHS else _CELL_HEAD + pack_u32(length)
            parts += (head, value, _PADS[length & 3])
            reference += _CELL_BYTES + (length & -4)  # with four bytes of padding, less those of the offset
        else:
            if value is None or value is True or value is False:
                cell = _WORD_CELLS[value]
            elif type(value) is int and 0 <= value < _KNOWN_INTS:
                cell = _SMALL_INTS[value]
            else:
                cell = _scalar_cell(value)
            parts.append(cell)
            reference += len(cell) - 4
    if reference > _MAX_ROWS_BYTES:
        raise ReplyTooLargeError(reference)
    parts[at] = layout.pack_offsets(*references)
    return reference - _TABLE + 4 * len(row)


def _scalar_cell(value: bytes | float) -> bytes:
    if isinstance(value, int):
        return _cell(b"%d" % value)
    if isinstance(value, float):
        return _cell(float_text(value))
    if isinstance(value, Binary):
        raise _BinaryCellError
    return _cell(value)


def _check_size(size_bytes: int) -> None:
    if size_bytes > _MAX_ROWS_BYTES:
        raise ReplyTooLargeError(size_bytes)
