"""Figures that people look at: totals by queue and by cache prefix, how a queue stands, the rows of INFO."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields

from storage.vocabulary import Path, Row

# So many queues, and so many prefixes of the cache, have totals of their own; all others share one.
MAX_NAMED = 100

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


@dataclass(slots=True)
class QueueStats:
    """Totals of one queue since the start. `waited_ms` is the time between ADD and claim of all claimed items.

    An item ends by ACK, by expiry, or by a CANCEL: `stalled` and `orphaned` count the cancelled items that STALLED,
    ORPHANED or TO_CANCEL would have listed at that moment, `manual` all others.
    """

    added: int = 0
    claimed: int = 0
    waited_ms: int = 0
    acknowledged: int = 0
    expired: int = 0
    stalled: int = 0
    orphaned: int = 0
    manual: int = 0
    tables: int = 0  # how many live queues count here; not a total

    def absorb(self, other: QueueStats) -> None:
        """Add the totals of another queue."""
        for field in fields(self):
            if field.name != "tables":
                setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))


class QueueStatsTable:
    """Totals of queues by prefix. They outlive the queues, which come and go with their items.

    The first 100 queues get an entry of their own. A new queue may replace the entry of a queue that is empty; the
    replaced totals are added to `other`, so no total ever falls. Every operation is O(1).
    """

    __slots__ = ("_max_named", "_resting", "named", "other")

    def __init__(self, max_named: int = MAX_NAMED) -> None:
        self._max_named = max_named
        self.named: dict[Path, QueueStats] = {}
        self.other = QueueStats()
        self._resting: dict[Path, None] = {}  # named, without a live queue; longest ago first

    def acquire(self, prefix: Path) -> QueueStats:
        """The totals that a new queue adds to until it is released."""
        stats = self.named.get(prefix)
        if stats is None:
            if len(self.named) >= self._max_named and not self._forget_one():
                return self.other
            stats = self.named[prefix] = QueueStats()
        stats.tables += 1
        self._resting.pop(prefix, None)
        return stats

    def release(self, prefix: Path, stats: QueueStats) -> None:
        """A queue is dropped."""
        if stats is not self.other:
            stats.tables -= 1
            if not stats.tables:
                self._resting[prefix] = None

    def _forget_one(self) -> bool:
        oldest = next(iter(self._resting), None)
        if oldest is None:
            return False
        del self._resting[oldest]
        self.other.absorb(self.named.pop(oldest))
        return True


@dataclass(slots=True, frozen=True)
class QueueFigures:
    """How a queue stands now. Ages are in milliseconds, None where no item has one.

    `oldest_pending_ms` is exact if all items of the queue have the same ORPHANED, or none.
    """

    prefix: Path
    pending: int
    active: int
    oldest_pending_ms: int | None
    oldest_heartbeat_ms: int | None


@dataclass(slots=True)
class PrefixTotals:
    """How often CACHE GET found a live entry of a prefix, and how often none."""

    hits: int = 0
    misses: int = 0


class PrefixTotalsTable:
    """Totals of CACHE GET by prefix since the start: of the first 100 prefixes by name, of all others as `other`."""

    __slots__ = ("_max_named", "named", "other")

    def __init__(self, max_named: int = MAX_NAMED) -> None:
        self._max_named = max_named
        self.named: dict[bytes, PrefixTotals] = {}
        self.other = PrefixTotals()

    def of(self, prefix: bytes) -> PrefixTotals:
        """The totals that a prefix adds to. O(1)."""
        totals = self.named.get(prefix)
        if totals is not None:
            return totals
        if len(self.named) >= self._max_named:
            return self.other
        totals = self.named[prefix] = PrefixTotals()
        return totals

    @property
    def hits(self) -> int:
        """Of all prefixes. O(named)."""
        return self.other.hits + sum(totals.hits for totals in self.named.values())

    @property
    def misses(self) -> int:
        """Of all prefixes. O(named)."""
        return self.other.misses + sum(totals.misses for totals in self.named.values())


def info_rows(
    table: str, keys: int, size_bytes: int, row_sizes: Collection[int], expired_sizes: Collection[int] = ()
) -> list[Row]:
    """The rows (name, value, description) of SYS CACHESTORE INFO for a table, e.g. `CacheItems` (commands.md §6).

    Expired rows are due but not yet removed. O(sizes).
    """
    figures = (
        ("keys_total", keys),
        ("size_total", size_bytes),
        ("expired_keys_total", len(expired_sizes)),
        ("expired_size_total", sum(expired_sizes)),
        ("min_row_size", min(row_sizes, default=0)),
        ("max_row_size", max(row_sizes, default=0)),
        ("avg_row_size", size_bytes // keys if keys else 0),
    )
    return [(f"{table}.{name}".encode(), b"%d" % value, None) for name, value in figures]


def human_size(size_bytes: int) -> str:
    """A size in decimal units as CubeStore prints it: 2 digits unless the number is whole, `2.10 MB`, `64 MB`."""
    unit = 0
    scale = 1
    while size_bytes >= scale * 1000 and unit < len(_UNITS) - 1:
        scale *= 1000
        unit += 1
    digits = 2 if size_bytes % scale else 0
    return f"{size_bytes / scale:.{digits}f} {_UNITS[unit]}"
