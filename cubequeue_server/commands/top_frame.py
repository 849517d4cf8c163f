"""The frames of `cubequeue top`: figures of two moments and what a person chose, as lines that fit any terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from cubequeue_server.commands.output import size, span
from cubequeue_server.commands.queues import QueueLine, item_cells
from cubequeue_server.commands.tables import columns, fit, printable

_GAP: Final = 2
_MIN_NAME: Final = 8
_MIN_ROWS: Final = 8
_HELP: Final = "q quit  ↑↓ move  ⏎ open  esc back  / filter  s sort  r reverse"
_QUEUE_HEADS: Final = ("QUEUE", "PENDING", "ACTIVE", "OLDEST", "HEARTBEAT", "ADD/s", "END/s", "OWNER")
_ITEM_HEADS: Final = ("KEY", "ID", "STATUS", "PRIORITY", "AGE", "HEARTBEAT", "ADDED BY", "CLAIMED BY")
SORTS: Final = ("items", "name", "pending", "active", "oldest", "heartbeat")
_SORT_KEYS: Final[dict[str, Callable[[QueueLine], Any]]] = {
    "items": lambda line: (-line.pending - line.active, line.name),
    "name": lambda line: line.name.lower(),
    "pending": lambda line: (-line.pending, line.name),
    "active": lambda line: (-line.active, line.name),
    "oldest": lambda line: (-(line.oldest_ms or -1), line.name),
    "heartbeat": lambda line: (-(line.heartbeat_ms or -1), line.name),
}


@dataclass(slots=True)
class Figures:
    """The figures of one moment. `overview` and `memory_bytes` come from the status port; `missing` says why not."""

    at_s: float
    queues: list[QueueLine]
    info: dict[str, int]
    overview: dict[str, Any] | None = None
    memory_bytes: int | None = None
    totals: dict[str, dict[str, int]] = field(default_factory=dict)
    missing: str = ""
    items: list[dict[str, Any]] = field(default_factory=list)
    item_count: int = 0


@dataclass(slots=True)
class View:
    """What a person chose. `queue` is that whose items are shown, None for the list of queues."""

    sort: str = "items"
    is_reversed: bool = False
    filter: str = ""
    is_filtering: bool = False  # what is typed goes to the filter
    selected: int = 0
    queue: str | None = None


class Line(NamedTuple):
    """A line of a frame; `style` is `head`, `selected`, `warning`, `foot` or empty."""

    text: str
    style: str = ""


def queues_of(now: Figures, view: View) -> list[QueueLine]:
    """The queues in the order that was chosen. O(n log n)."""
    wanted = [line for line in now.queues if view.filter.lower() in line.name.lower()]
    return sorted(wanted, key=_SORT_KEYS[view.sort], reverse=view.is_reversed)


def items_of(now: Figures, view: View) -> list[dict[str, Any]]:
    """The items of the queue that is shown, filtered by key and owner."""
    wanted = view.filter.lower()
    cells = ("key", "added_by", "claimed_by")
    return [item for item in now.items if any(wanted in str(item[name] or "").lower() for name in cells)]


def frame(now: Figures, before: Figures, url: str, view: View, terminal: tuple[int, int]) -> list[Line]:
    """The lines of one frame, which fit the terminal. O(rows)."""
    width, height = max(1, terminal[0] - 1), terminal[1]
    head = [
        Line(f"cubequeue top  {printable(url, 60)}"),
        Line(_throughput_line(now, before)),
        Line(_cache_line(now)),
        Line(_memory_line(now)),
        Line(_choice_line(view), "warning" if view.is_filtering else ""),
    ]
    if view.queue is None:
        rows = [_queue_cells(line, now, before) for line in queues_of(now, view)]
        table = _table(_QUEUE_HEADS, rows, width)
    else:
        rows = [item_cells(item) for item in items_of(now, view)]
        table = _table(_ITEM_HEADS, [(row[1], row[0], *row[2:]) for row in rows], width)
    foot = [Line(_HELP, "foot")] if height > len(head) + _MIN_ROWS else []
    room = max(0, height - len(head) - 1 - len(foot))
    lines = [*head, Line(table[0], "head"), *_window(table[1:], view, room)][: height - len(foot)]
    return [Line(fit(line.text, width), line.style) for line in [*lines, *foot]]


def _window(rows: list[str], view: View, room: int) -> list[Line]:
    """The rows around the selected one, and how many are above and below."""
    if len(rows) <= room:
        return [Line(row, "selected" if index == view.selected else "") for index, row in enumerate(rows)]
    room = max(0, room - 1)
    first = min(max(0, view.selected - room // 2), len(rows) - room)
    shown = [
        Line(row, "selected" if index == view.selected else "")
        for index, row in enumerate(rows[first : first + room], first)
    ]
    above = f"{first} above, " if first else ""
    return [*shown, Line(f"… {above}and {len(rows) - first - room} more")]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Lines of columns as wide as their cells: the first, a name, is cut last, and the last one, an owner, first."""
    cells = [[printable(cell, 300) for cell in row] for row in rows]
    widths = [max([columns(head), *(columns(row[index]) for row in cells)]) for index, head in enumerate(heads)]
    middle = sum(widths[1:-1]) + _GAP * (len(heads) - 2)
    widths[0] = min(widths[0], max(_MIN_NAME, width - middle))
    left = width - widths[0] - middle - _GAP
    gap = " " * _GAP
    lines = []
    for row in [heads, *cells]:
        middle_text = gap.join(
            f"{' ' * (wide - columns(cell))}{cell}" for cell, wide in zip(row[1:-1], widths[1:-1], strict=True)
        )
        last = f"{gap}{fit(row[-1], left).rstrip()}" if left > 0 else ""
        lines.append(f"{fit(row[0], widths[0])}{gap}{middle_text}{last}")
    return lines


def _queue_cells(line: QueueLine, now: Figures, before: Figures) -> tuple[str, ...]:
    more = f" +{line.owners - 1}" if line.owners > 1 else ""
    return (
        line.name,
        str(line.pending),
        str(line.active),
        span(line.oldest_ms),
        span(line.heartbeat_ms),
        *(_queue_rate(now, before, line.name, kind) for kind in ("added", "ended")),
        f"{line.owner}{more}" if line.owner else "-",
    )


def _choice_line(view: View) -> str:
    where = "queues" if view.queue is None else f"items of {printable(view.queue, 80)}"
    order = (
        f"  by {view.sort}{', reversed' if view.is_reversed else ''}" if view.queue is None else "  in order of service"
    )
    cursor = "_" if view.is_filtering else ""
    chosen = f"  filter {printable(view.filter, 60)}{cursor}" if view.filter or view.is_filtering else ""
    return f"{where}{order}{chosen}"


def _throughput_line(now: Figures, before: Figures) -> str:
    items = sum(line.pending + line.active for line in now.queues)
    text = f"queues {len(now.queues)}  items {items}  results {now.info.get('QueueResults.keys_total', 0)}"
    if now.overview is None:
        return f"{text}  (no rates: {printable(now.missing, 120)})"
    rate = _rate(now, before, count(now.overview, "executed"), count(before.overview, "executed"))
    connections, in_flight = (count(now.overview, name) for name in ("connections", "in_flight"))
    return f"{text}  statements/s {rate}  connections {connections}  in flight {in_flight}"


def _cache_line(now: Figures) -> str:
    text = f"cache {now.info.get('CacheItems.keys_total', 0)} keys  {size(now.info.get('CacheItems.size_total', 0))}"
    if now.overview is None:
        return text
    gauges = now.overview.get("gauges")
    hits, misses = count(gauges, "cache_hits"), count(gauges, "cache_misses")
    rate = f"{100 * hits / (hits + misses):.1f} %" if hits + misses else "-"
    return f"{text}  hits since the start {rate}  evicted {count(gauges, 'cache_evicted_keys')}"


def _memory_line(now: Figures) -> str:
    held = sum(now.info.get(f"{table}.size_total", 0) for table in ("QueueItems", "QueueItemPayload", "QueueResults"))
    return f"memory {size(now.memory_bytes)} resident  queue and results {size(held)}"


def _queue_rate(now: Figures, before: Figures, name: str, kind: str) -> str:
    if name not in now.totals or name not in before.totals:
        return "-"
    return _rate(now, before, now.totals[name][kind], before.totals[name][kind])


def _rate(now: Figures, before: Figures, total: int, total_before: int) -> str:
    seconds = now.at_s - before.at_s
    return f"{max(0, total - total_before) / seconds:.0f}" if seconds > 0 else "-"


def count(source: Any, name: str) -> int:
    """A number of an object of JSON; 0 for anything else."""
    value = source.get(name) if isinstance(source, dict) else None
    return value if isinstance(value, int) else 0
