"""What the live page asks for, as JSON: lists are paged and bounded, and read in slices between statements."""

from __future__ import annotations

import asyncio
import heapq
import json
import logging
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final, Protocol

from cubequeue_server.net.http_head import Answer, Head
from cubequeue_server.observe.counters import count
from cubequeue_server.observe.logs import log_event
from cubequeue_server.observe.metrics.sources import OTHER, Sources, label
from cubequeue_server.observe.page.files import SECURITY_HEADERS
from cubequeue_server.observe.page.readable import readable
from cubequeue_server.observe.status import Route
from cubequeue_server.requests.ask import settle
from cubequeue_server.version import __version__
from storage.asking import ANYBODY, Caller, Outcome
from storage.cache.entry import row_bytes
from storage.errors import StatementError
from storage.queue.stats import QueueFigures, QueueStats
from storage.system_tables import SystemTable
from storage.vocabulary import Path, QueueCancel, Result, Row, Statement

_SLICE: Final = 500  # rows between two turns of the loop: half a millisecond
_DEFAULT_ROWS: Final = 25
_MAX_ROWS: Final = 100
_MAX_OFFSET: Final = 1_000_000
_MAX_PREFIXES: Final = 100
_MAX_ID_BYTES: Final = 2_048
_CACHE_SCAN_S: Final = 5.0  # so long the sizes of a scan are shown

_log = logging.getLogger(__name__)


class Executor(Protocol):
    """What executes statements of this process's own."""

    def call(self, statement: Statement, caller: Caller, tell: Callable[[Outcome], None]) -> object:
        """Execute; `tell` gets the outcome, now or later."""


class PageApi:
    """The routes under /api. `may_cancel` tells whether items may be cancelled, which needs credentials."""

    def __init__(self, sources: Sources, executor: Executor, may_cancel: Callable[[], bool]) -> None:
        self._sources = sources
        self._executor = executor
        self._may_cancel = may_cancel
        self._scanning = asyncio.Lock()  # one scan at a time, however many look
        self._prefixes: tuple[float, dict[bytes, list[int]]] = (-_CACHE_SCAN_S, {})

    def routes(self) -> dict[str, Route]:
        """What GET gives."""
        return {
            "/api/overview": self.overview,
            "/api/items": self.items,
            "/api/results": self.results,
            "/api/cache": self.cache,
        }

    def actions(self) -> dict[str, Route]:
        """What POST does."""
        return {"/api/cancel": self.cancel}

    # Overview

    async def overview(self, _request: Head) -> Answer:
        """How the server stands, and each of its queues: the deepest and the busiest ones. O(queues + waiters)."""
        sources = self._sources
        figures = await sources.queues()
        waiting = await self._waiting()
        totals = await sources.queue_totals()
        by_name: dict[str, QueueFigures | None] = {**dict.fromkeys(totals), **dict(figures)}
        queues = [_queue(name, queue, totals.get(name), waiting) for name, queue in by_name.items()]
        counters, gauges = sources.counters, sources.store.gauges()
        return _json(
            {
                "version": __version__,
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

    async def _waiting(self) -> Counter[str]:
        counted: Counter[str] = Counter()
        async for part in self._sources.store.waited_prefixes():
            counted.update(label(prefix) for prefix in part if prefix is not None)
            await asyncio.sleep(0)
        return counted

    # Lists

    async def items(self, request: Head) -> Answer:
        """The items of a queue in the order of their ids. O(all items), in slices."""
        parameters = request.parameters
        prefix = _decoded(parameters.get("queue", ""))
        state = {"pending": b"Pending", "active": b"Active"}.get(parameters.get("state", ""))
        if prefix is None:
            return _json({"error": "no such queue"}, 400)

        def is_wanted(row: Row) -> bool:
            return (row[1] or b"") == prefix and (state is None or row[3] == state)

        return await self._list(SystemTable.QUEUE, is_wanted, _item, parameters)

    async def results(self, request: Head) -> Answer:
        """The results of a queue that wait to be read. O(all results), in slices."""
        parameters = request.parameters
        prefix = _decoded(parameters.get("queue", ""))
        if prefix is None:
            return _json({"error": "no such queue"}, 400)
        start = prefix + b":"

        def is_wanted(row: Row) -> bool:
            path = row[1]
            assert isinstance(path, bytes)
            return path.startswith(start) and b":" not in path[len(start) :]

        return await self._list(SystemTable.RESULTS, is_wanted, _result, parameters)

    async def _list(
        self,
        table: SystemTable,
        is_wanted: Callable[[Row], bool],
        show: Callable[[Row], dict[str, Any]],
        parameters: Mapping[str, str],
    ) -> Answer:
        offset = _whole_number(parameters.get("offset"), 0, _MAX_OFFSET)
        limit = max(1, _whole_number(parameters.get("limit"), _DEFAULT_ROWS, _MAX_ROWS))
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

    # Cache

    async def cache(self, _request: Head) -> Answer:
        """The largest prefixes of the cache with size, entries, and what GET found. O(entries) every 5 s, in slices."""
        sizes = await self._sizes()
        totals = await self._sources.store.cache_totals()
        prefixes = {**{prefix: [0, 0] for prefix in totals.named}, **sizes}
        largest = heapq.nlargest(_MAX_PREFIXES, prefixes.items(), key=lambda each: each[1][1])
        rows = []
        for prefix, (entries, size_bytes) in largest:
            found = totals.named.get(prefix)
            hits, misses = (None, None) if found is None else (found.hits, found.misses)
            rows.append(
                {"name": label(prefix), "entries": entries, "bytes": size_bytes, "hits": hits, "misses": misses}
            )
            del prefixes[prefix]
        if prefixes or totals.other.hits or totals.other.misses:
            entries, size_bytes = (sum(each) for each in zip(*prefixes.values(), strict=True)) if prefixes else (0, 0)
            found = totals.other
            rows.append(
                {"name": OTHER, "entries": entries, "bytes": size_bytes, "hits": found.hits, "misses": found.misses}
            )
        return _json({"rows": rows})

    async def _sizes(self) -> dict[bytes, list[int]]:
        async with self._scanning:
            if time.monotonic() - self._prefixes[0] < _CACHE_SCAN_S:
                return self._prefixes[1]
            sizes: dict[bytes, list[int]] = {}
            async for key, prefix, _, value in self._rows(SystemTable.CACHE):
                assert isinstance(key, bytes)
                assert isinstance(value, bytes)
                size = sizes.setdefault(prefix if isinstance(prefix, bytes) else b"", [0, 0])
                size[0] += 1
                size[1] += row_bytes(_path(prefix, key), value)
            self._prefixes = (time.monotonic(), sizes)
            return sizes

    # Cancelling

    async def cancel(self, request: Head) -> Answer:
        """Cancel an item. Only scripts of this page can send the header: other sites cannot make a browser do it."""
        if not self._may_cancel():
            return _json({"error": "cancelling is off: it needs CUBEQUEUE_STATUS_CANCEL and credentials"}, 403)
        if request.header(b"x-cubequeue-action") != b"cancel":
            return _json({"error": "the header x-cubequeue-action is missing"}, 403)
        path = _decoded(request.parameters.get("item", ""))
        if path is None:
            return _json({"error": "no such item"}, 400)
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def tell(each: Outcome) -> None:
            if not outcome.done():
                outcome.set_result(each)

        self._executor.call(QueueCancel(path), ANYBODY, tell)
        answer = await outcome
        if isinstance(answer, StatementError):
            return _json({"error": answer.wire_text}, 409)
        assert isinstance(answer, Result)
        is_gone = bool(answer.rows)
        log_event(_log, logging.WARNING, "item cancelled on the page", {"key": path, "was_there": is_gone})
        return _json({"cancelled": is_gone})


def _queue(name: str, figures: QueueFigures | None, totals: QueueStats | None, waiting: Counter[str]) -> dict[str, Any]:
    # What happens in a queue that got no name of its own is counted among all others' (docs/metrics.md, "Labels").
    counted: dict[str, int | None] = dict.fromkeys(("claimed", "added", "ended"))
    if totals is not None:
        cancelled = totals.stalled + totals.orphaned + totals.manual
        counted.update(
            claimed=totals.claimed, added=totals.added, ended=totals.acknowledged + totals.expired + cancelled
        )
    prefix = figures.prefix if figures is not None and name != OTHER else None
    return {
        "name": name,
        "id": None if prefix is None else _encoded(prefix),
        "pending": 0 if figures is None else figures.pending,
        "active": 0 if figures is None else figures.active,
        "waiting": waiting[name],
        "oldest_ms": None if figures is None else figures.oldest_pending_ms,
        "heartbeat_ms": None if figures is None else figures.oldest_heartbeat_ms,
        **counted,
    }


def _item(row: Row) -> dict[str, Any]:
    key, prefix, created_ms, status, priority, heartbeat_ms, orphaned_ms, value, extra, *rest = row
    owner, exclusive, external, claimed_by, claimed_peer = rest
    assert isinstance(key, bytes)
    return {
        "item": _encoded(_path(prefix, key)),
        "key": _text(key),
        "state": _text(status),
        "priority": priority,
        "created_ms": created_ms,
        "heartbeat_ms": heartbeat_ms,
        "orphaned_ms": orphaned_ms,
        "owner": _text(owner),
        "claimed_by": _text(claimed_by),
        "claimed_peer": _text(claimed_peer),
        "is_exclusive": exclusive,
        "external_id": _text(external),
        "payload": _readable(value),
        "extra": _readable(extra),
    }


def _result(row: Row) -> dict[str, Any]:
    id_, path, expire_ms, is_taken, value, external = row
    return {
        "id": id_,
        "key": _text(path),
        "expire_ms": expire_ms,
        "is_taken": is_taken,
        "external_id": _text(external),
        "value": _readable(value),
    }


def _path(prefix: object, key: bytes) -> Path:
    return b"%b:%b" % (prefix, key) if isinstance(prefix, bytes) else key


def _readable(value: object) -> dict[str, Any] | None:
    return readable(value if isinstance(value, bytes) else None)


def _text(value: object) -> str | None:
    return label(value) if isinstance(value, bytes) else None


def _encoded(path: Path) -> str | None:
    """A path as it can stand in a URL; None when it is too long for one."""
    return urlsafe_b64encode(path).decode() if len(path) <= _MAX_ID_BYTES else None


def _decoded(text: str) -> bytes | None:
    try:
        return urlsafe_b64decode(text.encode("ascii"))
    except ValueError:
        return None


def _whole_number(text: str | None, default: int, most: int) -> int:
    return min(int(text), most) if text and text.isascii() and text.isdigit() and len(text) < 10 else default


def _json(content: Mapping[str, Any], status: int = 200) -> Answer:
    return Answer(status, json.dumps(content).encode(), "application/json", SECURITY_HEADERS)
