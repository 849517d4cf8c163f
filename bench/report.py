"""A record as a page: tables of all lines, and two plots drawn from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path

from bench.record import Line, number

BEGIN, END = "<!-- record begins -->", "<!-- record ends -->"
_PLOT = "performance.svg"

# Figures by part, in the order of their columns; what a part has beyond them is in the JSON.
_COLUMNS: dict[str, Sequence[str]] = {
    "start": ("median_ms", "best_ms", "idle_mib"),
    "ceiling": ("per_s", "p50_ms", "p99_ms"),
    "throughput": ("per_s", "p50_ms", "p99_ms", "server_us", "of_echo", "of_redis", "load_busy"),
    "durability": ("per_s", "p50_ms", "p99_ms", "server_us", "of_memory", "of_redis", "p99_of_memory"),
    "depth": ("per_s", "server_us", "cost_of_shallow", "add_p50_us", "retrieve_p50_us", "ack_p50_us"),
    "stalls": ("heartbeat_p50_ms", "heartbeat_p99_ms", "heartbeat_max_ms", "heartbeat_server_max_ms", "statement_ms"),
}
_SERVERS = {"echo_per_s": "#bbb", "redis_per_s": "#d55e00", "per_s": "#0072b2"}
_NAMES = {"echo_per_s": "bare echo", "redis_per_s": "Redis + Lua", "per_s": "cubequeue"}


def write_report(page: Path, machine: Mapping[str, str], lines: Sequence[Line]) -> None:
    """Put the tables between the two marks of the page, and the plot beside it."""
    text = page.read_text()
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    parts = list(dict.fromkeys(each.part for each in lines))
    tables = [_tables(part, [each for each in lines if each.part == part]) for part in parts]
    head = ", ".join(f"{name} {value}" for name, value in machine.items())
    judged = [each for each in lines if each.targets]
    missed = [each for each in judged if each.missed]
    verdict = f"{len(judged) - len(missed)} of {len(judged)} lines with a target meet it."
    if missed:
        verdict += " Missed: " + "; ".join(f"{each.name} ({', '.join(each.missed)})" for each in missed) + "."
    body = "\n\n".join([head + ".", verdict, f"![Requests a second]({_PLOT})", *tables])
    page.write_text(f"{before}{BEGIN}\n\n{body}\n\n{END}{after}")
    page.with_name(_PLOT).write_text(plot([each for each in lines if each.part == "throughput"]))


def _tables(part: str, lines: Sequence[Line]) -> str:
    """A table for each run of lines that have the same figures to show."""
    tables = [_table(columns, list(run)) for columns, run in groupby(lines, partial(_columns, part))]
    return "\n\n".join([f"### {part}", *tables])


def _columns(part: str, each: Line) -> Sequence[str]:
    named = [name for name in _COLUMNS.get(part, ()) if name in each.figures]
    return named or list(each.figures)


def _table(columns: Sequence[str], lines: Sequence[Line]) -> str:
    has_targets = any(each.targets for each in lines)
    names = ["", *columns, *(["target"] if has_targets else [])]
    rows = [names, ["---", *(["---:"] * len(columns)), *(["---"] if has_targets else [])]]
    for each in lines:
        cells = [number(each.figures[column]) for column in columns]
        verdict = [", ".join(each.targets) + (": **missed**" if each.missed else "") if each.targets else ""]
        rows.append([each.name, *cells, *(verdict if has_targets else [])])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def plot(lines: Sequence[Line]) -> str:
    """Requests a second of the three servers, a group of bars for each line, as an SVG."""
    lines = [each for each in lines if all(server in each.figures for server in _SERVERS)]
    bar, gap, left, width = 7, 8, 420, 900
    height = len(lines) * (3 * bar + gap) + 60
    most = max((each.figures[server] for each in lines for server in _SERVERS), default=1.0)
    scale = (width - left - 80) / most
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif">',
        f'<rect width="{width}" height="{height}" fill="white"/><g font-size="10">',
    ]
    for at, (server, colour) in enumerate(_SERVERS.items()):
        x = left + at * 110
        parts.append(f'<rect x="{x}" y="12" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{x + 15}" y="21">{_NAMES[server]}</text>')
    y = 40
    for each in lines:
        parts.append(f'<text x="{left - 8}" y="{y + 2 * bar}" text-anchor="end">{_escaped(each.name)}</text>')
        for server, colour in _SERVERS.items():
            length = each.figures[server] * scale
            parts.append(f'<rect x="{left}" y="{y}" width="{length:.1f}" height="{bar - 1}" fill="{colour}"/>')
            label = f'<text x="{left + length + 3:.1f}" y="{y + bar - 1}" font-size="7">'
            parts.append(f"{label}{number(each.figures[server])}</text>")
            y += bar
        y += gap
    parts.append(f'<text x="{left}" y="{height - 8}">requests a second</text></g></svg>')
    return "\n".join(parts) + "\n"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
