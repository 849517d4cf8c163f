"""What has happened in each queue since the start: plain numbers that the metrics export."""

from __future__ import annotations

from dataclasses import dataclass, fields

from storage.vocabulary import Path

# So many queues have numbers of their own; those of all others are summed.
MAX_NAMED_QUEUES = 100


@dataclass(slots=True)
class QueueStats:
    """Totals of one queue. `waited_ms` is what claimed items had waited between ADD and claim.

    Items end by `acknowledged`, by expiry, or by a CANCEL: `stalled` and `orphaned` count the cancelled ones that
    STALLED, ORPHANED or TO_CANCEL would have named just then, `manual` all others.
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


@dataclass(slots=True, frozen=True)
class QueueFigures:
    """How a queue stands now. Ages are in milliseconds, None when there is nothing that could have one.

    `oldest_pending_ms` is exact where all items of the queue have the same ORPHANED, or none.
    """

    prefix: Path
    pending: int
    active: int
    oldest_pending_ms: int | None
    oldest_heartbeat_ms: int | None


class QueueStatsTable:
    """The numbers by prefix. They outlive the queues, which come and go with their items.

    Names are given in the order in which queues come, and one that is empty loses its name to a newcomer when there
    are too many: its totals join `other`. No total ever falls. Every operation is O(1).
    """

    __slots__ = ("_max_named", "_resting", "named", "other")

    def __init__(self, max_named: int = MAX_NAMED_QUEUES) -> None:
        self._max_named = max_named
        self.named: dict[Path, QueueStats] = {}
        self.other = QueueStats()
        self._resting: dict[Path, None] = {}  # named, without a live queue; longest ago first

    def acquire(self, prefix: Path) -> QueueStats:
        """Where a new queue counts from now on, until it is released."""
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
