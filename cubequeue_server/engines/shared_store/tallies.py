"""What this server has done in each queue since its start (`storage.stats`)."""

from __future__ import annotations

from typing import Final

from cubequeue_server.engines.shared_store.rows import ItemRow
from storage.stats import QueueStats, QueueStatsTable
from storage.vocabulary import Path

_MAX_PREFIXES: Final = 1_000


class Tallies:
    """Counts by prefix, and the timeouts that were last asked for, which say why an item is cancelled."""

    def __init__(self) -> None:
        self.table = QueueStatsTable()
        self._stalled_ms: dict[Path, int] = {}
        self._orphaned_ms: dict[Path, int] = {}

    def of(self, prefix: Path) -> QueueStats:
        """Where a queue counts. Nobody here knows which queues live, so names go to those that were used last."""
        stats = self.table.acquire(prefix)
        self.table.release(prefix, stats)
        return stats

    def claimed(self, prefix: Path, waited_ms: int) -> None:
        """An item was claimed that had waited for so long."""
        stats = self.of(prefix)
        stats.claimed += 1
        stats.waits[max(waited_ms.bit_length(), 1)] += 1
        stats.waits[0] += waited_ms

    def asked_for(self, prefix: Path, stalled_ms: int | None, orphaned_ms: int | None) -> None:
        """STALLED, ORPHANED or TO_CANCEL named these timeouts."""
        for timeouts, timeout_ms in ((self._stalled_ms, stalled_ms), (self._orphaned_ms, orphaned_ms)):
            if timeout_ms is not None:
                if len(timeouts) >= _MAX_PREFIXES and prefix not in timeouts:
                    timeouts.clear()
                timeouts[prefix] = timeout_ms

    def cancelled(self, item: ItemRow, now_ms: int) -> None:
        """Count a CANCEL by its reason, as `storage.queue.statements` does."""
        stats = self.of(item.prefix)
        stalled_ms, orphaned_ms = self._stalled_ms.get(item.prefix), self._orphaned_ms.get(item.prefix)
        if item.is_active:
            beat_ms = item.heartbeat_ms or item.created_ms
            is_stalled = stalled_ms is not None and beat_ms < now_ms - stalled_ms
            if is_stalled:
                stats.stalled += 1
            else:
                stats.manual += 1
        elif orphaned_ms is not None and (
            item.created_ms < now_ms - orphaned_ms if item.orphaned_ms is None else item.orphaned_ms < now_ms
        ):
            stats.orphaned += 1
        else:
            stats.manual += 1
