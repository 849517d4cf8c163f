"""What commands print: tables and JSON, ages and sizes for people, colours for a terminal."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from cubequeue_server.commands.tables import table_lines
from protocol.arrow_reader import Value

_STYLES: Final = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


def has_colours(stream: TextIO) -> bool:
    """Whether to colour what goes there: a terminal, and https://no-color.org."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, style: str, stream: TextIO | None = None) -> str:
    """A text in a colour where that is shown, else as it is. An empty style is none."""
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if style and has_colours(stream or sys.stdout) else text


def print_json(content: Any) -> None:
    """One line of JSON in ASCII, which is safe for a terminal."""
    print(json.dumps(content), flush=True)


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str | None]], styles: Sequence[str] = ()) -> None:
    """A table; `styles` are those of the rows."""
    head, rule, *lines = table_lines(heads, rows)
    print(paint(head, "bold"))
    print(paint(rule, "dim"))
    for index, line in enumerate(lines):
        print(paint(line, styles[index] if styles else ""))


def number(value: Value) -> int:
    """A cell that counts something; 0 for NULL."""
    return int(value or 0)


def time_ms(value: Value) -> int | None:
    """A cell of a time, in milliseconds since the epoch; None for NULL and for what is no time."""
    if isinstance(value, int | float):
        return int(value)
    try:
        moment = datetime.fromisoformat(value or "")
    except ValueError:
        return None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def age(since_ms: int | None, now_ms: int) -> str:
    """The time since then in its two largest units, never below zero."""
    return span(None if since_ms is None else max(0, now_ms - since_ms))


def span(duration_ms: int | None) -> str:
    """A duration in its two largest units."""
    if duration_ms is None:
        return "-"
    seconds = duration_ms // 1000
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if days:
        return f"{days}d{hours % 24:02}h"
    if hours:
        return f"{hours}h{minutes % 60:02}m"
    return f"{minutes}m{seconds % 60:02}s" if minutes else f"{seconds}s"


def short_span(duration_ms: float | None) -> str:
    """A duration that may be short: milliseconds below ten seconds."""
    if duration_ms is None or duration_ms >= 10_000:
        return span(None if duration_ms is None else int(duration_ms))
    return f"{duration_ms:.0f}ms" if duration_ms < 1_000 else f"{duration_ms / 1_000:.1f}s"


def size(count: int | None) -> str:
    """Bytes in their largest unit."""
    if count is None:
        return "-"
    for unit, unit_bytes in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= unit_bytes:
            return f"{count / unit_bytes:.1f} {unit}"
    return f"{count} B"


def clock(at_ms: int | None) -> str:
    """A time of day on this machine, with its date when it is not of today."""
    if at_ms is None:
        return "-"
    moment = datetime.fromtimestamp(at_ms / 1000).astimezone()
    is_today = moment.date() == datetime.now().astimezone().date()
    return f"{moment:%H:%M:%S}" if is_today else f"{moment:%Y-%m-%d %H:%M:%S}"
