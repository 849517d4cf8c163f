"""What the metrics and the live page read: the counters of the server and the figures of the store."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Final

from cubequeue_server.engines.upstream.counters import UpstreamCounters
from cubequeue_server.observe.counters import Counters, Histogram
from cubequeue_server.observe.logs import dropped_lines
from storage.engine import Store
from storage.stats import QueueFigures, QueueStats
from storage.vocabulary import Path

MAX_DEEPEST_QUEUES: Final = 100  # named queues, those with the most items; all others are summed
OTHER: Final = "other"

_NUMBERS: Final = [each.name for each in fields(Counters) if each.name not in {"durations", "waits"}]
_OF_UPSTREAM: Final = [each.name for each in fields(UpstreamCounters) if each.name not in {"seconds", "version"}]
_MAX_LABEL: Final = 200


@dataclass(slots=True, frozen=True)
class Sources:
    """Where the numbers are. To be read on the loop. `upstream` is None without an upstream CubeStore."""

    store: Store
    counters: Counters
    loop_lags: Histogram
    in_flight: Callable[[], int]
    now_ms: Callable[[], int]
    upstream: UpstreamCounters | None = None

    def values(self) -> dict[str, float]:
        """Every simple number by name: fields of both counters, gauges of the store, and four more. O(1)."""
        upstream = self.upstream
        return {
            **{name: getattr(self.counters, name) for name in _NUMBERS},
            "in_flight": self.in_flight(),
            "log_lines_dropped": dropped_lines(),
            "journal_lag": 0,  # of a store without a journal
            **({} if upstream is None else {f"upstream_{name}": getattr(upstream, name) for name in _OF_UPSTREAM}),
            **(gauges := self.store.gauges()),
            "journal_lag_s": gauges.get("journal_lag_ms", 0) / 1000,
        }

    async def queues(self) -> list[tuple[str, QueueFigures]]:
        """The figures of the deepest queues by label, and the sum of all others. O(queues), in slices."""
        deepest = Deepest(MAX_DEEPEST_QUEUES)
        async for part in self.store.queue_figures(self.now_ms()):
            deepest.add(part)
            await asyncio.sleep(0)
        return deepest.labelled()

    async def queue_totals(self) -> Mapping[str, QueueStats]:
        """The totals of each queue that has its own, and of all others, by label. O(named queues)."""
        stats = await self.store.queue_stats()
        return {**{label(prefix): each for prefix, each in stats.named.items()}, OTHER: stats.other}


class Deepest:
    """The queues with the most items out of any number, and the sum of all others."""

    def __init__(self, max_queues: int) -> None:
        self._max_queues = max_queues
        self._named: list[QueueFigures] = []
        self._rest: QueueFigures | None = None

    def add(self, queues: list[QueueFigures]) -> None:
        """Add some more. O(n log n) of these and the named ones."""
        ranked = sorted([*self._named, *queues], key=lambda queue: queue.pending + queue.active, reverse=True)
        self._named, rest = ranked[: self._max_queues], ranked[self._max_queues :]
        if self._rest is not None:
            rest.append(self._rest)
        if rest:
            self._rest = QueueFigures(
                b"",
                sum(queue.pending for queue in rest),
                sum(queue.active for queue in rest),
                _oldest(queue.oldest_pending_ms for queue in rest),
                _oldest(queue.oldest_heartbeat_ms for queue in rest),
            )

    def labelled(self) -> list[tuple[str, QueueFigures]]:
        """The deepest first, then the sum of the others if there are any."""
        named = [(label(queue.prefix), queue) for queue in self._named]
        return named if self._rest is None else [*named, (OTHER, self._rest)]


def _oldest(ages_ms: Iterable[int | None]) -> int | None:
    return max((age_ms for age_ms in ages_ms if age_ms is not None), default=None)


def label(prefix: Path) -> str:
    """A prefix as a label of at most 200 characters. The prefix `other` is `other:`, to differ from the sum."""
    text = prefix.decode(errors="replace")
    if len(text) > _MAX_LABEL:
        # A checksum keeps queues apart that differ only behind the cut.
        text = f"{text[: _MAX_LABEL - 20]}…{zlib.crc32(prefix):08x}"
    return f"{text}:" if text == OTHER else text
