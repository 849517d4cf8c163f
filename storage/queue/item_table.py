"""All queue items: by id, by path and by prefix, with their size and their expiry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import TypeAlias

from storage.asking import Caller
from storage.limits import LARGE_TEXT_BYTES, QueueLimits
from storage.queue.history import EXPIRED, History
from storage.queue.indexes import NEVER_MS, TimeIndex
from storage.queue.items import Item, PrefixQueue, expiry_ms
from storage.reclaim import Reclaimer
from storage.recorder import Recorder
from storage.stats import QueueStatsTable, info_rows
from storage.vocabulary import KeyRef, Path, Row, Value

# Called with the id of an item with a large payload that has gone; with None after CLEAR, for all of them.
OnLargeGone: TypeAlias = Callable[[int | None], None]


class ItemTable:
    """Every item is in `by_id`, in `by_path`, and in the queue of its prefix.

    All changes of items go through `insert`, `claim`, `beat`, `set_extra` and `remove`, one row put or deleted
    each. No statement may meet an item that has expired, so `expire` runs ahead of it once `due_ms` has come.
    """

    __slots__ = (
        "_history",
        "_idle",
        "_limits",
        "_on_large_gone",
        "_queues_made",
        "_recorder",
        "_schedule",
        "_stats",
        "active_count",
        "by_id",
        "by_path",
        "due_ms",
        "queues",
        "size_bytes",
    )

    def __init__(
        self,
        limits: QueueLimits,
        recorder: Recorder | None,
        stats: QueueStatsTable,
        history: History,
        on_large_gone: OnLargeGone,
    ) -> None:
        self._limits = limits
        self._history = history
        self._on_large_gone = on_large_gone
        self._recorder = recorder
        self._stats = stats
        self.by_id: dict[int, Item] = {}
        self.by_path: dict[Path, Item] = {}
        self.queues: dict[Path, PrefixQueue] = {}
        self.size_bytes = 0  # payloads and extras
        self.active_count = 0
        self.due_ms = NEVER_MS  # no item expires earlier
        self._schedule: TimeIndex[PrefixQueue] = TimeIndex(attrgetter("due_ms"))  # queues that have a due_ms
        self._idle: list[PrefixQueue] = []
        self._queues_made = 0

    def __len__(self) -> int:
        return len(self.by_id)

    # Readings.

    def find(self, key: KeyRef) -> Item | None:
        """The item with this id or path. O(1)."""
        return self.by_path.get(key) if isinstance(key, bytes) else self.by_id.get(key)

    def depths(self) -> Iterator[tuple[Path, int, int]]:
        """Prefix, pending and active items of each queue. O(queues)."""
        return ((queue.prefix, queue.pending_count, queue.active_count) for queue in self.queues.values())

    # Changes of rows.

    def insert(self, item: Item) -> None:
        """Put a new, pending item. O(1); O(log n) with ORPHANED."""
        if self._recorder is not None:
            self._recorder.item_put(item)
        self.by_id[item.id] = item
        self.by_path[item.path] = item
        self.size_bytes += len(item.payload)
        queue = item.queue
        queue.add(item)
        end_ms = expiry_ms(item, self._limits)
        if end_ms < queue.due_ms:
            self._reschedule(queue, end_ms)

    def claim(self, item: Item, caller: Caller, now_ms: int) -> None:
        """Make a pending item active, with a first heartbeat. O(1), amortised."""
        self.active_count += 1
        item.claimed_by = caller
        item.claimed_ms = now_ms
        item.queue.claim(item, now_ms)
        if self._recorder is not None:
            self._recorder.item_touched(item)

    def beat(self, item: Item, now_ms: int) -> None:
        """Set the heartbeat. O(1)."""
        queue = item.queue
        queue.beat(item, now_ms)
        if self._recorder is not None:
            self._recorder.item_touched(item)
        if now_ms + self._limits.item_life_ms < queue.due_ms:  # the wall clock stepped back
            self._reschedule(queue, now_ms + self._limits.item_life_ms)

    def set_extra(self, item: Item, extra: Value | None) -> None:
        """Replace the extra. O(1)."""
        old = item.extra
        self.size_bytes -= item.size_bytes
        item.extra = extra
        self.size_bytes += item.size_bytes
        if self._recorder is not None:
            self._recorder.extra_set(item, old)

    def remove(self, item: Item) -> None:
        """Delete an item that is in. O(1), amortised."""
        del self.by_id[item.id]
        del self.by_path[item.path]
        payload_bytes = len(item.payload)
        self.size_bytes -= payload_bytes
        if payload_bytes > LARGE_TEXT_BYTES:
            self._on_large_gone(item.id)
        if item.extra is not None:
            self.size_bytes -= len(item.extra)
        if item.active:
            self.active_count -= 1
        queue = item.queue
        queue.remove(item)
        if not (queue.pending_count or queue.active_count or queue.is_idle):
            queue.is_idle = True
            self._idle.append(queue)
        if self._recorder is not None:
            self._recorder.item_removed(item)

    # Queues come and go.

    def queue_for(self, path: Path) -> PrefixQueue:
        """The queue that a path belongs to, made if it is not there. O(1)."""
        prefix = path.rpartition(b":")[0]
        queue = self.queues.get(prefix)
        if queue is None:
            self._queues_made += 1
            queue = self.queues[prefix] = PrefixQueue(self._queues_made, prefix, self._stats.acquire(prefix))
        return queue

    def drop_idle(self, max_rows: int) -> int:
        """Drop queues that are still empty; returns how many were looked at.

        Not done when the last item leaves: the next ADD mostly brings one back.
        """
        count = min(max_rows, len(self._idle))
        for _ in range(count):
            queue = self._idle.pop()
            queue.is_idle = False
            if not queue:
                self._reschedule(queue, NEVER_MS)
                del self.queues[queue.prefix]
                self._stats.release(queue.prefix, queue.stats)
        return count

    # Expiry.

    def expire(self, now_ms: int) -> None:
        """Delete every item that has expired. O(1) when none has, O(log queues) for each that has."""
        while self.due_ms <= now_ms:
            for queue in self._schedule.before(now_ms + 1):
                for item in queue.expired(now_ms, self._limits):
                    self.remove(item)
                    queue.stats.expired += 1
                    self._history.add(item, EXPIRED, None, now_ms, None)
                self._reschedule(queue, queue.next_due_ms(now_ms, self._limits))

    def _reschedule(self, queue: PrefixQueue, due_ms: int) -> None:
        if queue.due_ms != NEVER_MS:
            self._schedule.remove(queue)
        queue.due_ms = due_ms
        if due_ms != NEVER_MS:
            self._schedule.add(queue, due_ms)
        first_ms = self._schedule.first_ms()
        self.due_ms = NEVER_MS if first_ms is None else first_ms

    def reclaim(self, reclaimer: Reclaimer) -> None:
        """Have a table that nobody reads any more freed in slices. O(1).

        Items and queues refer to each other: emptied one by one, what holds them leaves no cycle for a collector.
        """
        recorder, stats = self._recorder, self._stats  # not the table: its memory is to go piece by piece

        def reclaim_queue(row: tuple[Path, PrefixQueue]) -> None:
            prefix, queue = row
            stats.release(prefix, queue.stats)
            reclaimer.defer(queue.give_away())

        reclaimer.defer([self.by_id], None if recorder is None else lambda row: recorder.item_freed(row[1]))
        reclaimer.defer([self.by_path, *self._schedule.containers(), self._idle])
        reclaimer.defer([self.queues], reclaim_queue)

    def info(self) -> list[Row]:
        """The rows of SYS CACHESTORE INFO. O(n), 50 ns an item: administrators ask, clients do not."""
        sizes = [len(item.payload) if item.extra is None else item.size_bytes for item in self.by_id.values()]
        return info_rows("QueueItems", len(sizes), self.size_bytes, sizes)
