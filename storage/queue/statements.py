"""The QUEUE statements (commands.md §4).

A handler takes the statement, its caller and the time. It returns a table or, for RESULT_BLOCKING, a wait. A handler
that raises has changed nothing. `expire` runs before every handler.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any, TypeAlias

from storage import vocabulary
from storage.asking import Caller, Later, NewLater
from storage.errors import NoRoomError, UserError
from storage.keys import key_of, prefix_of
from storage.limits import SECOND_MS, QueueLimits
from storage.listings import listing
from storage.minutes import MINUTE_MS
from storage.queue import history
from storage.queue.history import History
from storage.queue.item_table import ItemTable, OnLargeGone
from storage.queue.items import Item
from storage.queue.merge import merge_extra
from storage.queue.result_statements import Results, Wake
from storage.reclaim import Reclaimer
from storage.recorder import Recorder
from storage.stats import QueueStatsTable
from storage.vocabulary import ADD_COLUMNS, EMPTY_RESULT, RETRIEVE_COLUMNS, Path, Result, Row, Statement, Value

Handler: TypeAlias = Callable[[Any, Caller, int], Result | Later]
Handlers: TypeAlias = dict[type[Statement], Handler]

# A kept result costs this beyond its value. ADD counts it: without it, results of a few bytes would be free.
RESULT_OVERHEAD_BYTES = 512

# A result that exceeds its item by no more than this always fits: an error that ends an item must fit.
_ALWAYS_ROOM_BYTES = 512

_id_of = attrgetter("id")

_NOT_CLAIMED = Result(RETRIEVE_COLUMNS, ())
_ACKNOWLEDGED = Result(vocabulary.SUCCESS_COLUMNS, ((True,),))
_NOT_ACKNOWLEDGED = Result(vocabulary.SUCCESS_COLUMNS, ((False,),))
_NO_ITEM = Result(vocabulary.PAYLOAD_COLUMNS, ())
_NOTHING_TO_CANCEL = Result(vocabulary.TO_CANCEL_COLUMNS, ())

OWNER_NEEDED_TO_ADD = "QUEUE {} EXCLUSIVE requires a process_id in the connection context (x-process-id header)"
OWNER_NEEDED_TO_CLAIM = (
    "Claiming an exclusive queue item requires a process_id in the connection context (x-process-id header)"
)


class Queue:
    """All queue items, their results, and the requests that wait for them. `claims` counts claimed items.

    Before `grace_until_ms` no item counts as stalled: after a start, workers need a moment to reconnect.
    """

    def __init__(  # noqa: PLR0917  # each is of its own type
        self,
        limits: QueueLimits,
        first_id: int,
        recorder: Recorder | None,
        new_later: NewLater,
        wake: Wake,
        on_large_gone: OnLargeGone,
    ) -> None:
        self.limits = limits
        self.next_id = first_id
        self._recorder = recorder
        self._reclaimer = Reclaimer()
        self.claims = 0
        self.grace_until_ms = 0
        self.stats = QueueStatsTable()
        self.history = History(limits.history)
        self._on_large_gone = on_large_gone
        self.items = ItemTable(limits, recorder, self.stats, self.history, on_large_gone)
        self.results = Results(limits, recorder, new_later, wake)
        self.handlers: Handlers = {
            vocabulary.QueueAdd: self.add,
            vocabulary.QueueAddAndRetrieve: self.add_and_retrieve,
            vocabulary.QueueGet: self.get,
            vocabulary.QueueList: self.list_,
            vocabulary.QueuePending: self.pending,
            vocabulary.QueueActive: self.active,
            vocabulary.QueueCancel: self.cancel,
            vocabulary.QueueHeartbeat: self.heartbeat,
            vocabulary.QueueAck: self.ack,
            vocabulary.QueueMergeExtra: self.merge_extra,
            vocabulary.QueueStalled: self.stalled,
            vocabulary.QueueOrphaned: self.orphaned,
            vocabulary.QueueToCancel: self.to_cancel,
            vocabulary.QueueRetrieve: self.retrieve,
            vocabulary.QueueResult: self.results.result,
            vocabulary.QueueResultBlocking: self.results.result_blocking,
            vocabulary.QueueClear: self.clear,
        }

    # Adding and claiming.

    def add(self, statement: vocabulary.QueueAdd, caller: Caller, now_ms: int) -> Result:
        """`QUEUE ADD` (§4.1). O(1); O(log n) with ORPHANED."""
        if statement.exclusive and caller.process_id is None:
            raise UserError(OWNER_NEEDED_TO_ADD.format("ADD"))
        item = self.items.by_path.get(statement.path)
        added = item is None
        if item is None:
            item = self._insert(statement, caller, now_ms)
        return Result(ADD_COLUMNS, ((b"%d" % item.id, added, item.queue.pending_count),))

    def add_and_retrieve(self, statement: vocabulary.QueueAddAndRetrieve, caller: Caller, now_ms: int) -> Result:
        """`QUEUE ADD_AND_RETRIEVE` (§4.2). As ADD, and O(active items of the prefix)."""
        if statement.exclusive and caller.process_id is None:
            raise UserError(OWNER_NEEDED_TO_ADD.format("ADD_AND_RETRIEVE"))
        item = self.items.by_path.get(statement.path)
        added = item is None
        if item is None:
            item = self._insert(statement, caller, now_ms)
        queue = item.queue
        queue.concurrency = statement.concurrency
        claims = not item.active and len(queue) - 1 < statement.concurrency and _may_claim(item, caller)
        active = _keys(queue.all_active(), item if claims else None)
        if claims:
            self._claim(item, caller, now_ms)
        payload, extra = (item.payload, item.extra) if claims else (None, None)
        row = (b"%d" % item.id, added, queue.pending_count, active, payload, extra)
        return Result(vocabulary.ADD_AND_RETRIEVE_COLUMNS, (row,))

    def retrieve(self, statement: vocabulary.QueueRetrieve, caller: Caller, now_ms: int) -> Result:
        """`QUEUE RETRIEVE` (§4.9). O(active items of the prefix)."""
        item = self.items.by_path.get(statement.path)
        if item is None:
            return self._refuse_claim(statement.path) if statement.extended else _NOT_CLAIMED
        queue = item.queue
        queue.concurrency = statement.concurrency
        if (
            item.active
            or queue.active_count >= statement.concurrency
            or (item.exclusive and not _may_claim(item, caller))
        ):
            return self._refuse_claim(statement.path) if statement.extended else _NOT_CLAIMED
        active = _keys(queue.all_active(), item) if queue.active_count else item.path.rpartition(b":")[2]
        self._claim(item, caller, now_ms)
        row = (item.payload, item.extra, queue.pending_count, active, b"%d" % item.id)
        return Result(RETRIEVE_COLUMNS, (row,))

    def _claim(self, item: Item, caller: Caller, now_ms: int) -> None:
        self.claims += 1
        stats = item.queue.stats
        stats.claimed += 1
        waited_ms = now_ms - item.created_ms
        if waited_ms > 0:
            stats.waits[waited_ms.bit_length()] += 1
            stats.waits[0] += waited_ms
        else:
            stats.waits[1] += 1
        self.items.claim(item, caller, now_ms)

    def _refuse_claim(self, path: Path) -> Result:
        """The answer of EXTENDED to a claim that failed."""
        queue = self.items.queues.get(prefix_of(path))
        pending, active = (0, None) if queue is None else (queue.pending_count, _keys(queue.all_active()))
        return Result(RETRIEVE_COLUMNS, ((None, None, pending, active, None),))

    def _insert(
        self, statement: vocabulary.QueueAdd | vocabulary.QueueAddAndRetrieve, caller: Caller, now_ms: int
    ) -> Item:
        """Put a new pending item."""
        items, results, limits = self.items, self.results.table, self.limits
        if len(items.by_id) >= limits.max_items:
            raise UserError(
                f"QUEUE {statement.command.upper()} refused: the queues hold {len(items.by_id)} items, which is as many"
                " as CUBEQUEUE_QUEUE_MAX_ITEMS allows"
            )
        size_bytes = items.size_bytes + results.size_bytes + len(results.by_id) * RESULT_OVERHEAD_BYTES
        if size_bytes + len(statement.payload) > limits.max_bytes:
            raise UserError(self._too_large(statement.command.upper(), len(statement.payload)))
        item = Item(
            self.next_id,
            statement.path,
            items.queue_for(statement.path),
            statement.payload,
            statement.priority,
            now_ms,
            None if statement.orphaned_s is None else now_ms + statement.orphaned_s * SECOND_MS,
            caller,
            statement.exclusive,
            statement.external_id,
        )
        self.next_id += 1
        item.queue.stats.added += 1
        items.insert(item)
        return item

    # One item.

    def get(self, statement: vocabulary.QueueGet, caller: Caller, now_ms: int) -> Result:
        """`QUEUE GET` (§4.3). O(1)."""
        item = self.items.find(statement.key)
        return _NO_ITEM if item is None else Result(vocabulary.PAYLOAD_COLUMNS, ((item.payload, item.extra),))

    def heartbeat(self, statement: vocabulary.QueueHeartbeat, caller: Caller, now_ms: int) -> Result:
        """`QUEUE HEARTBEAT` (§4.7). O(1)."""
        items, key = self.items, statement.key
        item = items.by_id.get(key) if isinstance(key, int) else items.by_path.get(key)
        if item is not None:
            items.beat(item, now_ms)
        return EMPTY_RESULT

    def merge_extra(self, statement: vocabulary.QueueMergeExtra, caller: Caller, now_ms: int) -> Result:
        """`QUEUE MERGE_EXTRA` (§4.8). O(bytes of both extras)."""
        item = self.items.find(statement.key)
        if item is not None:
            extra = merge_extra(item.extra, statement.extra)
            growth = len(extra or b"") - len(item.extra or b"")
            if growth > 0 and self._size_bytes() + growth > self.limits.max_bytes:
                raise UserError(self._too_large("MERGE_EXTRA", growth))
            self.items.set_extra(item, extra)
        return EMPTY_RESULT

    def cancel(self, statement: vocabulary.QueueCancel, caller: Caller, now_ms: int) -> Result:
        """`QUEUE CANCEL` (§4.6). O(1), amortised."""
        item = self.items.find(statement.key)
        if item is None:
            return _NO_ITEM
        queue = item.queue  # a client cancels an item that STALLED, ORPHANED or TO_CANCEL listed, or any other
        if queue.is_stalled(item, now_ms):
            queue.stats.stalled += 1
            outcome = history.STALLED
        elif queue.is_orphaned(item, now_ms):
            queue.stats.orphaned += 1
            outcome = history.ORPHANED
        else:
            queue.stats.manual += 1
            outcome = history.CANCELLED
        self.items.remove(item)
        self.history.add(item, outcome, caller, now_ms, None)
        return Result(vocabulary.PAYLOAD_COLUMNS, ((item.payload, item.extra),))

    def ack(self, statement: vocabulary.QueueAck, caller: Caller, now_ms: int) -> Result:
        """`QUEUE ACK` (§4.10). O(1), amortised, and O(waiters released)."""
        items, key, value = self.items, statement.key, statement.value
        item = items.by_id.get(key) if isinstance(key, int) else items.by_path.get(key)
        if item is None:
            return _NOT_ACKNOWLEDGED
        if value is not None:
            growth = len(value) - len(item.payload)  # the result takes the place of its own item
            if item.extra is not None:
                growth -= len(item.extra)
            if growth > _ALWAYS_ROOM_BYTES and self._size_bytes() + growth > self.limits.max_bytes:
                raise NoRoomError(self._too_large("ACK", growth), key, growth, self.limits.max_bytes)
        stats = item.queue.stats
        outcome = history.ACKNOWLEDGED
        if value is not None and value.startswith(history.CUBE_ERROR):
            outcome = history.ERROR
            stats.errors += 1
        else:
            stats.acknowledged += 1
        items.remove(item)
        self.history.add(item, outcome, caller, now_ms, value)
        self.results.hand_over(item, value, now_ms)
        return _ACKNOWLEDGED

    # Lists.

    def list_(self, statement: vocabulary.QueueList, caller: Caller, now_ms: int) -> Result:
        """`QUEUE LIST` (§4.4). O(rows), 0.1 µs each in long ones, and a sort of the priorities among them."""
        queue = self.items.queues.get(statement.prefix)
        return _listed(queue.listed(caller.process_id) if queue else [], statement.with_payload)

    def pending(self, statement: vocabulary.QueuePending, caller: Caller, now_ms: int) -> Result:
        """`QUEUE PENDING` (§4.4). O(rows), and a sort of the priorities among them."""
        queue = self.items.queues.get(statement.prefix)
        return _listed(queue.pending(caller.process_id) if queue else [], statement.with_payload)

    def active(self, statement: vocabulary.QueueActive, caller: Caller, now_ms: int) -> Result:
        """`QUEUE ACTIVE` (§4.4). O(rows)."""
        queue = self.items.queues.get(statement.prefix)
        return _listed(queue.active(caller.process_id) if queue else [], statement.with_payload)

    def stalled(self, statement: vocabulary.QueueStalled, caller: Caller, now_ms: int) -> Result:
        """`QUEUE STALLED` (§4.5). O(rows), and their sort."""
        return self._to_cancel(statement.prefix, statement.heartbeat_timeout_ms, None, now_ms)

    def orphaned(self, statement: vocabulary.QueueOrphaned, caller: Caller, now_ms: int) -> Result:
        """`QUEUE ORPHANED` (§4.5). O(rows), and their sort."""
        return self._to_cancel(statement.prefix, None, statement.orphaned_timeout_ms, now_ms)

    def to_cancel(self, statement: vocabulary.QueueToCancel, caller: Caller, now_ms: int) -> Result:
        """`QUEUE TO_CANCEL` (§4.5). O(rows), and their sort."""
        return self._to_cancel(statement.prefix, statement.heartbeat_timeout_ms, statement.orphaned_timeout_ms, now_ms)

    def _to_cancel(
        self, prefix: Path, stalled_after_ms: int | None, orphaned_after_ms: int | None, now_ms: int
    ) -> Result:
        queue = self.items.queues.get(prefix)
        if not queue:
            return _NOTHING_TO_CANCEL
        items: list[Item] = []
        if stalled_after_ms is not None:
            queue.stalled_after_ms = stalled_after_ms
            if now_ms >= self.grace_until_ms:
                items = queue.stalled(now_ms, stalled_after_ms)
        if orphaned_after_ms is not None:
            queue.orphaned_after_ms = orphaned_after_ms
            orphaned = queue.orphaned(now_ms, orphaned_after_ms)
            items = sorted(items + orphaned, key=_id_of) if items and orphaned else items or orphaned

        def rows(part: slice) -> list[Row]:
            return [(key_of(item.path), b"%d" % item.id) for item in items[part]]

        return Result(vocabulary.TO_CANCEL_COLUMNS, listing(len(items), rows))

    # All items.

    def clear(self, statement: vocabulary.QueueClear | None, caller: Caller, now_ms: int) -> Result:
        """`QUEUE CLEAR` (§4.12): ids continue, waiters keep waiting. O(1); ticks free the memory."""
        if self._recorder is not None:
            self._recorder.queue_cleared()
        self.items.reclaim(self._reclaimer)
        self.results.clear().reclaim(self._reclaimer)
        self.items = ItemTable(self.limits, self._recorder, self.stats, self.history, self._on_large_gone)
        self._on_large_gone(None)
        return EMPTY_RESULT

    def expire(self, now_ms: int) -> None:
        """Delete all that has expired by now. O(1) when nothing has."""
        self.items.expire(now_ms)
        self.results.table.expire(now_ms)

    def tick(self, now_ms: int, max_rows: int) -> bool:
        """Free the memory of CLEAR, drop queues that stayed empty and old history; True when there is more to do."""
        budget = max_rows - self._reclaimer.free(max_rows)
        budget -= self.items.drop_idle(budget)
        budget -= self.history.expire(now_ms, budget)
        rows = self.stats.end_minute(now_ms // MINUTE_MS, self._depth)
        if self._recorder is not None:
            if rows:
                self._recorder.minute_ended(rows)
                self.history.begin_blocks()
            block = self.history.next_block()
            if block is not None:
                self._recorder.block_ended(*block)
                return True
        return budget <= 0 or bool(self._reclaimer)

    def _depth(self, prefix: Path | None) -> tuple[int, int]:
        """Pending and active items of a queue, and of all queues with None. O(1)."""
        items = self.items
        if prefix is None:
            return len(items) - items.active_count, items.active_count
        queue = items.queues.get(prefix)
        return (0, 0) if queue is None else (queue.pending_count, queue.active_count)

    def end_observation(self, now_ms: int) -> None:
        """Have the recorder told of the rest of history and statistics, before an orderly end. O(history)."""
        if self._recorder is None:
            return
        rows = self.stats.end_minute(now_ms // MINUTE_MS + 1, self._depth)
        if rows:
            self._recorder.minute_ended(rows)
        self.history.begin_blocks()
        while (block := self.history.next_block()) is not None:
            self._recorder.block_ended(*block)

    def take_over(self, earlier: Queue) -> None:
        """Go on after effects were lost: with the waiters, statistics and history of the queue before."""
        self.results.waiters = earlier.results.waiters
        self.stats.take_over(earlier.stats)
        self.history.take_over(earlier.history, self.items.by_id)

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
            "history_items": len(self.history),
            "history_bytes": self.history.size_bytes,
        }

    def _size_bytes(self) -> int:
        return self.items.size_bytes + self.results.table.size_bytes

    def _too_large(self, command: str, growth: int) -> str:
        return (
            f"QUEUE {command} refused: {growth} bytes more would exceed the {self.limits.max_bytes} bytes that"
            f" CUBEQUEUE_QUEUE_MAX_SIZE allows, {self._size_bytes()} are in use"
        )


def _may_claim(item: Item, caller: Caller) -> bool:
    """Whether the caller may claim the item: an EXCLUSIVE item is for its own process (§4.9, step 4)."""
    if not item.exclusive or item.added_by.process_id == caller.process_id:
        return True
    if caller.process_id is None:
        raise UserError(OWNER_NEEDED_TO_CLAIM)
    return False


def _keys(active: Iterable[Item], claimed: Item | None = None) -> bytes | None:
    """The `active` column: keys in id order, the claimed one last; NULL when there is none."""
    keys = [item.key for item in active]
    if claimed is not None:
        keys.append(claimed.path.rpartition(b":")[2])
    return b",".join(keys) if keys else None


def _listed(items: list[Item], with_payload: bool) -> Result:
    """The answer of LIST, PENDING and ACTIVE. Id, path and payload of an item never change."""
    active = [item.active for item in items]
    extras = [item.extra for item in items]
    columns = vocabulary.LIST_WITH_PAYLOAD_COLUMNS if with_payload else vocabulary.LIST_COLUMNS
    rows = listing(len(items), lambda part: _item_rows(items[part], active[part], extras[part], with_payload))
    return Result(columns, rows)


def _item_rows(items: list[Item], active: list[bool], extras: list[Value | None], with_payload: bool) -> list[Row]:
    if with_payload:
        return [
            (key_of(item.path), b"%d" % item.id, b"active" if is_active else b"pending", extra, item.payload)
            for item, is_active, extra in zip(items, active, extras, strict=True)
        ]
    return [
        (key_of(item.path), b"%d" % item.id, b"active" if is_active else b"pending", extra)
        for item, is_active, extra in zip(items, active, extras, strict=True)
    ]
