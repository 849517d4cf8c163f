"""The SELECTs that come all the time, answered without a parser: `SELECT 1` and Cube's refresh keys.

They give what the compiler would give (the tests compare the two), a hundred times faster, and before sqlglot is
imported.
"""

from __future__ import annotations

import re
from typing import Final

from storage.vocabulary import Columns, ColumnType, Result

_ONE: Final = re.compile(rb"\s*select\s+1\s*;?\s*", re.IGNORECASE)
_ONE_RESULT: Final = Result(Columns(("Int64(1)", ColumnType.INT)), [(1,)])

# FLOOR((±offset + UNIX_TIMESTAMP() ± shift) / interval) AS name; at most 15 digits a number, so sums stay exact.
_REFRESH_KEY: Final = re.compile(
    rb"\s*select\s+floor\s*\(\s*\(\s*(?:(-?)\s*(\d{1,15})\s*\+\s*)?unix_timestamp\s*\(\s*\)"
    rb"\s*(?:([+-])\s*(\d{1,15})\s*)?\)\s*/\s*(\d{1,15})\s*\)\s+as\s+([a-z_][a-z0-9_]{0,63})\s*;?\s*",
    re.IGNORECASE,
)
_MAX_BYTES: Final = 256
_columns_by_name: Final[dict[bytes, Columns]] = {}
_MAX_NAMES: Final = 64


def answer_shape(text: bytes, now_ms: int) -> Result | None:
    """The result of a text of one of the shapes, None for any other text."""
    if len(text) > _MAX_BYTES:
        return None
    if _ONE.fullmatch(text):
        return _ONE_RESULT
    match = _REFRESH_KEY.fullmatch(text)
    if match is None:
        return None
    sign, offset, shift_sign, shift, interval, name = match.groups()
    seconds = now_ms // 1000
    if offset is not None:
        seconds += -int(offset) if sign else int(offset)
    if shift is not None:
        seconds += -int(shift) if shift_sign == b"-" else int(shift)
    if int(interval) == 0:
        return None
    return Result(_column(name), [(seconds // int(interval),)])


def _column(name: bytes) -> Columns:
    """One object a name, for encoders that cache by identity; not more than a few names are kept."""
    columns = _columns_by_name.get(name)
    if columns is None:
        columns = Columns((name.decode(), ColumnType.INT))
        if len(_columns_by_name) < _MAX_NAMES:
            _columns_by_name[name] = columns
    return columns
