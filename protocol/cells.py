"""The cells of a result: how a value reads as text, and which columns hold binary values (wire.md §5)."""

from __future__ import annotations

from binascii import hexlify
from collections.abc import Callable, Sequence
from math import isfinite, isnan
from typing import Final

from storage.vocabulary import Binary, Cell, ColumnType

_DAY_MS: Final = 86_400_000
_ERA_DAYS: Final = 146_097  # 400 years: after that the calendar repeats
_EPOCH_DAYS: Final = 719_468  # from 1 March of year 0 to 1 January 1970


def binary_columns(rows: Sequence[Sequence[Cell]]) -> list[int]:
    """The places of the columns with a binary value among these rows: in Arrow the whole column is Bytes. O(cells)."""
    return [at for at, values in enumerate(zip(*rows, strict=True)) if Binary in map(type, values)]


def float_text(value: float) -> bytes:
    """The shortest decimal that reads back as the same number, never with an exponent: `0.1`, `178`, `NaN`."""
    if not isfinite(value):
        return b"NaN" if isnan(value) else b"inf" if value > 0 else b"-inf"
    digits, _, exponent = repr(value).partition("e")
    if exponent:
        digits = _shift_point(digits, int(exponent))
    return digits.removesuffix(".0").encode()


def _shift_point(digits: str, places: int) -> str:
    sign = "-" if digits.startswith("-") else ""
    whole, _, fraction = digits.removeprefix("-").partition(".")
    if places < 0:
        return f"{sign}0.{'0' * (-places - 1)}{whole}{fraction}"
    return f"{sign}{whole}{fraction.ljust(places, '0')}"


def timestamp_text(epoch_ms: int) -> bytes:
    """`2020-01-01T00:00:00.000Z`, for any whole number of milliseconds."""
    days, ms = divmod(epoch_ms, _DAY_MS)
    year, month, day = _civil_date(days)
    hours, ms = divmod(ms, 3_600_000)
    minutes, ms = divmod(ms, 60_000)
    seconds, ms = divmod(ms, 1_000)
    return b"%04d-%02d-%02dT%02d:%02d:%02d.%03dZ" % (year, month, day, hours, minutes, seconds, ms)


def _civil_date(days: int) -> tuple[int, int, int]:
    """Year, month and day of a day counted from the epoch, in the Gregorian calendar without an end.

    Years are counted from March, so that the leap day is the last day of a year.
    """
    era, day_of_era = divmod(days + _EPOCH_DAYS, _ERA_DAYS)
    year_of_era = (day_of_era - day_of_era // 1_460 + day_of_era // 36_524 - day_of_era // (_ERA_DAYS - 1)) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month_from_march = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * month_from_march + 2) // 5 + 1
    month = month_from_march + 3 if month_from_march < 10 else month_from_march - 9
    return 400 * era + year_of_era + (month <= 2), month, day


def hex_text(value: bytes) -> bytes:
    """`0x` and the bytes in upper-case hexadecimal digits."""
    return b"0x" + hexlify(value).upper()


def plain_text(value: bytes | int | float | bool) -> bytes:
    """A value that stands for itself: text, a number or a truth value; a binary one in hexadecimal digits."""
    if isinstance(value, bytes):
        return hex_text(value) if type(value) is Binary else value
    if isinstance(value, bool):
        return b"true" if value else b"false"
    return float_text(value) if isinstance(value, float) else b"%d" % value


def _timestamp_cell(value: bytes | int | float | bool) -> bytes:
    return timestamp_text(value) if isinstance(value, int) else plain_text(value)


def _bytes_cell(value: bytes | int | float | bool) -> bytes:
    return hex_text(value) if isinstance(value, bytes) else plain_text(value)


_WRITERS: dict[ColumnType, Callable[[bytes | int | float | bool], bytes]] = {
    ColumnType.TIMESTAMP: _timestamp_cell,
    ColumnType.BYTES: _bytes_cell,
}


def cell_text(type_: ColumnType, value: Cell) -> bytes | None:
    """The text of a cell in a column of this type; None for NULL."""
    return None if value is None else _WRITERS.get(type_, plain_text)(value)
