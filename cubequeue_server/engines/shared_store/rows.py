"""Rows of the store as a server reads them (lua/items.lua, lua/results.lua, lua/cache.lua, lua/pieces.lua)."""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from storage.keys import key_of
from storage.vocabulary import Binary, Path, Value

_ITEM: Final = Struct(">cQQQQQII8s16s16sIIIIcc")
_SIZE: Final = Struct(">I")
_RESULT: Final = Struct(">cQII")
_LARGE: Final = Struct(">c16sQI")
_TEXT, _BINARY, _LARGE_TEXT = b"t"[0], b"b"[0], b"T"[0]
I64_MAX: Final = (1 << 63) - 1


class ItemRow(NamedTuple):
    """An item as `d` has it. Times in ms, None for none."""

    path: Path
    prefix: Path
    key: bytes
    is_active: bool
    heartbeat_ms: int | None
    created_ms: int
    orphaned_ms: int | None
    priority: int
    process_id: bytes | None
    external_id: bytes | None
    is_exclusive: bool
    claimed_by: bytes | None
    claimed_peer: bytes


def read_item(row: bytes) -> ItemRow:
    """Read a row of `d`."""
    (
        status, beat, _, _, created, orphaned, _, _, priority, _, _,
        path_size, prefix_size, process_size, external_size, exclusive, _,
    ) = _ITEM.unpack_from(row)  # fmt: skip
    at = _ITEM.size
    path = row[at : at + path_size]
    at += path_size
    process_id, at = _optional(row, at, process_size)
    external_id, at = _optional(row, at, external_size)
    claimed_by, peer = None, b""
    if status == b"a":
        (size,) = _SIZE.unpack_from(row, at)
        claimed_by, at = _optional(row, at + 4, size)
        peer = row[at:]
    return ItemRow(
        path,
        path[:prefix_size],
        key_of(path),
        status == b"a",
        beat or None,
        created,
        orphaned or None,
        I64_MAX - int.from_bytes(priority, "big"),
        process_id,
        external_id,
        exclusive == b"1",
        claimed_by,
        peer,
    )


def _optional(row: bytes, at: int, size: int) -> tuple[bytes | None, int]:
    """A text with its size + 1, 0 for none; and where it ends."""
    return (row[at : at + size - 1], at + size - 1) if size else (None, at)


def rank_of(row: bytes, id8: bytes) -> bytes:
    """What items are sorted by in LIST: priority falling, then id."""
    return row[49:57] + id8


def list_cells(row: bytes) -> tuple[bytes, bytes]:
    """The key and the status of an item, for LIST. The cheap part of `read_item`."""
    end = 107 + int.from_bytes(row[89:93], "big")
    start = 107 + int.from_bytes(row[93:97], "big")
    start = start + 1 if row[start : start + 1] == b":" and start < end else 107
    return row[start:end], b"active" if row[0] == 97 else b"pending"


class ResultRow(NamedTuple):
    """A result as `r` has it."""

    path: Path
    end_ms: int
    is_taken: bool
    external_id: bytes | None


def read_result(row: bytes) -> ResultRow:
    """Read a row of `r`."""
    flag, end_ms, path_size, external_size = _RESULT.unpack_from(row)
    at = _RESULT.size
    external_id, _ = _optional(row, at + path_size, external_size)
    return ResultRow(row[at : at + path_size], end_ms, flag == b"t", external_id)


class LargeValue(NamedTuple):
    """A value that lies in pieces, in a shard."""

    nonce: bytes
    size: int
    pieces: int
    is_binary: bool


def stored(value: Value) -> bytes:
    """A value that is not large, as it is stored."""
    return (b"b" if isinstance(value, Binary) else b"t") + value


def stored_large(large: LargeValue) -> bytes:
    """What refers to a value in pieces."""
    return _LARGE.pack(b"B" if large.is_binary else b"T", large.nonce, large.size, large.pieces)


def read_stored(text: bytes) -> Value | LargeValue:
    """A value as it was given, or where it lies."""
    kind = text[0]
    if kind == _TEXT:
        return text[1:]
    if kind == _BINARY:
        return Binary(text[1:])
    _, nonce, size, pieces = _LARGE.unpack(text)
    return LargeValue(nonce, size, pieces, kind != _LARGE_TEXT)
