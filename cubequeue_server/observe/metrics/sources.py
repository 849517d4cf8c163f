"""What metrics are made of: everything that counts, at hand for one reading."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from cubequeue_server.observe.counters import Counters, Histogram
from cubequeue_server.observe.logs import dropped_lines
from storage.engine import Store
from storage.queue.stats import QueueFigures, QueueStats
from storage.vocabulary import Path

# So many queues are named, those with the most items; all others are summed.
MAX_DEEPEST_QUEUES: Final = 100

OTHER: Final = "other"

_MAX_LABEL: Final = 200


@dataclass(slots=True, frozen=True)
class Sources:
    """Where the numbers are; they are read on the loop."""

    store: Store
    counters: Counters
    loop_lags: Histogram
    in_flight: Callable[[], int]
    now_ms: Callable[[], int]
    log_lines_dropped: Callable[[], int] = dropped_lines

    async def queues(self) -> list[tuple[str, QueueFigures]]:
        """How the deepest queues stand, by their label, and all others as one. In slices, so that others get turns."""
        deepest = Deepest(MAX_DEEPEST_QUEUES)
        async for part in self.store.queue_figures(self.now_ms()):
            deepest.add(part)
            await asyncio.sleep(0)
        return deepest.labelled()

    async def queue_totals(self) -> Mapping[str, QueueStats]:
        """What happened in each queue that has a name, and in all others. O(names)."""
        stats = await self.store.queue_stats()
        return {**{label(prefix): each for prefix, each in stats.named.items()}, OTHER: stats.other}


class Deepest:
    """The queues with the most items out of any number, and the sum of all others."""

    def __init__(self, max_queues: int) -> None:
        self._max_queues = max_queues
        self._named: list[QueueFigures] = []
        self._rest: QueueFigures | None = None

    def add(self, queues: list[QueueFigures]) -> None:
        """Take in some more. O(n log n) of these and the named ones."""
        ranked = sorted([*self._named, *queues], key=_depth, reverse=True)
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
        """The deepest first, and the others as one if there are any."""
        named = [(label(queue.prefix), queue) for queue in self._named]
        return named if self._rest is None else [*named, (OTHER, self._rest)]


def _depth(queue: QueueFigures) -> int:
    return queue.pending + queue.active


def _oldest(ages_ms: Iterable[int | None]) -> int | None:
    return max((age_ms for age_ms in ages_ms if age_ms is not None), default=None)


def label(prefix: Path) -> str:
    """A prefix as a label: at most 200 characters, and one that is `other` itself is told apart from the rest."""
    text = prefix.decode(errors="replace")
    if len(text) > _MAX_LABEL:
        # What follows the cut would make two queues one: a checksum keeps them apart.
        text = f"{text[: _MAX_LABEL - 20]}…{zlib.crc32(prefix):08x}"
    return f"{text}:" if text == OTHER else text
