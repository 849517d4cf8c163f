"""The cache for people: its prefixes with sizes and hit rates, the keys of one, and a value."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

from cubequeue_server.net.http_head import Head
from cubequeue_server.observe.console import lists
from cubequeue_server.observe.console.payloads import path_of, readable
from cubequeue_server.observe.metrics.sources import Sources, label
from cubequeue_server.requests.ask import settle
from storage.cache.entry import row_bytes
from storage.keys import key_of, prefix_of
from storage.stats import PrefixTotals
from storage.system_tables import SystemTable
from storage.vocabulary import Path

_SCAN_S: Final = 5.0  # sizes of a scan are reused for so long
_THREAD_ROWS: Final = 2_000  # to sort more would hold the loop up for milliseconds
_SORTS: Final = ("bytes", "entries", "reads", "hit_rate", "name")


@dataclass(slots=True)
class _Prefix:
    """A prefix; `hits` and `misses` are None for one without counters of its own."""

    path: Path
    name: str
    entries: int = 0
    size_bytes: int = 0
    hits: int | None = None
    misses: int | None = None

    def value_of(self, sort: str) -> float | str:
        """What a list is sorted by; nothing read sorts as the lowest."""
        reads = (self.hits or 0) + (self.misses or 0)
        rate = (self.hits or 0) / reads if reads else -1.0
        values = {"bytes": self.size_bytes, "entries": self.entries, "reads": reads, "hit_rate": rate}
        return values.get(sort, self.name)

    def json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "id": lists.encoded(self.path),
            "entries": self.entries,
            "bytes": self.size_bytes,
            "hits": self.hits,
            "misses": self.misses,
        }


class Cache:
    """Reads the cache of the sources. Nothing here counts as a read of a client. One scan at a time."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._scanning = asyncio.Lock()
        self._sizes_at_s = -_SCAN_S
        self._sizes: dict[Path, tuple[int, int]] = {}  # entries and bytes of each prefix

    async def listed(self, request: Head) -> dict[str, Any]:
        """The answer to `/api/cache`: prefixes. O(entries) every 5 s, in slices."""
        search = lists.wanted_text(request, "search")
        sort = lists.choice(request, "sort", _SORTS, "bytes")
        is_falling = lists.choice(request, "order", ("asc", "desc"), "asc" if sort == "name" else "desc") == "desc"
        async with self._scanning:
            if time.monotonic() - self._sizes_at_s >= _SCAN_S:
                self._sizes = await self._scan_sizes()
                self._sizes_at_s = time.monotonic()
        totals = await self._sources.store.cache_totals()
        found = [
            prefix
            for path in {**totals.named, **self._sizes}
            if search in (prefix := self._prefix(path, totals.named.get(path))).name.lower()
        ]
        if len(found) > _THREAD_ROWS:
            await asyncio.to_thread(_sort, found, sort, is_falling)
        else:
            _sort(found, sort, is_falling)
        part, place = lists.page(request, found)
        sums = {
            "prefixes": len(self._sizes),
            "entries": sum(entries for entries, _ in self._sizes.values()),
            "bytes": sum(size for _, size in self._sizes.values()),
            "hits": totals.hits,
            "misses": totals.misses,
        }
        return {"rows": [prefix.json() for prefix in part], **place, "sums": sums}

    def _prefix(self, path: Path, totals: PrefixTotals | None) -> _Prefix:
        entries, size_bytes = self._sizes.get(path, (0, 0))
        if totals is None:
            return _Prefix(path, label(path), entries, size_bytes)
        return _Prefix(path, label(path), entries, size_bytes, totals.hits, totals.misses)

    async def keys(self, request: Head) -> dict[str, Any]:
        """The answer to `/api/cache/keys`: the entries of a prefix in the order in which they are held. O(entries)."""
        prefix = lists.needed_path(request, "prefix")
        search = lists.wanted_text(request, "search").encode(errors="replace")
        offset, end = lists.bounds(request)
        rows: list[dict[str, Any]] = []
        total = 0
        async with self._scanning:
            async for path, expire_ms, value in self._entries():
                if prefix_of(path) == prefix and search in key_of(path).lower():
                    total += 1
                    if offset < total <= end:
                        rows.append(_entry(path, expire_ms, value))
        return {"rows": rows, **lists.place(offset, end, total), "now_ms": self._sources.now_ms()}

    async def one(self, wanted: Path) -> dict[str, Any] | None:
        """The answer to `/api/cache/entry`: an entry with its value; None when there is none. O(entries), in slices."""
        async with self._scanning:
            async for path, expire_ms, value in self._entries():
                if path == wanted:
                    prefix = prefix_of(path)
                    return {
                        **_entry(path, expire_ms, value),
                        "prefix": label(prefix),
                        "prefix_id": lists.encoded(prefix),
                        "now_ms": self._sources.now_ms(),
                        "value": readable(value),
                    }
        return None

    def forget_sizes(self) -> None:
        """An entry was removed: the next list measures anew."""
        self._sizes_at_s = -_SCAN_S

    async def _scan_sizes(self) -> dict[Path, tuple[int, int]]:
        sizes: dict[Path, tuple[int, int]] = {}
        async for path, _, value in self._entries():
            name = prefix_of(path)
            entries, size_bytes = sizes.get(name, (0, 0))
            sizes[name] = entries + 1, size_bytes + row_bytes(path, value)
        return sizes

    async def _entries(self) -> AsyncIterator[tuple[Path, int | None, bytes]]:
        store = self._sources.store
        losses = store.losses
        async for rows in store.read_table(SystemTable.CACHE):
            for key, prefix, expire_ms, value in rows:
                assert isinstance(value, bytes)
                assert expire_ms is None or isinstance(expire_ms, int)
                yield path_of(prefix, key), expire_ms, value
            await asyncio.sleep(0)
        await settle(store, losses)


def _sort(found: list[_Prefix], sort: str, is_falling: bool) -> None:
    """Equal prefixes stay in the order of their names, whichever way the list is sorted."""
    found.sort(key=lambda prefix: prefix.name, reverse=sort == "name" and is_falling)
    if sort != "name":
        found.sort(key=lambda prefix: prefix.value_of(sort), reverse=is_falling)


def _entry(path: Path, expire_ms: int | None, value: bytes) -> dict[str, Any]:
    return {"id": lists.encoded(path), "key": label(key_of(path)), "bytes": len(value), "expire_ms": expire_ms}
