"""The history of ended items for people: filtered, sorted, with the distribution of its durations."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final

from cubequeue_server.client_names import ClientNames
from cubequeue_server.net.http_head import Head
from cubequeue_server.observe.console import lists
from cubequeue_server.observe.console.payloads import path_of, readable
from cubequeue_server.observe.metrics.sources import Sources
from cubequeue_server.requests.ask import settle
from storage.system_tables import SYSTEM_COLUMNS, SystemTable
from storage.vocabulary import Path, Row

OUTCOMES: Final = ("acknowledged", "error", "cancelled", "stalled", "orphaned", "expired")
BOUNDS_MS: Final = tuple(1 << bits for bits in range(25))  # 1 ms to 4.7 h

_COLUMNS: Final = SYSTEM_COLUMNS[SystemTable.HISTORY].names
_PREVIEW: Final = 300  # characters
_OF_A_PATH: Final = 5
# Where a text is looked for, beside the names of owners.
_SEARCHED: Final = tuple(
    _COLUMNS.index(name)
    for name in (
        "id", "prefix", "request_id", "external_id", "added_by", "added_peer", "claimed_by", "claimed_peer", "ended_by",
        "ended_peer", "ended_user", "error", "value", "value_tail",
    )
)  # fmt: skip


@dataclass(slots=True, frozen=True)
class Entry:
    """A row of `system.history` by the names of its columns."""

    row: Row

    def __getitem__(self, name: str) -> Any:
        return self.row[_AT[name]]

    @property
    def total_ms(self) -> int:
        """From ADD to the end."""
        ms: int = self["wait_ms"] + (self["run_ms"] or 0)
        return ms


_AT: Final = {name: at for at, name in enumerate(_COLUMNS)}


@dataclass(slots=True, frozen=True)
class _Filter:
    """What a request asks for. Raises BadRequestError when it is made of one that cannot be understood."""

    prefix: bytes | None
    outcomes: frozenset[bytes]
    by: str
    min_ms: int | None
    max_ms: int | None
    since_ms: int | None
    until_ms: int | None
    text: str
    number: int | None

    @classmethod
    def of(cls, request: Head) -> _Filter:
        outcomes = [each for each in request.parameters.get("outcome", "").split(",") if each]
        for outcome in outcomes:
            if outcome not in OUTCOMES:
                raise lists.BadRequestError(f"outcome is none of {', '.join(OUTCOMES)}")
        return cls(
            lists.path_of(request, "queue"),
            frozenset(each.encode() for each in outcomes),
            lists.choice(request, "by", ("total", "run", "wait"), "total"),
            lists.number(request, "min_ms"),
            lists.number(request, "max_ms"),
            lists.number(request, "since_ms"),
            lists.number(request, "until_ms"),
            lists.wanted_text(request, "text"),
            lists.number(request, "number"),
        )

    def duration_of(self, entry: Entry) -> int | None:
        if self.by == "total":
            return entry.total_ms
        ms: int | None = entry[f"{self.by}_ms"]
        return ms

    def admits(self, entry: Entry, names: ClientNames) -> bool:
        """Whether an entry is asked for. 1 µs, and 10 µs with a text."""
        if self.number is not None and entry["number"] != self.number:
            return False
        if self.prefix is not None and (entry["prefix"] or b"") != self.prefix:
            return False
        if self.outcomes and entry["outcome"] not in self.outcomes:
            return False
        if not _within(entry["ended"], self.since_ms, self.until_ms):
            return False
        if (self.min_ms is not None or self.max_ms is not None) and not _within(
            self.duration_of(entry), self.min_ms, self.max_ms
        ):
            return False
        return not self.text or self._has_text(entry, names)

    def _has_text(self, entry: Entry, names: ClientNames) -> bool:
        wanted = self.text.encode(errors="replace")
        if any(isinstance(cell := entry.row[at], bytes) and wanted in cell.lower() for at in _SEARCHED):
            return True
        owners = (_owner(entry, who, names) for who in ("added", "claimed", "ended"))
        return any(owner is not None and self.text in (owner["name"] or "").lower() for owner in owners)


def _within(value: int | None, least: int | None, most: int | None) -> bool:
    if value is None:
        return False
    return (least is None or value >= least) and (most is None or value <= most)


def _owner(entry: Entry, who: str, names: ClientNames) -> dict[str, str | None] | None:
    """Who added, claimed or ended it; None for nobody."""
    return lists.owner(entry[f"{who}_by"], entry[f"{who}_peer"], names, entry["ended_user"] if who == "ended" else None)


def _json(entry: Entry, names: ClientNames, *, is_whole: bool) -> dict[str, Any]:
    """An entry as the page gets it; at most a millisecond."""
    payload = readable(_payload(entry))
    assert payload is not None
    payload["bytes"] = entry["payload_bytes"]
    payload["is_cut"] = payload["is_cut"] or entry["value_tail"] is not None
    return {
        "number": entry["number"],
        "item": lists.encoded(path_of(entry["prefix"], entry["id"])),
        "queue": lists.shown(entry["prefix"]) or "",
        "queue_id": lists.encoded(entry["prefix"] or b""),
        "key": lists.shown(entry["id"]),
        "priority": entry["priority"],
        "external_id": lists.shown(entry["external_id"]),
        "created_ms": entry["created"],
        "claimed_ms": entry["claimed"],
        "ended_ms": entry["ended"],
        "wait_ms": entry["wait_ms"],
        "run_ms": entry["run_ms"],
        "outcome": entry["outcome"].decode(),
        **{f"{who}_by": _owner(entry, who, names) for who in ("added", "claimed", "ended")},
        "result_bytes": entry["result_bytes"],
        "error": None if entry["error"] is None else entry["error"].decode(errors="replace"),
        "request_id": lists.shown(entry["request_id"]),
        "payload_bytes": entry["payload_bytes"],
        **({"payload": payload} if is_whole else {"preview": payload["text"][:_PREVIEW]}),
    }


def _payload(entry: Entry) -> bytes:
    """The payload, with a mark where its middle is missing."""
    head: bytes = entry["value"]
    tail: bytes | None = entry["value_tail"]
    return head if tail is None else head + " … ".encode() + tail


class History:
    """Reads the history of the sources."""

    def __init__(self, sources: Sources, names: ClientNames) -> None:
        self._sources = sources
        self._names = names

    async def listed(self, request: Head) -> dict[str, Any]:
        """The answer to `/api/history`. O(entries), 10 µs each, in slices."""
        asked = _Filter.of(request)
        sort = lists.choice(request, "sort", ("slowest", "newest"), "slowest")
        found: list[tuple[int, int, Entry]] = []
        distribution = {"wait": [0] * len(BOUNDS_MS), "run": [0] * len(BOUNDS_MS)}
        kept, since_ms = 0, None
        async for entry in self._entries():
            kept += 1
            since_ms = entry["ended"] if since_ms is None else since_ms
            if not asked.admits(entry, self._names):
                continue
            for name, counted in distribution.items():
                _count(counted, entry[f"{name}_ms"])
            ms = asked.duration_of(entry)
            key = entry["ended"] if sort == "newest" else -1 if ms is None else ms
            found.append((key, entry["number"], entry))
        found.sort(key=itemgetter(0, 1), reverse=True)
        part, place = lists.page(request, found)
        rows = []
        for _, _, entry in part:
            rows.append(_json(entry, self._names, is_whole=asked.number is not None))
            await asyncio.sleep(0)
        return {
            "rows": rows,
            **place,
            "distribution": {"bounds_ms": BOUNDS_MS, **distribution},
            "kept": kept,
            "since_ms": since_ms,
        }

    async def of_path(self, path: Path) -> list[dict[str, Any]]:
        """The last ends of items with this path, the newest first. O(entries), in slices."""
        found: deque[Entry] = deque(maxlen=_OF_A_PATH)
        async for entry in self._entries():
            if path_of(entry["prefix"], entry["id"]) == path:
                found.append(entry)
        return [_json(entry, self._names, is_whole=True) for entry in reversed(found)]

    async def _entries(self) -> AsyncIterator[Entry]:
        store = self._sources.store
        losses = store.losses
        async for rows in store.read_table(SystemTable.HISTORY):
            for row in rows:
                yield Entry(row)
            await asyncio.sleep(0)
        await settle(store, losses)


def _count(counted: list[int], ms: int | None) -> None:
    """Count a duration below the first bound that it is below; the last one also counts all that are longer."""
    if ms is not None:
        counted[min(ms.bit_length(), len(counted) - 1)] += 1
