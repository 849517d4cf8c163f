"""Arrow replies to rows of values, for the command line: streams of arrow.py, and those of CubeStore with these types.

One stream of a schema and any number of record batches, without compression, dictionaries and nested columns.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Final, NamedTuple, TypeAlias

from protocol.errors import ProtocolError
from protocol.flat import READ_ERRORS, MalformedError, fields, follow, read_text, read_u32, read_vector

# Text, a number, a truth value, or None; a time is whole milliseconds since the epoch.
Value: TypeAlias = str | int | float | bool | None

_CONTINUATION: Final = 0xFFFFFFFF
_SCHEMA, _RECORD_BATCH = 1, 3
_MAX_COLUMNS: Final = 10_000
_MAX_ROWS: Final = 10_000_000
# Numbers of the union Type.
_INT, _FLOAT, _BINARY, _UTF8, _BOOL, _TIMESTAMP = 2, 3, 4, 5, 6, 10
_INT_FORMATS: Final = {
    (8, 1): "b",
    (16, 1): "h",
    (32, 1): "i",
    (64, 1): "q",
    (8, 0): "B",
    (16, 0): "H",
    (32, 0): "I",
    (64, 0): "Q",
}
_UNIT_TO_MS: Final[dict[int, Callable[[int], int]]] = {
    0: lambda value: value * 1_000,
    1: lambda value: value,
    2: lambda value: value // 1_000,
    3: lambda value: value // 1_000_000,
}


class _Field(NamedTuple):
    """A column: `read` makes its values of the row count and its buffers, `buffers` is their number."""

    name: str
    buffers: int
    read: Callable[[int, list[bytes]], list[Value]]


def read_stream(stream: bytes) -> tuple[tuple[str, ...], list[tuple[Value, ...]]]:
    """The names of the columns and the rows. O(bytes). Raises `ProtocolError` for any other bytes."""
    columns: list[_Field] = []
    rows: list[tuple[Value, ...]] = []
    try:
        for kind, metadata, header, body in _messages(stream):
            if kind == _SCHEMA:
                (fields_,) = fields(metadata, header, 2)[1:]
                columns = [
                    _field(metadata, at)
                    for at in read_vector(metadata, follow(metadata, header + fields_), _MAX_COLUMNS)
                ]
            elif kind == _RECORD_BATCH:
                rows += _batch(metadata, header, body, columns)
            else:
                raise MalformedError(f"a message of type {kind}")
    except (*READ_ERRORS, LookupError, OverflowError) as error:
        raise ProtocolError(f"not an Arrow stream: {error}") from error
    return tuple(column.name for column in columns), rows


def _messages(stream: bytes) -> Iterator[tuple[int, bytes, int, bytes]]:
    """Type, metadata, position of the header in it, and body of each message."""
    at = 0
    while at < len(stream):
        mark, length = struct.unpack_from("<II", stream, at)
        if mark != _CONTINUATION:
            raise MalformedError("a message without its marker")
        if not length:
            return
        at += 8
        metadata = stream[at : at + length]
        at += length
        root = follow(metadata, 0)
        _, kind, header, body = fields(metadata, root, 4)
        size = struct.unpack_from("<q", metadata, root + body)[0] if body else 0
        if not kind or not header or not 0 <= size <= len(stream) - at:
            raise MalformedError("a message that is not whole")
        yield metadata[root + kind], metadata, follow(metadata, root + header), stream[at : at + size]
        at += size


def _field(metadata: bytes, position: int) -> _Field:
    name_, _, kind_, type_ = fields(metadata, position, 4)
    name = bytes(read_text(metadata, follow(metadata, position + name_))).decode() if name_ else ""
    kind, table = metadata[position + kind_] if kind_ else 0, follow(metadata, position + type_)
    if kind in {_UTF8, _BINARY}:
        return _Field(name, 3, _texts if kind == _UTF8 else _binaries)
    if kind == _BOOL:
        return _Field(name, 2, _truths)
    first, second = fields(metadata, table, 2)
    if kind == _INT:
        width = struct.unpack_from("<i", metadata, table + first)[0]
        is_signed = int(bool(second and metadata[table + second]))
        return _Field(name, 2, _numbers(_INT_FORMATS[width, is_signed]))
    unit = struct.unpack_from("<h", metadata, table + first)[0] if first else 0
    if kind == _FLOAT:
        return _Field(name, 2, _numbers("?fd"[unit]))
    if kind == _TIMESTAMP:
        return _Field(name, 2, _numbers("q", _UNIT_TO_MS[unit]))
    raise MalformedError(f"a column of type {kind}")


def _batch(metadata: bytes, position: int, body: bytes, columns: list[_Field]) -> Iterator[tuple[Value, ...]]:
    length_, nodes_, buffers_ = fields(metadata, position, 3)
    count = struct.unpack_from("<q", metadata, position + length_)[0] if length_ else 0
    nodes, buffers = (follow(metadata, position + each) if each else 0 for each in (nodes_, buffers_))
    wanted = sum(column.buffers for column in columns)
    if not 0 <= count <= _MAX_ROWS or not columns:
        raise MalformedError(f"a batch of {count} rows")
    if read_u32(metadata, nodes)[0] != len(columns) or read_u32(metadata, buffers)[0] != wanted:
        raise MalformedError("a batch with other columns than its schema")
    places = struct.iter_unpack("<qq", metadata[buffers + 4 : buffers + 4 + 16 * wanted])
    values = []
    for column in columns:
        parts = [body[offset : offset + length] for offset, length in (next(places) for _ in range(column.buffers))]
        there = _bits(parts[0], count) if parts[0] else None
        cells = column.read(count, parts)
        values.append(
            cells
            if there is None
            else [cell if is_there else None for cell, is_there in zip(cells, there, strict=True)]
        )
    return zip(*values, strict=True)


def _bits(bitmap: bytes, count: int) -> list[bool]:
    if len(bitmap) * 8 < count:
        raise MalformedError("a bitmap that is too short")
    return [bool(bitmap[index >> 3] >> (index & 7) & 1) for index in range(count)]


def _truths(count: int, buffers: list[bytes]) -> list[Value]:
    return [*_bits(buffers[1], count)]


def _numbers(format_: str, change: Callable[[int], int] | None = None) -> Callable[[int, list[bytes]], list[Value]]:
    def read(count: int, buffers: list[bytes]) -> list[Value]:
        numbers = struct.unpack_from(f"<{count}{format_}", buffers[1])
        return list(numbers) if change is None else [change(number) for number in numbers]

    return read


def _spans(count: int, buffers: list[bytes]) -> Iterator[bytes]:
    if not count:
        return
    offsets = struct.unpack_from(f"<{count + 1}i", buffers[1])
    for start, end in pairwise(offsets):
        if not 0 <= start <= end <= len(buffers[2]):
            raise MalformedError("a text outside of its buffer")
        yield buffers[2][start:end]


def _texts(count: int, buffers: list[bytes]) -> list[Value]:
    return [span.decode(errors="replace") for span in _spans(count, buffers)]


def _binaries(count: int, buffers: list[bytes]) -> list[Value]:
    return ["0x" + span.hex() for span in _spans(count, buffers)]
