"""Figures that people look at: totals by queue and by cache prefix, how a queue stands, the rows of INFO."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TypeAlias

from storage.minutes import KEPT_MINUTES, Durations, Minute, Minutes, Totals, no_durations
from storage.vocabulary import Path, Row

# So many queues, and so many prefixes of the cache, have totals of their own; all others share one.
MAX_NAMED = 100

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


@dataclass(slots=True)
class QueueStats:
    """Totals of one queue since the start.

    `waits` are the times from ADD to claim of all claimed items, `runs` those from claim to ACK. An item ends by ACK,
    by expiry, or by a CANCEL: `errors` counts the ACKs with an error of Cube, `acknowledged` all others; `stalled` and
    `orphaned` count the cancelled items that STALLED, ORPHANED or TO_CANCEL would have listed at that moment, `manual`
    all others.
    """

    added: int = 0
    claimed: int = 0
    acknowledged: int = 0
    errors: int = 0
    expired: int = 0
    stalled: int = 0
    orphaned: int = 0
    manual: int = 0
    waits: Durations = field(default_factory=no_durations)
    runs: Durations = field(default_factory=no_durations)
    tables: int = 0  # how many live queues count here; not a total
    minutes: Minutes = field(default_factory=Minutes, compare=False)

    @property
    def totals(self) -> Totals:
        """Those that minutes are made of. The histograms are the ones that go on counting."""
        return Totals(self.added, self.claimed, self.ended, self.failed, self.waits, self.runs)

    @property
    def failed(self) -> int:
        """Items that ended otherwise than by an ACK without an error."""
        return self.errors + self.expired + self.stalled + self.orphaned + self.manual

    @property
    def ended(self) -> int:
        """Items that ended."""
        return self.acknowledged + self.failed

    def absorb(self, other: QueueStats) -> None:
        """Add the totals of another queue."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.waits = [mine + theirs for mine, theirs in zip(self.waits, other.waits, strict=True)]
        self.runs = [mine + theirs for mine, theirs in zip(self.runs, other.runs, strict=True)]
        self.minutes.absorb(other.minutes)

    def take_over(self, earlier: QueueStats) -> None:
        """Count on from earlier totals."""
        for name in _COUNTS:
            setattr(self, name, getattr(earlier, name))
        self.waits, self.runs, self.minutes = earlier.waits, earlier.runs, earlier.minutes


_COUNTS = ("added", "claimed", "acknowledged", "errors", "expired", "stalled", "orphaned", "manual")

# The minute of each queue in which anything happened; None is for all queues without an entry of their own.
MinuteRows: TypeAlias = list[tuple[Path | None, Minute]]


class QueueStatsTable:
    """Totals of queues by prefix. They outlive the queues, which come and go with their items.

    The first 100 queues get an entry of their own. A new queue may replace the entry of a queue that is empty; the
    replaced totals are added to `other`, so no total ever falls. Every operation on one queue is O(1).
    """

    __slots__ = ("_max_named", "_minute", "_resting", "named", "other")

    def __init__(self, max_named: int = MAX_NAMED) -> None:
        self._max_named = max_named
        self._minute = 0  # the one that runs
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

    # Minutes.

    def end_minute(self, minute: int, depth_of: Callable[[Path | None], tuple[int, int]]) -> MinuteRows:
        """Begin a minute, unless it runs; returns the rows of the one before. O(named): 20 µs each that was in use.

        `depth_of` gives the pending and active items of a queue, and of all queues with None. A clock that steps back
        ends no minute: the one before goes on under another name.
        """
        ended, self._minute = self._minute, minute
        if minute <= ended or not ended:
            return []
        rows: MinuteRows = []
        pending, active = depth_of(None)
        for prefix, stats in self.named.items():
            depth = depth_of(prefix)
            pending, active = pending - depth[0], active - depth[1]
            row = stats.minutes.close(ended, stats.totals, *depth)
            if row is not None:
                rows.append((prefix, row))
            stats.minutes.drop_before(minute - KEPT_MINUTES)
        row = self.other.minutes.close(ended, self.other.totals, pending, active)
        if row is not None:
            rows.append((None, row))
        self.other.minutes.drop_before(minute - KEPT_MINUTES)
        return rows

    def restore_minutes(self, rows: MinuteRows) -> None:
        """Add the rows of one minute as they were before. Rows of queues that have no entry any more are left out."""
        for prefix, row in rows:
            if prefix is None:
                self.other.minutes.restore(row)
                continue
            stats = self.acquire(prefix)
            if stats is not self.other:
                stats.minutes.restore(row)
            self.release(prefix, stats)

    def take_over(self, earlier: QueueStatsTable) -> None:
        """Count on from an earlier table, whose queues are gone."""
        self._minute = earlier._minute
        self.other.take_over(earlier.other)
        for prefix, stats in earlier.named.items():
            mine = self.acquire(prefix)
            if mine is self.other:
                mine.absorb(stats)
            else:
                mine.take_over(stats)
            self.release(prefix, mine)


@dataclass(slots=True, frozen=True)
class QueueFigures:
    """How a queue stands now. Ages are in milliseconds, None where no item has one.

    `oldest_pending_ms` is exact if all items of the queue have the same ORPHANED, or none. `stalled` counts the items
    that STALLED would list with the timeout that was last asked for; `concurrency` is the one of the last RETRIEVE and
    `stalled_after_ms` that timeout.
    """

    prefix: Path
    pending: int
    active: int
    oldest_pending_ms: int | None
    oldest_heartbeat_ms: int | None
    stalled: int = 0
    concurrency: int | None = None
    stalled_after_ms: int | None = None


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
