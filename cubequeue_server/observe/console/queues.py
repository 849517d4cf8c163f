"""The queues for people: how each stands, what is usual in it, and its minutes as columns for charts."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cubequeue_server.net.http_head import Head
from cubequeue_server.observe.console import lists
from cubequeue_server.observe.metrics.sources import Sources, label
from storage.keys import prefix_of
from storage.minutes import MINUTE_MS, Minute, percentile
from storage.stats import QueueFigures, QueueStats, QueueStatsTable
from storage.vocabulary import Path

CHART_MINUTES: Final = 30
_RATE_MINUTES: Final = 5
_SLICE: Final = 200
_THREAD_ROWS: Final = 2_000  # to sort more would hold the loop up for milliseconds
_RANGES: Final[Mapping[str, tuple[int, int]]] = {"15m": (15, 1), "1h": (60, 1), "24h": (24 * 60, 5)}
_COUNTS: Final = ("added", "claimed", "ended", "failed")
_HIGHEST: Final = ("wait_p50_ms", "wait_p95_ms", "run_p50_ms", "run_p95_ms", "pending", "active")


@dataclass(slots=True)
class QueueView:
    """One queue; `stats` is None for one without an entry of its own."""

    prefix: Path
    name: str
    figures: QueueFigures
    stats: QueueStats | None
    waiting: int

    def usual(self) -> tuple[int | None, int | None, int | None, int | None]:
        """p50 and p95 of waits, then of runs, in about the last hour. 30 µs."""
        if self.stats is None:
            return None, None, None, None
        waits, runs = self.stats.minutes.recent(self.stats.totals)
        return percentile(waits, 0.5), percentile(waits, 0.95), percentile(runs, 0.5), percentile(runs, 0.95)

    def per_minute(self, minute: int) -> float | None:
        """How many items ended a minute, in the last five whole minutes."""
        if self.stats is None:
            return None
        rows = self.stats.minutes.rows(minute - _RATE_MINUTES)
        return round(sum(row.ended for row in rows if row.minute < minute) / _RATE_MINUTES, 2)

    def json(self, minute: int) -> dict[str, Any]:
        """The queue as the page gets it. About 0.2 ms."""
        figures, stats = self.figures, self.stats
        wait_p50_ms, wait_p95_ms, run_p50_ms, run_p95_ms = self.usual()
        return {
            "name": self.name,
            "id": lists.encoded(self.prefix),
            "pending": figures.pending,
            "active": figures.active,
            "concurrency": figures.concurrency,
            "waiting": self.waiting,
            "stalled": figures.stalled,
            "oldest_ms": figures.oldest_pending_ms,
            "heartbeat_ms": figures.oldest_heartbeat_ms,
            "wait_p50_ms": wait_p50_ms,
            "wait_p95_ms": wait_p95_ms,
            "run_p50_ms": run_p50_ms,
            "run_p95_ms": run_p95_ms,
            "per_minute": self.per_minute(minute),
            "totals": None if stats is None else {name: getattr(stats, name) for name in _COUNTS},
            "chart": None if stats is None else _chart(stats.minutes.rows(minute - CHART_MINUTES), minute),
        }


def _chart(rows: Iterable[Minute], minute: int) -> dict[str, list[int]]:
    depth, ended = [0] * CHART_MINUTES, [0] * CHART_MINUTES
    for row in rows:
        at = row.minute - (minute - CHART_MINUTES)
        if 0 <= at < CHART_MINUTES:
            depth[at] = row.pending + row.active
            ended[at] += row.ended
    return {"depth": depth, "ended": ended}


# What a list is sorted by; None sorts as the lowest.
_SORTS: Final[Mapping[str, Callable[[QueueView, int], float | None]]] = {
    "pending": lambda view, _: view.figures.pending,
    "active": lambda view, _: view.figures.active,
    "waiting": lambda view, _: view.waiting,
    "oldest": lambda view, _: view.figures.oldest_pending_ms,
    "heartbeat": lambda view, _: view.figures.oldest_heartbeat_ms,
    "wait": lambda view, _: view.usual()[1],
    "run": lambda view, _: view.usual()[3],
    "throughput": lambda view, minute: view.per_minute(minute),
    "failed": lambda view, _: None if view.stats is None else view.stats.failed,
}


class Queues:
    """Reads the queues of the sources."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    async def views(self) -> list[QueueView]:
        """All queues that hold items, and those that have an entry of their own. O(queues + waiters), in slices."""
        store = self._sources.store
        waiting: Counter[Path] = Counter()
        async for some in store.waited_paths():
            waiting.update(prefix_of(path) for path in some if path is not None)
            await asyncio.sleep(0)
        table = await store.queue_stats()
        views: dict[Path, QueueView] = {}
        async for part in store.queue_figures(self._sources.now_ms()):
            for each in part:
                prefix = each.prefix
                views[prefix] = QueueView(prefix, label(prefix), each, table.named.get(prefix), waiting[prefix])
            await asyncio.sleep(0)
        for prefix, stats in table.named.items():
            if prefix not in views:
                nothing = QueueFigures(prefix, 0, 0, None, None)
                views[prefix] = QueueView(prefix, label(prefix), nothing, stats, waiting[prefix])
        return list(views.values())

    async def listed(self, request: Head) -> dict[str, Any]:
        """The answer to `/api/queues`."""
        search = lists.wanted_text(request, "search")
        sort = lists.choice(request, "sort", ("name", *_SORTS), "name")
        is_falling = lists.choice(request, "order", ("asc", "desc"), "asc") == "desc"
        views = await self.views()
        minute = self._sources.now_ms() // MINUTE_MS
        sums = {
            "queues": len(views),
            "pending": sum(view.figures.pending for view in views),
            "active": sum(view.figures.active for view in views),
            "waiting": sum(view.waiting for view in views),
        }
        found = [view for view in views if search in view.name.lower()]
        if len(found) > _THREAD_ROWS:
            await asyncio.to_thread(_sort, found, sort, is_falling, minute)
        else:
            _sort(found, sort, is_falling, minute)
        part, place = lists.page(request, found)
        rows = []
        for view in part:
            rows.append(view.json(minute))
            await asyncio.sleep(0)
        return {"rows": rows, **place, "sums": sums}

    async def one(self, prefix: Path) -> dict[str, Any] | None:
        """The answer to `/api/queue`; None when there is no such queue."""
        view = next((each for each in await self.views() if each.prefix == prefix), None)
        return None if view is None else view.json(self._sources.now_ms() // MINUTE_MS)

    async def series(self, request: Head) -> dict[str, Any]:
        """The answer to `/api/series`. O(minutes), 3 µs each, a queue between two turns of the loop."""
        minutes, step = _RANGES[lists.choice(request, "range", tuple(_RANGES), "15m")]
        prefix = lists.path_of(request, "queue")
        table = await self._sources.store.queue_stats()
        minute = self._sources.now_ms() // MINUTE_MS
        first = (minute - minutes + step) // step * step
        count = (minute - first) // step + 1
        columns: dict[str, list[int | None]] = {
            **{name: [0] * count for name in _COUNTS},
            **{name: [None] * count for name in _HIGHEST},
        }
        for stats, depth in await self._measured(table, prefix):
            steps: dict[str, list[int | None]] = {name: [None] * count for name in _HIGHEST}
            for row in (*stats.minutes.rows(first), stats.minutes.measure(minute, stats.totals, *depth)):
                at = (row.minute - first) // step
                if 0 <= at < count:
                    _add(columns, steps, row, at)
            _join(columns, steps, is_sum=prefix is None)
            await asyncio.sleep(0)
        for name in ("pending", "active"):
            columns[name] = [0 if depth is None else depth for depth in columns[name]]
        times_ms = [(first + at * step) * MINUTE_MS for at in range(count)]
        return {"step_ms": step * MINUTE_MS, "partial": True, "times_ms": times_ms, **columns}

    async def _measured(
        self, table: QueueStatsTable, prefix: Path | None
    ) -> Sequence[tuple[QueueStats, tuple[int, int]]]:
        """Statistics and depth of a queue, or with None of all of them and of the rest."""
        if prefix is not None and prefix not in table.named:
            return []
        wanted = table.named if prefix is None else {prefix: table.named[prefix]}
        depths: dict[Path, tuple[int, int]] = {}
        others = [0, 0]
        async for part in self._sources.store.queue_figures(self._sources.now_ms()):
            for each in part:
                if each.prefix in table.named:
                    depths[each.prefix] = each.pending, each.active
                else:
                    others[0] += each.pending
                    others[1] += each.active
            await asyncio.sleep(0)
        found = [(stats, depths.get(name, (0, 0))) for name, stats in wanted.items()]
        return found if prefix is not None else [*found, (table.other, (others[0], others[1]))]


def _sort(views: list[QueueView], sort: str, is_falling: bool, minute: int) -> None:
    """Equal queues stay in the order of their names, whichever way the list is sorted."""
    views.sort(key=lambda view: (view.name, view.prefix), reverse=sort == "name" and is_falling)
    if sort != "name":
        value_of = _SORTS[sort]

        def key(view: QueueView) -> float:
            value = value_of(view, minute)
            return -1.0 if value is None else value

        views.sort(key=key, reverse=is_falling)


def _add(columns: dict[str, list[int | None]], steps: dict[str, list[int | None]], row: Minute, at: int) -> None:
    for name in _COUNTS:
        columns[name][at] = (columns[name][at] or 0) + getattr(row, name)
    for name in _HIGHEST:
        steps[name][at] = _higher(steps[name][at], getattr(row, name))


def _join(columns: dict[str, list[int | None]], steps: dict[str, list[int | None]], *, is_sum: bool) -> None:
    """Depths of several queues are added, of percentiles the highest counts."""
    for name, column in steps.items():
        mine = columns[name]
        for at, value in enumerate(column):
            if value is not None and is_sum and name in {"pending", "active"}:
                mine[at] = (mine[at] or 0) + value
            else:
                mine[at] = _higher(mine[at], value)


def _higher(one: int | None, two: int | None) -> int | None:
    if one is None or two is None:
        return two if one is None else one
    return max(one, two)
