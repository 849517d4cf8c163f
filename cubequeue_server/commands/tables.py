"""Replies as text for terminals: control characters and escape sequences are escaped, long values are cut."""

from __future__ import annotations

import json
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Final

from protocol.client_codec import Rows

MAX_CELL: Final = 200  # characters
_NULL: Final = "NULL"
# Categories of characters that change their neighbours (right-to-left overrides) or are invisible.
_UNSAFE: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def printable(value: bytes | str | None, limit: int = MAX_CELL) -> str:
    """A value as one line of at most `limit` characters, with a note of its size when it is cut. O(limit)."""
    if value is None:
        return _NULL
    start = value[: 4 * limit + 4] if isinstance(value, bytes) else value[: limit + 1]
    text = start.decode("utf-8", "replace") if isinstance(start, bytes) else start
    shown = "".join(map(_safe, text[: limit + 1]))
    if len(text) <= limit and len(start) == len(value) and len(shown) <= limit:
        return shown
    unit = "bytes" if isinstance(value, bytes) else "characters"
    return f"{shown[:limit]}… ({len(value)} {unit})"


def fit(text: str, width: int) -> str:
    """One line of text in exactly `width` columns, cut or filled with spaces."""
    if columns(text) > width:
        ends = list(accumulate(map(columns, text)))
        text = text[: bisect_right(ends, max(0, width - 1))] + "…"[:width]
    return text + " " * (width - columns(text))


def columns(text: str) -> int:
    """The width of a text on a terminal."""
    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text
    )


def table_lines(heads: Sequence[str], rows: Iterable[Sequence[bytes | str | None]]) -> list[str]:
    """A table: heads, a rule, a line for each row. Columns of numbers are aligned right."""
    texts = [[printable(cell) for cell in row] for row in rows]
    names = [printable(head) for head in heads]
    widths = [max([columns(name), *(columns(row[index]) for row in texts)]) for index, name in enumerate(names)]
    is_number = [
        bool(texts) and all(row[index] == _NULL or row[index].lstrip("-").isdigit() for row in texts)
        for index in range(len(names))
    ]

    def line(cells: Sequence[str], fill: str = " ") -> str:
        padded = (
            fill * (width - columns(cell)) + cell if right else cell + fill * (width - columns(cell))
            for cell, width, right in zip(cells, widths, is_number, strict=True)
        )
        return "  ".join(padded).rstrip()

    return [line(names), line(["-" * width for width in widths], "-"), *map(line, texts)]


def json_text(heads: Sequence[str], rows: Iterable[Sequence[bytes | str | None]]) -> str:
    """A JSON array with an object for each row and uncut values, in ASCII: safe for terminals."""
    decoded = ([cell.decode("utf-8", "replace") if isinstance(cell, bytes) else cell for cell in row] for row in rows)
    return json.dumps([dict(zip(heads, row, strict=True)) for row in decoded])


def rows_text(rows: Rows, *, as_json: bool) -> str:
    """The rows of a reply, as a table or as JSON."""
    if as_json:
        return json_text(rows.columns, rows.rows)
    if not rows.columns:
        return "OK"
    count = len(rows.rows)
    return "\n".join([*table_lines(rows.columns, rows.rows), f"({count} row{'' if count == 1 else 's'})"])


def _safe(character: str) -> str:
    is_safe = unicodedata.category(character) not in _UNSAFE
    return character if is_safe else character.encode("unicode_escape").decode()
