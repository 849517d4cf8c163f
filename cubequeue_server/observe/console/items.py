"""The items of queues for people: in the order of service, with their place in line and the reason of their wait."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

from cubequeue_server.client_names import ClientNames
from cubequeue_server.net.http_head import Head
from cubequeue_server.observe.console import lists
from cubequeue_server.observe.console.history import History
from cubequeue_server.observe.console.payloads import path_of, raw, readable
from cubequeue_server.observe.metrics.sources import Sources
from cubequeue_server.requests.ask import settle
from storage.keys import key_of, prefix_of
from storage.queue.history import HEAD_BYTES, TAIL_BYTES, request_id_of
from storage.stats import QueueFigures
from storage.system_tables import SYSTEM_COLUMNS, SystemTable
from storage.vocabulary import Path, Row

_AT: Final = {name: at for at, name in enumerate(SYSTEM_COLUMNS[SystemTable.QUEUE].names)}
_PREVIEW: Final = 300  # characters
_MAX_SLOTS: Final = 50
_SEARCHED: Final = tuple(
    _AT[name]
    for name in ("id", "prefix", "external_id", "process_id", "added_peer", "claimed_by", "claimed_peer", "extra")
)
_ACTIVE: Final = None  # the rank of active items, before those of all priorities


@dataclass(slots=True, frozen=True)
class Item:
    """A row of `system.queue` by the names of its columns."""

    row: Row

    def __getitem__(self, name: str) -> Any:
        return self.row[_AT[name]]

    @property
    def is_active(self) -> bool:
        return bool(self["status"] == b"Active")

    @property
    def rank(self) -> int | None:
        """Items of one rank are served in the order of their numbers, which is that of the rows."""
        return _ACTIVE if self.is_active else self["priority"]

    @property
    def path(self) -> Path:
        return path_of(self["prefix"], self["id"])

    def head_and_tail(self) -> tuple[bytes, bytes]:
        """The parts of the payload in which is searched."""
        payload: bytes = self["value"]
        return payload[:HEAD_BYTES], payload[HEAD_BYTES:][-TAIL_BYTES:]


@dataclass(slots=True, frozen=True)
class _Filter:
    prefix: Path | None
    state: bytes | None
    text: str

    @classmethod
    def of(cls, request: Head) -> _Filter:
        state = lists.choice(request, "state", ("all", "pending", "active"), "all")
        return cls(
            lists.path_of(request, "queue"),
            None if state == "all" else state.capitalize().encode(),
            lists.wanted_text(request, "search"),
        )

    def is_queue(self, item: Item) -> bool:
        return self.prefix is None or (item["prefix"] or b"") == self.prefix

    def admits(self, item: Item, names: ClientNames) -> bool:
        """Whether an item of the queue is asked for. 0.3 µs, and 10 µs with a text."""
        if self.state is not None and item["status"] != self.state:
            return False
        if not self.text:
            return True
        wanted = self.text.encode(errors="replace")
        cells = [item.row[at] for at in _SEARCHED]
        if any(isinstance(cell, bytes) and wanted in cell[:HEAD_BYTES].lower() for cell in cells):
            return True
        if any(wanted in part.lower() for part in item.head_and_tail()):
            return True
        owners = (_added_by(item, names), _claimed_by(item, names))
        return self.text == str(item["number"]) or any(
            owner is not None and self.text in (owner["name"] or "").lower() for owner in owners
        )


class Items:
    """Reads the items of the sources. One scan at a time, however many people look."""

    def __init__(self, sources: Sources, names: ClientNames, history: History) -> None:
        self._sources = sources
        self._names = names
        self._history = history
        self._scanning = asyncio.Lock()

    async def listed(self, request: Head) -> dict[str, Any]:
        """The answer to `/api/items`: of a queue in the order of service, of all queues in the order of ids.

        O(all items), in slices. They are read twice and none of them is kept: so much memory is there for no list.
        """
        asked = _Filter.of(request)
        offset, end = lists.bounds(request)
        async with self._scanning:
            counted: Counter[int | None] = Counter()  # of the queue
            wanted: Counter[int | None] = Counter()  # those of them that are asked for
            async for item in self._items():
                if asked.is_queue(item):
                    rank = _ACTIVE if asked.prefix is None else item.rank
                    counted[rank] += 1
                    wanted[rank] += asked.admits(item, self._names)
            missing = min(end, wanted.total()) - offset
            rows = await self._page(asked, counted, wanted, offset, missing) if missing > 0 else []
        return {"rows": rows, **lists.place(offset, end, wanted.total())}

    async def _page(
        self, asked: _Filter, counted: Counter[int | None], wanted: Counter[int | None], offset: int, missing: int
    ) -> list[dict[str, Any]]:
        """The rows of a page, as JSON; `missing` of them, or fewer if items went since they were counted."""
        after_ms = None if asked.prefix is None else (await self._figures(asked.prefix)).stalled_after_ms
        places, positions = _starts(counted), _starts(wanted)
        rows: list[tuple[int, dict[str, Any]]] = []
        async for item in self._items():
            if not asked.is_queue(item):
                continue
            rank = _ACTIVE if asked.prefix is None else item.rank
            place = places[rank] = places[rank] + 1
            if not asked.admits(item, self._names):
                continue
            position = positions[rank] = positions[rank] + 1
            if offset < position <= offset + missing:
                in_line = None if rank is _ACTIVE else place - counted[_ACTIVE]
                rows.append((position, self._json(item, in_line, after_ms)))
                await asyncio.sleep(0)  # a payload may have taken a millisecond
                if len(rows) == missing:
                    break
        rows.sort(key=lambda row: row[0])
        return [row for _, row in rows]

    async def one(self, path: Path) -> dict[str, Any] | None:
        """The answer to `/api/item`: an item, its slots, its result, and the last ends of its path. None without any.

        O(items + waiters + results + history), in slices.
        """
        async with self._scanning:
            found, ahead, slots = await self._in_line(path)
            result = await self._result(path)
            waiting = await self._waiting(path)
        ended = await self._history.of_path(path)
        if found is None and result is None and not ended:
            return None
        prefix = prefix_of(path)
        figures = await self._figures(prefix)
        return {
            "item": lists.encoded(path),
            "key": lists.shown(key_of(path)),
            "queue": lists.shown(prefix),
            "queue_id": lists.encoded(prefix),
            "now_ms": self._sources.now_ms(),
            "waiting": waiting,
            "concurrency": figures.concurrency,
            "active": figures.active,
            "pending": figures.pending,
            "stalled_after_ms": figures.stalled_after_ms,
            "found": None if found is None else self._whole(found, ahead, figures),
            "slots": [self._json(slot, None, figures.stalled_after_ms) for slot in slots[:_MAX_SLOTS]],
            "result": result,
            "ended": ended,
        }

    async def results(self, request: Head) -> dict[str, Any]:
        """The answer to `/api/results`: the kept results of a queue. O(all results), in slices."""
        prefix = lists.needed_path(request, "queue")
        offset, end = lists.bounds(request)
        rows: list[dict[str, Any]] = []
        total = 0
        async with self._scanning:
            async for row in self._rows(SystemTable.RESULTS):
                if prefix_of(_bytes(row[1])) == prefix:
                    total += 1
                    if offset < total <= end:
                        rows.append(_result(row))
                        await asyncio.sleep(0)
        return {"rows": rows, **lists.place(offset, end, total)}

    async def _in_line(self, path: Path) -> tuple[Item | None, int, list[Item]]:
        """The item, how many are served before it, and the items that hold slots of its queue."""
        found: Item | None = None
        prefix, counted, before = prefix_of(path), Counter[int](), 0
        slots: list[Item] = []
        async for item in self._items():
            if (item["prefix"] or b"") != prefix:
                continue
            if item.path == path:
                found, before = item, counted[item["priority"]]
            if item.is_active:
                slots.append(item)
            else:
                counted[item["priority"]] += 1
        slots.sort(key=lambda slot: slot["claimed"] or 0)
        if found is None or found.is_active:
            return found, 0, slots
        mine = found["priority"]
        return found, before + sum(count for priority, count in counted.items() if priority > mine), slots

    async def _result(self, path: Path) -> dict[str, Any] | None:
        found: Row | None = None
        async for row in self._rows(SystemTable.RESULTS):
            if row[1] == path:
                found = row
        return None if found is None else _result(found)

    async def _waiting(self, path: Path) -> int:
        count = 0
        async for some in self._sources.store.waited_paths():
            count += some.count(path)
            await asyncio.sleep(0)
        return count

    async def _figures(self, prefix: Path) -> QueueFigures:
        async for some in self._sources.store.queue_figures(self._sources.now_ms()):
            for figures in some:
                if figures.prefix == prefix:
                    return figures
            await asyncio.sleep(0)
        return QueueFigures(prefix, 0, 0, None, None)

    def _whole(self, item: Item, ahead: int, figures: QueueFigures) -> dict[str, Any]:
        row = self._json(item, None if item.is_active else ahead + 1, figures.stalled_after_ms)
        del row["preview"]
        payload = item["value"]
        return {**row, "payload": readable(payload), "raw": raw(payload), "extra": readable(item["extra"])}

    def _json(self, item: Item, place: int | None, stalled_after_ms: int | None) -> dict[str, Any]:
        """An item as the page gets it. At most two milliseconds, whatever its payload."""
        payload, beat_ms = item["value"], item["heartbeat"]
        shown = readable(payload)
        assert shown is not None
        is_stalled = (
            stalled_after_ms is not None
            and beat_ms is not None
            and item.is_active
            and beat_ms < self._sources.now_ms() - stalled_after_ms
        )
        return {
            "number": item["number"],
            "item": lists.encoded(item.path),
            "queue": lists.shown(item["prefix"]) or "",
            "queue_id": lists.encoded(item["prefix"] or b""),
            "key": lists.shown(item["id"]),
            "state": "active" if item.is_active else "pending",
            "place": place,
            "priority": item["priority"],
            "created_ms": item["created"],
            "claimed_ms": item["claimed"],
            "heartbeat_ms": beat_ms,
            "is_stalled": is_stalled,
            "orphaned_ms": item["orphaned"],
            "is_exclusive": item["exclusive"],
            "external_id": lists.shown(item["external_id"]),
            "request_id": lists.shown(request_id_of(*item.head_and_tail())),
            "added_by": _added_by(item, self._names),
            "claimed_by": _claimed_by(item, self._names),
            "payload_bytes": len(payload),
            "preview": shown["text"][:_PREVIEW],
        }

    async def _items(self) -> AsyncIterator[Item]:
        async for row in self._rows(SystemTable.QUEUE):
            yield Item(row)

    async def _rows(self, table: SystemTable) -> AsyncIterator[Row]:
        store = self._sources.store
        losses = store.losses
        async for rows in store.read_table(table):
            for row in rows:
                yield row
            await asyncio.sleep(0)
        await settle(store, losses)


def _starts(counted: Counter[int | None]) -> _Starts:
    """How many come before the first of each rank: active items first, then the highest priority."""
    starts: dict[int | None, int] = {_ACTIVE: 0}
    position = counted[_ACTIVE]
    for priority in sorted((rank for rank in counted if rank is not None), reverse=True):
        starts[priority] = position
        position += counted[priority]
    return _Starts(starts, position)


class _Starts(dict["int | None", int]):
    """A rank that came after the count is behind all others."""

    def __init__(self, starts: dict[int | None, int], last: int) -> None:
        super().__init__(starts)
        self._last = last

    def __missing__(self, rank: int | None) -> int:
        return self._last


def _result(row: Row) -> dict[str, Any]:
    """A row of system.queue_results. At most a millisecond, whatever its value."""
    id_, path, expire_ms, is_taken, value, external = row
    return {
        "number": id_,
        "item": lists.encoded(_bytes(path)),
        "key": lists.shown(key_of(_bytes(path))),
        "expire_ms": expire_ms,
        "is_taken": is_taken,
        "external_id": lists.shown(external),
        "value": readable(value),
    }


def _bytes(cell: object) -> bytes:
    assert isinstance(cell, bytes)
    return cell


def _added_by(item: Item, names: ClientNames) -> dict[str, str | None] | None:
    return lists.owner(item["process_id"], item["added_peer"], names)


def _claimed_by(item: Item, names: ClientNames) -> dict[str, str | None] | None:
    return lists.owner(item["claimed_by"], item["claimed_peer"], names)
