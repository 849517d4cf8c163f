"""What is wrong, in words and with links: the first thing that people look for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from operator import itemgetter
from typing import Any, Final
from urllib.parse import quote

from cubequeue_server.client_names import ClientNames
from cubequeue_server.engines.upstream.counters import UpstreamCounters
from cubequeue_server.observe.console import lists
from cubequeue_server.observe.console.clients import Clients
from cubequeue_server.observe.console.queues import Queues, QueueView
from cubequeue_server.observe.limits import Limit, Limits
from cubequeue_server.observe.metrics.sources import Sources
from storage.minutes import percentile
from storage.system_tables import SYSTEM_COLUMNS, SystemTable

CRITICAL: Final = "critical"
WARNING: Final = "warning"

_FRESH_S: Final = 1.0  # however many people look, it is put together once a second
_NEAR, _VERY_NEAR = 0.8, 0.95
_LATE_MS: Final = 1_000  # no queue is late before
_USUAL_WAITS: Final = 20  # so many make a percentile
_RECENT_S: Final = 300.0  # an error of a client is shown for so long
_MAX_OF_A_KIND: Final = 5
_QUEUE_AT: Final = {name: at for at, name in enumerate(SYSTEM_COLUMNS[SystemTable.QUEUE].names)}


@dataclass(slots=True, frozen=True)
class Trouble:
    """One thing that is wrong; `link` is an address of the page."""

    kind: str
    severity: str
    text: str
    link: str


class Attention:
    """Finds out what is wrong."""

    def __init__(self, sources: Sources, queues: Queues, clients: Clients, limits: Limits, names: ClientNames) -> None:
        self._sources = sources
        self._queues = queues
        self._clients = clients
        self._limits = limits
        self._names = names
        self._errors: dict[int, tuple[int, float]] = {}  # of each connection: their number, and when it last rose
        self._turn = asyncio.Lock()
        self._found: list[dict[str, str]] = []
        self._found_s = -_FRESH_S

    async def find(self, refusal: str | None) -> list[dict[str, str]]:
        """All that is wrong, the worst first; `refusal` says why writes are refused. At most a second old."""
        async with self._turn:
            if time.monotonic() - self._found_s >= _FRESH_S:
                troubles = [*_refused(refusal), *(await self._of_queues())]
                troubles += _away(self._sources.upstream)
                troubles += _near(await self._limits.measure())
                troubles += self._of_clients(await self._clients.rows())
                troubles.sort(key=lambda trouble: trouble.severity != CRITICAL)
                self._found = [asdict(trouble) for trouble in troubles]
                self._found_s = time.monotonic()
            return self._found

    async def _of_queues(self) -> list[Trouble]:
        views = await self._queues.views()
        stalled = [view for view in views if view.figures.stalled]
        stalled.sort(key=lambda view: -view.figures.stalled)
        owners = await self._owners_of_stalled(stalled[:_MAX_OF_A_KIND]) if stalled else {}
        troubles = [_stalled(view, owners.get(view.prefix, [])) for view in stalled[:_MAX_OF_A_KIND]]
        late = sorted((each for each in map(_late, views) if each is not None), key=itemgetter(0), reverse=True)
        return troubles + [trouble for _, trouble in late[:_MAX_OF_A_KIND]]

    async def _owners_of_stalled(self, views: Sequence[QueueView]) -> dict[bytes, list[str]]:
        """The owners of the items with the oldest heartbeats of each queue. O(items), in slices."""
        wanted = {view.prefix: view.figures.stalled for view in views}
        beats: dict[bytes, list[tuple[int, str]]] = {prefix: [] for prefix in wanted}
        async for rows in self._sources.store.read_table(SystemTable.QUEUE):
            for row in rows:
                prefix = row[_QUEUE_AT["prefix"]] or b""
                if prefix in wanted and row[_QUEUE_AT["status"]] == b"Active":
                    assert isinstance(prefix, bytes)
                    process_id, peer = row[_QUEUE_AT["claimed_by"]], row[_QUEUE_AT["claimed_peer"]]
                    beats[prefix].append((_number(row[_QUEUE_AT["heartbeat"]]), self._called(process_id, peer)))
            await asyncio.sleep(0)
        return {
            prefix: list(dict.fromkeys(owner for _, owner in sorted(found)[: wanted[prefix]]))
            for prefix, found in beats.items()
        }

    def _called(self, process_id: object, peer: object) -> str:
        process = process_id if isinstance(process_id, bytes) else None
        address = peer.decode(errors="replace") if isinstance(peer, bytes) else ""
        return self._names.name_of(process, address) or lists.shown(process) or address or "nobody known"

    def _of_clients(self, rows: Sequence[dict[str, Any]]) -> list[Trouble]:
        now_s = time.monotonic()
        errors: dict[int, tuple[int, float]] = {}
        recent: list[dict[str, Any]] = []
        for row in rows:
            if not row["errors"]:
                continue
            before, rose_s = self._errors.get(row["number"], (0, now_s))
            errors[row["number"]] = row["errors"], rose_s if row["errors"] == before else now_s
            if now_s - errors[row["number"]][1] < _RECENT_S:
                recent.append(row)
        self._errors = errors
        recent.sort(key=lambda row: -row["errors"])
        return [_errs(row) for row in recent[:_MAX_OF_A_KIND]]


def _number(cell: object) -> int:
    return cell if isinstance(cell, int) else 0


def _refused(refusal: str | None) -> Iterator[Trouble]:
    if refusal is not None:
        yield Trouble("refused", CRITICAL, f"Writes are {refusal}", "#/queues")


def _away(upstream: UpstreamCounters | None) -> Iterator[Trouble]:
    if upstream is not None and not upstream.is_up:
        waiting = upstream.waiting
        wait = "1 statement waits" if waiting == 1 else f"{waiting} statements wait"
        text = f"The CubeStore of CUBEQUEUE_UPSTREAM cannot be reached, {wait} for it"
        yield Trouble("upstream", CRITICAL, text, "#/clients")


def _stalled(view: QueueView, owners: list[str]) -> Trouble:
    count = view.figures.stalled
    items = "1 item has" if count == 1 else f"{count} items have"
    of = f", claimed by {', '.join(owners[:3])}{' and others' if len(owners) > 3 else ''}" if owners else ""
    return Trouble("stalled", CRITICAL, f"{items} no heartbeat in {view.name}{of}", _queue_link(view))


def _late(view: QueueView) -> tuple[float, Trouble] | None:
    """The trouble of a queue whose oldest item waits for longer than usual, and how much longer."""
    oldest_ms = view.figures.oldest_pending_ms
    if oldest_ms is None or oldest_ms < _LATE_MS or view.stats is None:
        return None
    waits, _ = view.stats.minutes.recent(view.stats.totals)
    usual_ms = percentile(waits, 0.95)
    if usual_ms is None or sum(waits[1:]) < _USUAL_WAITS or oldest_ms <= usual_ms:
        return None
    text = f"The oldest item of {view.name} waits for {duration(oldest_ms)}; 95 % waited less than {duration(usual_ms)}"
    return oldest_ms / max(1, usual_ms), Trouble("late", WARNING, text, _queue_link(view))


def _near(limits: Sequence[Limit]) -> Iterator[Trouble]:
    for limit in limits:
        if limit.share < _NEAR or limit.name in {"cache_bytes", "cache_keys"}:  # a full cache evicts: that is its job
            continue
        severity = CRITICAL if limit.share >= _VERY_NEAR else WARNING
        share = f"{limit.share:.0%}"
        if limit.name == "disk_bytes":
            yield Trouble("disk", severity, f"The disk of the data directory is {share} full", "#/queues")
        else:
            name = limit.name.replace("_", " ")
            text = f"{share} of {name} are used: {limit.used} of {limit.limit} ({limit.setting})"
            yield Trouble("limit", severity, text, "#/clients" if limit.name == "connections" else "#/queues")


def _errs(row: dict[str, Any]) -> Trouble:
    who = row["name"] or row["process_id"] or row["peer"]
    errors = "1 error" if row["errors"] == 1 else f"{row['errors']} errors"
    text = f"{who} got {errors}, the latest: {row['last_error']}"
    return Trouble("errors", WARNING, text, f"#/clients?search={quote(row['peer'])}")


def _queue_link(view: QueueView) -> str:
    return f"#/queue/{lists.encoded(view.prefix) or ''}"


def duration(ms: int) -> str:
    """A duration for people, in one or two units."""
    if ms < 1_000:
        return f"{ms} ms"
    seconds = ms // 1_000
    if seconds < 60:
        return f"{ms / 1_000:.1f} s"
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
