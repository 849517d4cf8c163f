"""Rows of a result as MySQL packets have them (mysql.md, "column types" and "values").

Int is a LONGLONG, everything else a STRING: truth values are `true` and `false`, times their text, binary values `0x`
and hexadecimal digits. Text rows hold all of them as texts, binary rows LONGLONGs as numbers of 64 bits.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from protocol.cells import cell_text, hex_text
from storage.vocabulary import Binary, Cell, ColumnType

_NULL: Final = b"\xfb"
_pack_int = struct.Struct("<q").pack
_SHORT_LENGTHS: Final = tuple(bytes((length,)) for length in range(251))


def is_longlong(type_: ColumnType) -> bool:
    """Whether a column of this type is a LONGLONG; else it is a STRING."""
    return type_ is ColumnType.INT


def length_encoded(length: int) -> bytes:
    """A length, or a count, in one, three, four or nine bytes."""
    if length < 251:
        return _SHORT_LENGTHS[length]
    if length < 1 << 16:
        return b"\xfc" + length.to_bytes(2, "little")
    if length < 1 << 24:
        return b"\xfd" + length.to_bytes(3, "little")
    return b"\xfe" + length.to_bytes(8, "little")


def text_row(types: Sequence[ColumnType], row: Sequence[Cell]) -> bytes:
    """A row of the text protocol. O(cells + bytes)."""
    parts: list[bytes] = []
    for type_, value in zip(types, row, strict=True):
        text = _text(type_, value)
        if text is None:
            parts.append(_NULL)
        else:
            parts += (length_encoded(len(text)), text)
    return b"".join(parts)


def binary_row(types: Sequence[ColumnType], row: Sequence[Cell]) -> bytes:
    """A row of the binary protocol, which answers prepared statements. O(cells + bytes)."""
    nulls = bytearray((len(row) + 7 + 2) // 8)  # the first two bits are not used
    parts: list[bytes] = [b"\0", b""]
    for index, (type_, value) in enumerate(zip(types, row, strict=True), 2):
        if value is None:
            nulls[index // 8] |= 1 << index % 8
        elif is_longlong(type_) and isinstance(value, int):
            parts.append(_pack_int(value))
        else:
            text = _text(type_, value) or b""
            parts += (length_encoded(len(text)), text)
    parts[1] = bytes(nulls)
    return b"".join(parts)


def _text(type_: ColumnType, value: Cell) -> bytes | None:
    if type(value) is bytes and type_ is not ColumnType.BYTES:
        return value
    return hex_text(value) if isinstance(value, Binary) else cell_text(type_, value)
