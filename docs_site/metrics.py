"""The tables of the metrics, from what a server exposes in which everything has happened once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from cubequeue_server.observe.limits import Limit
from cubequeue_server.observe.metrics.exposition import Exposition
from cubequeue_server.observe.metrics.histograms import queue_histograms
from docs_site.tables import code, table
from tests.metrics.scenery import busy_scene

# A metric belongs to the first section that has the beginning of its name.
SECTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "Commands": ("repeats", "errors", "requests", "command", "wait"),
    "Queues": ("queue", "result", "blocked"),
    "Kept answers": ("answers", "kept"),
    "Cache": ("cache", "drop_guard"),
    "Connections": (
        "received",
        "sent",
        "connections",
        "unfinished",
        "unread",
        "begun",
        "largest",
        "foreign",
        "status",
        "mysql",
    ),
    "Journal": ("journal",),
    "Shared store": ("store",),
    "SELECT": ("select",),
    "Upstream CubeStore": ("upstream", "upload"),
    "History": ("history",),
    "Limits and readiness": ("limit", "ready"),
    "Process": ("build", "loop", "log", "process"),
}


class Row(NamedTuple):
    """A metric by the full name of its samples' family."""

    name: str
    type: str
    labels: str
    meaning: str


def text() -> str:
    """A section for each kind of metric."""
    found: dict[str, list[Row]] = {title: [] for title in SECTIONS}
    for row in _rows():
        found[_section_of(row.name)].append(row)
    parts = []
    for title, rows in found.items():
        cells = [(code(row.name), row.type, row.labels, row.meaning) for row in rows]
        parts.append(f"## {title}\n\n{table(('metric', 'type', 'labels', 'meaning'), cells)}\n")
    return "\n".join(parts)


def _rows() -> Iterator[Row]:
    sources = busy_scene().sources

    async def exposed() -> bytes:
        totals = await sources.queue_totals()
        limits = [Limit("items", 1, 2, "items", "")]
        text = Exposition(sources).text(await sources.queues(), totals, limits)
        return b"".join([text, *queue_histograms(totals)])

    for family in text_string_to_metric_families(asyncio.run(exposed()).decode()):
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = dict.fromkeys(name for sample in family.samples for name in sample.labels if name != "le")
        yield Row(name, family.type, ", ".join(map(code, labels)) or "–", family.documentation)


def _section_of(name: str) -> str:
    own = name.removeprefix("cubequeue_")
    for title, beginnings in SECTIONS.items():
        if own.startswith(beginnings):
            return title
    raise ValueError(f"no section of docs/metrics.md has {name}: add the beginning of its name to SECTIONS")
