"""The QUEUE statements (commands.md §4).

Each handler takes the statement, its caller and the time, and answers with a table or, for RESULT_BLOCKING, with
a wait. A handler that raises has changed nothing. `expire` runs ahead of every one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any, TypeAlias

from storage.asking import Caller, Later, NewLater
from storage.errors import NoRoomError, UserError
from storage.keys import prefix_of
from storage.limits import SECOND_MS, QueueLimits
from storage.queue.item_table import ItemTable
from storage.queue.items import Item, PrefixQueue
from storage.queue.listings import cancel_listing, listing
from storage.queue.merge import merge_extra
from storage.queue.result_statements import Results, Wake
from storage.reclaim import Reclaimer
from storage.recorder import Recorder
from storage.stats import QueueStatsTable
from storage.vocabulary import (
    ADD_AND_RETRIEVE_COLUMNS,
    ADD_COLUMNS,
    EMPTY_RESULT,
    LIST_COLUMNS,
    LIST_WITH_PAYLOAD_COLUMNS,
    PAYLOAD_COLUMNS,
    RETRIEVE_COLUMNS,
    SUCCESS_COLUMNS,
    TO_CANCEL_COLUMNS,
    Path,
    QueueAck,
    QueueActive,
    QueueAdd,
    QueueAddAndRetrieve,
    QueueCancel,
    QueueClear,
    QueueGet,
    QueueHeartbeat,
    QueueList,
    QueueMergeExtra,
    QueueOrphaned,
    QueuePending,
    QueueResult,
    QueueResultBlocking,
    QueueRetrieve,
    QueueStalled,
    QueueToCancel,
    Result,
    Statement,
)

Handler: TypeAlias = Callable[[Any, Caller, int], Result | Later]
Handlers: TypeAlias = dict[type[Statement], Handler]

# What a kept result costs beyond its value. ADD counts it: without it, results of a few bytes would be free.
RESULT_OVERHEAD_BYTES = 512

# A result that is so little larger than its item always fits: an error that ends an item must.
_ALWAYS_ROOM_BYTES = 512

_id_of = attrgetter("id")

_NOT_CLAIMED = Result(RETRIEVE_COLUMNS, ())
_ACKNOWLEDGED = Result(SUCCESS_COLUMNS, ((True,),))
_NOT_ACKNOWLEDGED = Result(SUCCESS_COLUMNS, ((False,),))
_NO_ITEM = Result(PAYLOAD_COLUMNS, ())
_NOTHING_TO_CANCEL = Result(TO_CANCEL_COLUMNS, ())

_OWNER_NEEDED_TO_ADD = "QUEUE {} EXCLUSIVE requires a process_id in the connection context (x-process-id header)"
_OWNER_NEEDED_TO_CLAIM = (
    "Claiming an exclusive queue item requires a process_id in the connection context (x-process-id header)"
)


class Queue:
    """All queue items, their results, and the requests that wait for them. `claims` counts claimed items.

    Before `grace_until_ms` nothing counts as stalled: after a start, workers need a moment to come back.
    """

    __slots__ = (
        "_next_id",
        "_reclaimer",
        "_recorder",
        "claims",
        "grace_until_ms",
        "handlers",
        "items",
        "limits",
        "results",
        "stats",
    )

    def __init__(
        self, limits: QueueLimits, first_id: int, recorder: Recorder | None, new_later: NewLater, wake: Wake
    ) -> None:
        self.limits = limits
        self._next_id = first_id
        self._recorder = recorder
        self._reclaimer = Reclaimer()
        self.claims = 0
        self.grace_until_ms = 0  # nothing counts as stalled before
        self.stats = QueueStatsTable()
        self.items = ItemTable(limits, recorder, self.stats)
        self.results = Results(limits, recorder, new_later, wake)
        self.handlers: Handlers = {
            QueueAdd: self.add,
            QueueAddAndRetrieve: self.add_and_retrieve,
            QueueGet: self.get,
            QueueList: self.list_,
            QueuePending: self.pending,
            QueueActive: self.active,
            QueueCancel: self.cancel,
            QueueHeartbeat: self.heartbeat,
            QueueAck: self.ack,
            QueueMergeExtra: self.merge_extra,
            QueueStalled: self.stalled,
            QueueOrphaned: self.orphaned,
            QueueToCancel: self.to_cancel,
            QueueRetrieve: self.retrieve,
            QueueResult: self.results.result,
            QueueResultBlocking: self.results.result_blocking,
            QueueClear: self.clear,
        }

    @property
    def next_id(self) -> int:
        """The id that the next item gets."""
        return self._next_id

    # Adding and claiming.

    def add(self, ask: QueueAdd, caller: Caller, now_ms: int) -> Result:
        """`QUEUE ADD` (§4.1). O(1); O(log n) with ORPHANED."""
        if ask.exclusive and caller.process_id is None:
            raise UserError(_OWNER_NEEDED_TO_ADD.format("ADD"))
        item = self.items.by_path.get(ask.path)
        added = item is None
        if item is None:
            item = self._insert(ask, caller, now_ms)
        return Result(ADD_COLUMNS, ((b"%d" % item.id, added, item.queue.pending_count),))

    def add_and_retrieve(self, ask: QueueAddAndRetrieve, caller: Caller, now_ms: int) -> Result:
        """`QUEUE ADD_AND_RETRIEVE` (§4.2). As ADD, and O(active items of the prefix)."""
        if ask.exclusive and caller.process_id is None:
            raise UserError(_OWNER_NEEDED_TO_ADD.format("ADD_AND_RETRIEVE"))
        item = self.items.by_path.get(ask.path)
        added = item is None
        if item is None:
            item = self._insert(ask, caller, now_ms)
        queue = item.queue
        claims = not item.active and len(queue) - 1 < ask.concurrency and _may_claim(item, caller)
        active = _keys(queue.all_active(), item if claims else None)
        if claims:
            self._claim(item, caller, now_ms)
        payload, extra = (item.payload, item.extra) if claims else (None, None)
        row = (b"%d" % item.id, added, queue.pending_count, active, payload, extra)
        return Result(ADD_AND_RETRIEVE_COLUMNS, (row,))

    def retrieve(self, ask: QueueRetrieve, caller: Caller, now_ms: int) -> Result:
        """`QUEUE RETRIEVE` (§4.9). O(active items of the prefix)."""
        item = self.items.by_path.get(ask.path)
        if (
            item is None
            or item.active
            or item.queue.active_count >= ask.concurrency
            or (item.exclusive and not _may_claim(item, caller))
        ):
            return self._refuse_claim(ask.path) if ask.extended else _NOT_CLAIMED
        queue = item.queue
        active = _keys(queue.all_active(), item) if queue.active_count else item.path.rpartition(b":")[2]
        self._claim(item, caller, now_ms)
        return Result(RETRIEVE_COLUMNS, ((item.payload, item.extra, queue.pending_count, active, b"%d" % item.id),))

    def _claim(self, item: Item, caller: Caller, now_ms: int) -> None:
        self.claims += 1
        stats = item.queue.stats
        stats.claimed += 1
        if now_ms > item.created_ms:
            stats.waited_ms += now_ms - item.created_ms
        self.items.claim(item, caller, now_ms)

    def _refuse_claim(self, path: Path) -> Result:
        """What EXTENDED tells of a claim that failed."""
        queue = self.items.queues.get(prefix_of(path))
        pending, active = (0, None) if queue is None else (queue.pending_count, _keys(queue.all_active()))
        return Result(RETRIEVE_COLUMNS, ((None, None, pending, active, None),))

    def _insert(self, ask: QueueAdd | QueueAddAndRetrieve, caller: Caller, now_ms: int) -> Item:
        """Put a new pending item."""
        items, results, limits = self.items, self.results.table, self.limits
        size_bytes = items.size_bytes + results.size_bytes + len(results.by_id) * RESULT_OVERHEAD_BYTES
        if len(items.by_id) >= limits.max_items or size_bytes + len(ask.payload) > limits.max_bytes:
            raise self._no_room_for(ask)
        item = Item(
            self._next_id,
            ask.path,
            items.queue_for(ask.path),
            ask.payload,
            ask.priority,
            now_ms,
            None if ask.orphaned_s is None else now_ms + ask.orphaned_s * SECOND_MS,
            caller,
            ask.exclusive,
            ask.external_id,
        )
        self._next_id += 1
        item.queue.stats.added += 1
        items.insert(item)
        return item

    # One item.

    def get(self, ask: QueueGet, caller: Caller, now_ms: int) -> Result:
        """`QUEUE GET` (§4.3). O(1)."""
        item = self.items.find(ask.key)
        return _NO_ITEM if item is None else Result(PAYLOAD_COLUMNS, ((item.payload, item.extra),))

    def heartbeat(self, ask: QueueHeartbeat, caller: Caller, now_ms: int) -> Result:
        """`QUEUE HEARTBEAT` (§4.7). O(1)."""
        items, key = self.items, ask.key
        item = items.by_id.get(key) if isinstance(key, int) else items.by_path.get(key)
        if item is not None:
            items.beat(item, now_ms)
        return EMPTY_RESULT

    def merge_extra(self, ask: QueueMergeExtra, caller: Caller, now_ms: int) -> Result:
        """`QUEUE MERGE_EXTRA` (§4.8). O(bytes of both extras)."""
        item = self.items.find(ask.key)
        if item is not None:
            extra = merge_extra(item.extra, ask.extra)
            growth = len(extra or b"") - len(item.extra or b"")
            if growth > 0 and self._size_bytes() + growth > self.limits.max_bytes:
                raise self._too_large("MERGE_EXTRA", growth)
            self.items.set_extra(item, extra)
        return EMPTY_RESULT

    def cancel(self, ask: QueueCancel, caller: Caller, now_ms: int) -> Result:
        """`QUEUE CANCEL` (§4.6). O(1), amortised."""
        item = self.items.find(ask.key)
        if item is None:
            return _NO_ITEM
        _count_cancelled(item, now_ms)
        self.items.remove(item)
        return Result(PAYLOAD_COLUMNS, ((item.payload, item.extra),))

    def ack(self, ask: QueueAck, caller: Caller, now_ms: int) -> Result:
        """`QUEUE ACK` (§4.10). O(1), amortised, and O(waiters released)."""
        items, key, value = self.items, ask.key, ask.value
        item = items.by_id.get(key) if isinstance(key, int) else items.by_path.get(key)
        if item is None:
            return _NOT_ACKNOWLEDGED
        if value is not None:
            growth = len(value) - len(item.payload)  # the result takes the place of its own item
            if item.extra is not None:
                growth -= len(item.extra)
            if growth > _ALWAYS_ROOM_BYTES and self._size_bytes() + growth > self.limits.max_bytes:
                raise NoRoomError(self._too_large("ACK", growth).text, key, growth, self.limits.max_bytes)
        item.queue.stats.acknowledged += 1
        items.remove(item)
        self.results.hand_over(item, value, now_ms)
        return _ACKNOWLEDGED

    # Lists.

    def list_(self, ask: QueueList, caller: Caller, now_ms: int) -> Result:
        """`QUEUE LIST` (§4.4). O(rows), 0.1 µs each in long ones, and a sort of the priorities among them."""
        queue = self.items.queues.get(ask.prefix)
        return _listing(queue.listed(caller.process_id) if queue else [], ask.with_payload)

    def pending(self, ask: QueuePending, caller: Caller, now_ms: int) -> Result:
        """`QUEUE PENDING` (§4.4). O(rows), and a sort of the priorities among them."""
        queue = self.items.queues.get(ask.prefix)
        return _listing(queue.pending(caller.process_id) if queue else [], ask.with_payload)

    def active(self, ask: QueueActive, caller: Caller, now_ms: int) -> Result:
        """`QUEUE ACTIVE` (§4.4). O(rows)."""
        queue = self.items.queues.get(ask.prefix)
        return _listing(queue.active(caller.process_id) if queue else [], ask.with_payload)

    def stalled(self, ask: QueueStalled, caller: Caller, now_ms: int) -> Result:
        """`QUEUE STALLED` (§4.5). O(rows), and their sort."""
        queue = self.items.queues.get(ask.prefix)
        if not queue:
            return _NOTHING_TO_CANCEL
        queue.stalled_after_ms = ask.heartbeat_timeout_ms
        return _to_cancel(self._stalled(queue, ask.heartbeat_timeout_ms, now_ms))

    def orphaned(self, ask: QueueOrphaned, caller: Caller, now_ms: int) -> Result:
        """`QUEUE ORPHANED` (§4.5). O(rows), and their sort."""
        queue = self.items.queues.get(ask.prefix)
        if not queue:
            return _NOTHING_TO_CANCEL
        queue.orphaned_after_ms = ask.orphaned_timeout_ms
        return _to_cancel(queue.orphaned(now_ms, ask.orphaned_timeout_ms))

    def to_cancel(self, ask: QueueToCancel, caller: Caller, now_ms: int) -> Result:
        """`QUEUE TO_CANCEL` (§4.5). O(rows), and their sort."""
        queue = self.items.queues.get(ask.prefix)
        if not queue:
            return _NOTHING_TO_CANCEL
        queue.stalled_after_ms, queue.orphaned_after_ms = ask.heartbeat_timeout_ms, ask.orphaned_timeout_ms
        stalled = self._stalled(queue, ask.heartbeat_timeout_ms, now_ms)
        return _to_cancel(stalled + queue.orphaned(now_ms, ask.orphaned_timeout_ms))

    def _stalled(self, queue: PrefixQueue, timeout_ms: int, now_ms: int) -> list[Item]:
        return [] if now_ms < self.grace_until_ms else queue.stalled(now_ms, timeout_ms)

    # Everything.

    def clear(self, ask: QueueClear | None, caller: Caller, now_ms: int) -> Result:
        """`QUEUE CLEAR` (§4.12): ids go on, waiters wait on. O(1); the memory is freed in ticks."""
        if self._recorder is not None:
            self._recorder.queue_cleared()
        self.items.reclaim(self._reclaimer)
        self.results.clear().reclaim(self._reclaimer)
        self.items = ItemTable(self.limits, self._recorder, self.stats)
        return EMPTY_RESULT

    def expire(self, now_ms: int) -> None:
        """Delete what has expired by now. O(1) when nothing has."""
        self.items.expire(now_ms)
        self.results.table.expire(now_ms)

    def tick(self, max_rows: int) -> bool:
        """Free what CLEAR left and drop queues that stayed empty; True when there is more to do."""
        budget = max_rows - self._reclaimer.free(max_rows)
        budget -= self.items.drop_idle(budget)
        return budget <= 0 or bool(self._reclaimer)

    def gauges(self) -> dict[str, int]:
        """Counts and bytes. O(1)."""
        items, results = self.items, self.results.table
        return {
            "queues": len(items.queues),
            "queue_items": len(items),
            "queue_pending": len(items) - items.active_count,
            "queue_active": items.active_count,
            "queue_bytes": items.size_bytes,
            "queue_results": len(results),
            "queue_result_bytes": results.size_bytes,
            "waiters": self.results.waiters.count,
        }

    # Bounds.

    def _size_bytes(self) -> int:
        return self.items.size_bytes + self.results.table.size_bytes

    def _no_room_for(self, ask: QueueAdd | QueueAddAndRetrieve) -> UserError:
        if len(self.items) >= self.limits.max_items:
            return UserError(
                f"QUEUE {ask.command.upper()} refused: the queues hold {len(self.items)} items, which is as many as"
                " CUBEQUEUE_QUEUE_MAX_ITEMS allows"
            )
        return self._too_large(ask.command.upper(), len(ask.payload))

    def _too_large(self, command: str, growth: int) -> UserError:
        return UserError(
            f"QUEUE {command} refused: {growth} bytes more would exceed the {self.limits.max_bytes} bytes that"
            f" CUBEQUEUE_QUEUE_MAX_SIZE allows, {self._size_bytes()} are in use"
        )


def _may_claim(item: Item, caller: Caller) -> bool:
    """Whether the caller is the one that an EXCLUSIVE item demands (§4.9, step 4)."""
    if not item.exclusive or item.added_by.process_id == caller.process_id:
        return True
    if caller.process_id is None:
        raise UserError(_OWNER_NEEDED_TO_CLAIM)
    return False


def _count_cancelled(item: Item, now_ms: int) -> None:
    """Count a CANCEL by its reason: clients cancel what STALLED, ORPHANED or TO_CANCEL named, or by choice."""
    queue = item.queue
    if queue.is_stalled(item, now_ms):
        queue.stats.stalled += 1
    elif queue.is_orphaned(item, now_ms):
        queue.stats.orphaned += 1
    else:
        queue.stats.manual += 1


def _keys(active: Iterable[Item], claimed: Item | None = None) -> bytes | None:
    """The `active` column: keys in id order, the claimed one last; NULL when there is none."""
    keys = [item.key for item in active]
    if claimed is not None:
        keys.append(claimed.path.rpartition(b":")[2])
    return b",".join(keys) if keys else None


def _listing(items: list[Item], with_payload: bool) -> Result:
    columns = LIST_WITH_PAYLOAD_COLUMNS if with_payload else LIST_COLUMNS
    return Result(columns, listing(items, with_payload=with_payload))


def _to_cancel(items: list[Item]) -> Result:
    items.sort(key=_id_of)
    return Result(TO_CANCEL_COLUMNS, cancel_listing(items))
