"""The routes of the live page: its files, and the JSON that they ask for.

Lists are paged and bounded. Tables are read in slices between statements.
"""

from __future__ import annotations

import asyncio
import heapq
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from functools import cache, partial
from pathlib import Path as FilePath
from typing import Any, Final

from cubequeue_server.access.credentials import basic_credentials
from cubequeue_server.net.http_head import Answer, Head
from cubequeue_server.observe.counters import count
from cubequeue_server.observe.metrics.sources import OTHER, Sources, label
from cubequeue_server.observe.page import presentation
from cubequeue_server.observe.page.presentation import decoded
from cubequeue_server.observe.status import Route
from cubequeue_server.requests.ask import settle
from cubequeue_server.server import Server
from cubequeue_server.version import __version__
from storage.asking import Caller, Outcome
from storage.cache.entry import row_bytes
from storage.errors import StatementError
from storage.stats import PrefixTotals, QueueFigures
from storage.system_tables import SystemTable
from storage.vocabulary import QueueCancel, Result, Row

_DEFAULT_ROWS: Final = 25
_MAX_ROWS: Final = 100
_MAX_OFFSET: Final = 1_000_000
_MAX_PREFIXES: Final = 100
_CACHE_SCAN_S: Final = 5.0  # sizes of a scan are reused for so long

_FILES: Final = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
# Only files of this server, no inline script or style, no frame around the page, no form to another site.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class LivePage:
    """`may_cancel` tells whether the page may cancel items."""

    def __init__(self, sources: Sources, server: Server, may_cancel: Callable[[], bool]) -> None:
        self._sources = sources
        self._server = server
        self._may_cancel = may_cancel
        self._scanning = asyncio.Lock()  # one scan at a time, however many people look
        self._sizes_at_s = -_CACHE_SCAN_S
        self._sizes: dict[bytes, tuple[int, int]] = {}  # entries and bytes of each prefix of the cache

    def routes(self) -> dict[str, Route]:
        """Routes of GET."""
        return {
            **{path: partial(_file, name, content_type) for path, (name, content_type) in _FILES.items()},
            "/api/overview": self._overview,
            "/api/items": self._items,
            "/api/results": self._results,
            "/api/cache": self._cache,
        }

    def actions(self) -> dict[str, Route]:
        """Routes of POST."""
        return {"/api/cancel": self._cancel}

    async def _overview(self, _request: Head) -> Answer:
        """The figures of the server, and those of the deepest and the busiest queues. O(queues + waiters)."""
        sources = self._sources
        figures = await sources.queues()
        waiters = await self._waiters()
        totals = await sources.queue_totals()
        by_name: dict[str, QueueFigures | None] = {**dict.fromkeys(totals), **dict(figures)}
        queues = [
            presentation.queue_json(name, queue, totals.get(name), waiters[name]) for name, queue in by_name.items()
        ]
        counters, gauges = sources.counters, sources.store.gauges()
        return _json(
            {
                "version": __version__,
                "instance": self._server.instance,
                "now_ms": sources.now_ms(),
                "may_cancel": self._may_cancel(),
                "connections": counters.connections,
                "in_flight": sources.in_flight(),
                "executed": sum(map(count, counters.durations.values())),
                "bytes_in": counters.bytes_in,
                "bytes_out": counters.bytes_out,
                "journal_lag": gauges.get("journal_lag", 0),
                "gauges": gauges,
                "queues": sorted(queues, key=lambda each: (-each["pending"] - each["active"], each["name"])),
            }
        )

    async def _waiters(self) -> Counter[str]:
        """The number of RESULT_BLOCKING by the label of their queue."""
        counted: Counter[str] = Counter()
        async for part in self._sources.store.waited_prefixes():
            counted.update(label(prefix) for prefix in part if prefix is not None)
            await asyncio.sleep(0)
        return counted

    async def _items(self, request: Head) -> Answer:
        """The items of a queue in the order of their ids. O(all items), in slices."""
        prefix = decoded(request.parameters.get("queue", ""))
        state = {"pending": b"Pending", "active": b"Active"}.get(request.parameters.get("state", ""))

        def is_wanted(row: Row) -> bool:
            return (row[1] or b"") == prefix and (state is None or row[3] == state)

        if prefix is None:
            return _error(400, "no such queue")
        return await self._list(SystemTable.QUEUE, is_wanted, presentation.item_json, request)

    async def _results(self, request: Head) -> Answer:
        """The kept results of a queue. O(all results), in slices."""
        prefix = decoded(request.parameters.get("queue", ""))

        def is_wanted(row: Row) -> bool:
            path = row[1]
            assert isinstance(path, bytes)
            return path.rpartition(b":")[0] == prefix

        if prefix is None:
            return _error(400, "no such queue")
        return await self._list(SystemTable.RESULTS, is_wanted, presentation.result_json, request)

    async def _list(
        self, table: SystemTable, is_wanted: Callable[[Row], bool], show: Callable[[Row], dict[str, Any]], request: Head
    ) -> Answer:
        """A page of the wanted rows, by the parameters `offset` and `limit`."""
        offset = _whole_number(request.parameters.get("offset"), 0, _MAX_OFFSET)
        limit = max(1, _whole_number(request.parameters.get("limit"), _DEFAULT_ROWS, _MAX_ROWS))
        rows: list[dict[str, Any]] = []
        has_more, position = False, 0
        async with self._scanning:
            async for row in self._rows(table):
                if not is_wanted(row):
                    continue
                if len(rows) == limit:
                    has_more = True
                    break
                if position >= offset:
                    rows.append(show(row))
                    await asyncio.sleep(0)  # a payload may have taken a millisecond
                position += 1
        return _json({"rows": rows, "offset": offset, "next": offset + limit if has_more else None})

    async def _rows(self, table: SystemTable) -> AsyncIterator[Row]:
        store = self._sources.store
        losses = store.losses
        async for rows in store.read_table(table):
            for row in rows:
                yield row
            await asyncio.sleep(0)
        await settle(store, losses)

    async def _cache(self, _request: Head) -> Answer:
        """The largest prefixes of the cache: size, entries, hits and misses. O(entries) every 5 s, in slices."""
        async with self._scanning:
            if time.monotonic() - self._sizes_at_s >= _CACHE_SCAN_S:
                self._sizes = await self._scan_sizes()
                self._sizes_at_s = time.monotonic()
        totals = await self._sources.store.cache_totals()
        prefixes = {**dict.fromkeys(totals.named, (0, 0)), **self._sizes}
        largest = heapq.nlargest(_MAX_PREFIXES, prefixes, key=lambda prefix: prefixes[prefix][1])
        rows = [_prefix_json(label(prefix), prefixes.pop(prefix), totals.named.get(prefix)) for prefix in largest]
        if prefixes or totals.other.hits or totals.other.misses:
            size = sum(entries for entries, _ in prefixes.values()), sum(each for _, each in prefixes.values())
            rows.append(_prefix_json(OTHER, size, totals.other))
        return _json({"rows": rows})

    async def _scan_sizes(self) -> dict[bytes, tuple[int, int]]:
        sizes: dict[bytes, tuple[int, int]] = {}
        async for key, prefix, _, value in self._rows(SystemTable.CACHE):
            assert isinstance(value, bytes)
            name = prefix if isinstance(prefix, bytes) else b""
            entries, size_bytes = sizes.get(name, (0, 0))
            sizes[name] = entries + 1, size_bytes + row_bytes(presentation.path_of(prefix, key), value)
        return sizes

    async def _cancel(self, request: Head) -> Answer:
        """Cancel an item. Only scripts of this page can send the header: other sites cannot make a browser do it."""
        if not self._may_cancel():
            return _error(403, "cancelling is off: it needs CUBEQUEUE_STATUS_CANCEL and credentials")
        if request.header(b"x-cubequeue-action") != b"cancel":
            return _error(403, "the header x-cubequeue-action is missing")
        path = decoded(request.parameters.get("item", ""))
        if path is None:
            return _error(400, "no such item")
        told: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._server.call(
            QueueCancel(path),
            Caller(peer=request.peer, user=_user_of(request)),
            lambda outcome: None if told.done() else told.set_result(outcome),
        )
        outcome = await told
        if isinstance(outcome, StatementError):
            return _error(409, outcome.wire_text)
        assert isinstance(outcome, Result)
        was_there = bool(outcome.rows)
        return _json({"cancelled": was_there})


def _user_of(request: Head) -> bytes:
    """The user of an admitted request."""
    given = basic_credentials(request.header(b"authorization") or b"")
    return b"" if given is None else given[0]


def _file(name: str, content_type: str, _request: Head) -> Answer:
    return Answer(200, _content(name), content_type, _HEADERS)


@cache
def _content(name: str) -> bytes:
    return FilePath(__file__).with_name(name).read_bytes()


def _prefix_json(name: str, size: tuple[int, int], totals: PrefixTotals | None) -> dict[str, Any]:
    entries, size_bytes = size
    hits, misses = (None, None) if totals is None else (totals.hits, totals.misses)
    return {"name": name, "entries": entries, "bytes": size_bytes, "hits": hits, "misses": misses}


def _whole_number(text: str | None, default: int, most: int) -> int:
    return min(int(text), most) if text and text.isascii() and text.isdigit() and len(text) < 10 else default


def _error(status: int, text: str) -> Answer:
    return _json({"error": text}, status)


def _json(content: Mapping[str, Any], status: int = 200) -> Answer:
    return Answer(status, json.dumps(content).encode(), "application/json", _HEADERS)
