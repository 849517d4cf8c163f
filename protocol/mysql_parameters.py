"""The parameters of a prepared statement of the MySQL protocol (COM_STMT_EXECUTE), as cells.

Some clients send every number as a DOUBLE: one without a fraction is an integer here.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Final

from protocol.errors import ProtocolError
from storage.vocabulary import Binary, Cell

# Type codes: a number's form, or how a value is read. All others are texts with their length in front.
_NUMBERS: Final = {
    0x01: "b",  # TINY
    0x02: "h",  # SHORT
    0x03: "i",  # LONG
    0x08: "q",  # LONGLONG
    0x09: "i",  # INT24
    0x0D: "h",  # YEAR
}
_FLOAT, _DOUBLE, _NULL = 0x04, 0x05, 0x06
_DECIMALS: Final = frozenset({0x00, 0xF6})
_TIMES: Final = frozenset({0x07, 0x0A, 0x0C})  # TIMESTAMP, DATE, DATETIME
_TIME: Final = 0x0B
_UNSIGNED: Final = 0x80
_LARGEST_EXACT: Final = 1 << 53


class MalformedPacketError(ProtocolError):
    """Bytes that are no packet of the kind they should be."""


def read_parameters(
    packet: bytes, count: int, known_types: bytes, long_data: Mapping[int, Sequence[bytes | memoryview]]
) -> tuple[list[Cell], bytes]:
    """The `count` parameters in what follows the statement's id in COM_STMT_EXECUTE, and their types.

    Types are as clients send them: a code and a byte of flags each.

    A client may leave out types that it sent before: `known_types`. `long_data` are the pieces of values that it sent
    ahead. Raises MalformedPacketError for any other bytes. Linear.
    """
    try:
        return _read(packet, count, known_types, long_data)
    except (struct.error, IndexError, ValueError, OverflowError) as error:
        raise MalformedPacketError("the parameters of the prepared statement cannot be read") from error


def _read(
    packet: bytes, count: int, types: bytes, long_data: Mapping[int, Sequence[bytes | memoryview]]
) -> tuple[list[Cell], bytes]:
    if not count:
        return [], types
    nulls_at = 5  # after the flags and the number of iterations
    position = nulls_at + (count + 7) // 8
    nulls = packet[nulls_at:position]
    are_new, position = packet[position], position + 1
    if are_new:
        types, position = packet[position : position + 2 * count], position + 2 * count
    if len(types) != 2 * count:
        raise ValueError("no types")
    cells: list[Cell] = []
    for at, (type_, flags) in enumerate(zip(types[::2], types[1::2], strict=True)):
        if at in long_data:
            cells.append(_text(b"".join(long_data[at])))
        elif nulls[at // 8] >> at % 8 & 1 or type_ == _NULL:
            cells.append(None)
        else:
            cell, position = _value(packet, position, type_, flags)
            cells.append(cell)
    return cells, types


def _value(packet: bytes, position: int, type_: int, flags: int) -> tuple[Cell, int]:
    form = _NUMBERS.get(type_) or {_FLOAT: "f", _DOUBLE: "d"}.get(type_)
    if form is not None:
        form = form.upper() if flags & _UNSIGNED and type_ in _NUMBERS else form
        number = struct.unpack_from("<" + form, packet, position)[0]
        return _whole(number), position + struct.calcsize(form)
    length, position = _length(packet, position)
    content = packet[position : position + length]
    if len(content) != length:
        raise ValueError("cut off")
    position += length
    if type_ in _TIMES:
        return _moment(content), position
    if type_ == _TIME:
        return _duration(content), position
    if type_ in _DECIMALS:
        return _whole(float(content)) if not content.lstrip(b"-").isdigit() else int(content), position
    return _text(content), position


def _length(packet: bytes, position: int) -> tuple[int, int]:
    first = packet[position]
    if first < 0xFB:
        return first, position + 1
    size = {0xFC: 2, 0xFD: 3, 0xFE: 8}[first] if first in {0xFC, 0xFD, 0xFE} else 0
    if not size or position + 1 + size > len(packet):
        raise ValueError("no length")
    return int.from_bytes(packet[position + 1 : position + 1 + size], "little"), position + 1 + size


def _whole(number: int | float) -> Cell:
    if isinstance(number, float) and abs(number) < _LARGEST_EXACT and number == int(number):
        return int(number)
    return number


def _text(content: bytes) -> bytes:
    try:
        content.decode()
    except UnicodeDecodeError:
        return Binary(content)
    return content


def _moment(content: bytes) -> bytes:
    year, month, day, hour, minute, second, micros = struct.unpack("<HBBBBBI", content.ljust(11, b"\0"))
    if not content:
        return b"0000-00-00 00:00:00"
    text = b"%04d-%02d-%02d" % (year, month, day)
    if len(content) > 4:
        text += b" %02d:%02d:%02d" % (hour, minute, second)
    return text + b".%06d" % micros if len(content) > 7 else text


def _duration(content: bytes) -> bytes:
    negative, days, hours, minutes, seconds, micros = struct.unpack("<BIBBBI", content.ljust(12, b"\0"))
    text = b"%s%02d:%02d:%02d" % (b"-" if negative else b"", days * 24 + hours, minutes, seconds)
    return text + b".%06d" % micros if len(content) > 8 else text
