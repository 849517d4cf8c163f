"""The queue as commands.md §4 describes it: lists of records and scans, no index, no count that is kept.

Every method reads as its section of the specification and cites it. Time is wall clock in milliseconds. Whatever has
expired is dropped for good before a statement looks at anything (`strike`), so no rule below speaks of expiry.
"""

from __future__ import annotations

from collections.abc import Callable

from storage.asking import Caller, Later
from storage.errors import UserError
from storage.limits import SECOND_MS, QueueLimits
from storage.vocabulary import (
    ADD_AND_RETRIEVE_COLUMNS,
    ADD_COLUMNS,
    EMPTY_RESULT,
    LIST_COLUMNS,
    LIST_WITH_PAYLOAD_COLUMNS,
    PAYLOAD_COLUMNS,
    RESULT_COLUMNS,
    RETRIEVE_COLUMNS,
    SUCCESS_COLUMNS,
    TO_CANCEL_COLUMNS,
    KeyRef,
    QueueAck,
    QueueActive,
    QueueAdd,
    QueueAddAndRetrieve,
    QueueCancel,
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
    RequestKey,
    Result,
)
from tests.asking import Told
from tests.model.json_text import merge_extra
from tests.model.records import ACTIVE, PENDING, BoundError, Item, StoredResult, Waiter, key_of

OWNER_NEEDED = "Claiming an exclusive queue item requires a process_id in the connection context (x-process-id header)"
ADDER_NEEDED = "QUEUE {} EXCLUSIVE requires a process_id in the connection context (x-process-id header)"

# An error that ends an item always fits.
ALWAYS_ROOM_BYTES = 512

Wake = Callable[[Waiter, Result, int], None]


class NaiveQueue:
    """All queues of one server; `wake` is called with each waiter that an ACK releases, its answer and the time.

    `result_overhead_bytes` is what an engine counts for each result beside its value when an ADD asks for room.
    """

    result_overhead_bytes = 0

    def __init__(self, limits: QueueLimits, first_id: int, wake: Wake) -> None:
        self.limits = limits
        self.next_id = first_id
        self.wake = wake
        self.items: list[Item] = []
        self.results: list[StoredResult] = []
        self.waiters: list[Waiter] = []

    # What there is.

    def strike(self, now_ms: int) -> None:
        """Drop items and results whose time has come (state-machine.md §1 "Item expiry", §2 "gone")."""
        self.items = [item for item in self.items if self.end_of(item) > now_ms]
        self.results = [result for result in self.results if result.expire_ms > now_ms]

    def end_of(self, item: Item) -> int:
        """An active item lives on while it beats (decisions, "Ids, time, texts")."""
        if item.status == ACTIVE and item.heartbeat_ms is not None:
            return max(item.expire_ms, item.heartbeat_ms + self.limits.item_life_ms)
        return item.expire_ms

    def find(self, key: KeyRef) -> Item | None:
        return next((item for item in self.items if item.is_named(key)), None)

    def of(self, prefix: bytes, status: bytes) -> list[Item]:
        """The items of one prefix, compared for equality (commands.md §3), id ascending."""
        found = [item for item in self.items if item.prefix == prefix and item.status == status]
        return sorted(found, key=lambda item: item.id)

    def bytes_held(self) -> int:
        """Payloads, extras and results together (limits.py, `QueueLimits.max_bytes`)."""
        return sum(item.size for item in self.items) + sum(len(result.value) for result in self.results)

    def _outgrows(self, growth: int) -> bool:
        return self.bytes_held() + growth > self.limits.max_bytes

    def _active_keys(self, prefix: bytes, claimed: Item | None = None) -> bytes | None:
        """Comma-joined keys in id order, the claimed one last, NULL when there is none (commands.md §4.2, §4.9)."""
        items = [item for item in self.of(prefix, ACTIVE) if item is not claimed]
        items += [claimed] if claimed else []
        return b",".join(key_of(item.path) for item in items) if items else None

    # Entering and claiming.

    def add(self, ask: QueueAdd, caller: Caller, now_ms: int) -> Result:
        """commands.md §4.1."""
        self._demand_owner(ask, caller, "ADD")
        item = self.find(ask.path)
        added = item is None
        if item is None:
            item = self._insert(ask, caller, now_ms)
        return Result(ADD_COLUMNS, [(b"%d" % item.id, added, len(self.of(item.prefix, PENDING)))])

    def add_and_retrieve(self, ask: QueueAddAndRetrieve, caller: Caller, now_ms: int) -> Result:
        """commands.md §4.2: claim iff active + backlog < concurrency."""
        self._demand_owner(ask, caller, "ADD_AND_RETRIEVE")
        item = self.find(ask.path)
        added = item is None
        if item is None:
            item = self._insert(ask, caller, now_ms)
        backlog = [other for other in self.of(item.prefix, PENDING) if other is not item]
        has_room = len(self.of(item.prefix, ACTIVE)) + len(backlog) < ask.concurrency
        claimed = item.status == PENDING and has_room and self._may_claim(item, caller)
        if claimed:
            self._claim(item, now_ms)
        pending = len(self.of(item.prefix, PENDING))
        active = self._active_keys(item.prefix, item if claimed else None)
        payload, extra = (item.payload, item.extra) if claimed else (None, None)
        return Result(ADD_AND_RETRIEVE_COLUMNS, [(b"%d" % item.id, added, pending, active, payload, extra)])

    def retrieve(self, ask: QueueRetrieve, caller: Caller, now_ms: int) -> Result:
        """commands.md §4.9, in its order: concurrency, path, status, owner."""
        prefix = ask.path.rpartition(b":")[0]
        item = self.find(ask.path)
        has_room = len(self.of(prefix, ACTIVE)) < ask.concurrency
        if has_room and item is not None and item.status == PENDING and self._may_claim(item, caller):
            self._claim(item, now_ms)
            pending, active = len(self.of(prefix, PENDING)), self._active_keys(prefix, item)
            return Result(RETRIEVE_COLUMNS, [(item.payload, item.extra, pending, active, b"%d" % item.id)])
        if not ask.extended:
            return Result(RETRIEVE_COLUMNS, [])
        pending, active = len(self.of(prefix, PENDING)), self._active_keys(prefix)
        return Result(RETRIEVE_COLUMNS, [(None, None, pending, active, None)])

    def _demand_owner(self, ask: QueueAdd | QueueAddAndRetrieve, caller: Caller, command: str) -> None:
        if ask.exclusive and caller.process_id is None:
            raise UserError(ADDER_NEEDED.format(command))

    def _may_claim(self, item: Item, caller: Caller) -> bool:
        """commands.md §4.9, step 4."""
        if not item.exclusive:
            return True
        if item.owner is not None and caller.process_id is None:
            raise UserError(OWNER_NEEDED)
        return item.owner == caller.process_id

    def _claim(self, item: Item, now_ms: int) -> None:
        item.status, item.heartbeat_ms = ACTIVE, now_ms

    def _insert(self, ask: QueueAdd | QueueAddAndRetrieve, caller: Caller, now_ms: int) -> Item:
        """A new pending item; its expiry is set once (state-machine.md §1, "Item expiry")."""
        if len(self.items) + 1 > self.limits.max_items:
            raise BoundError("CUBEQUEUE_QUEUE_MAX_ITEMS")
        overhead = self.result_overhead_bytes * len(self.results)
        if self.bytes_held() + overhead + len(ask.payload) > self.limits.max_bytes:
            raise BoundError("CUBEQUEUE_QUEUE_MAX_SIZE")
        orphaned_ms, expire_ms = None, now_ms + self.limits.item_life_ms
        if ask.orphaned_s is not None:
            orphaned_ms = now_ms + ask.orphaned_s * SECOND_MS
            expire_ms = orphaned_ms + self.limits.orphaned_item_life_ms
        item = Item(
            id=self.next_id,
            path=ask.path,
            payload=ask.payload,
            priority=ask.priority,
            created_ms=now_ms,
            expire_ms=expire_ms,
            orphaned_ms=orphaned_ms,
            process_id=caller.process_id,
            exclusive=ask.exclusive,
            external_id=ask.external_id,
        )
        self.next_id += 1
        self.items.append(item)
        return item

    # Looking.

    def get(self, ask: QueueGet) -> Result:
        """commands.md §4.3: any status, any process."""
        item = self.find(ask.key)
        return Result(PAYLOAD_COLUMNS, [(item.payload, item.extra)] if item else [])

    def list_items(self, ask: QueueList | QueuePending | QueueActive, caller: Caller) -> Result:
        """commands.md §4.4; equal priorities in the order of arrival, which ids keep when the clock does not."""
        shown = [] if isinstance(ask, QueueActive) else self.of(ask.prefix, PENDING)
        shown += [] if isinstance(ask, QueuePending) else self.of(ask.prefix, ACTIVE)
        shown = [item for item in shown if item.owner in (None, caller.process_id)]
        if not isinstance(ask, QueueActive):
            shown.sort(key=lambda item: (-item.priority, item.id))
        rows = [(key_of(i.path), b"%d" % i.id, i.status, i.extra, i.payload) for i in shown]
        if ask.with_payload:
            return Result(LIST_WITH_PAYLOAD_COLUMNS, rows)
        return Result(LIST_COLUMNS, [row[:-1] for row in rows])

    def to_cancel(self, ask: QueueStalled | QueueOrphaned | QueueToCancel, now_ms: int) -> Result:
        """commands.md §4.5: read-only, id ascending, not filtered by process id."""
        due: list[Item] = []
        if not isinstance(ask, QueueOrphaned):
            due += [i for i in self.of(ask.prefix, ACTIVE) if _stalled(i, ask.heartbeat_timeout_ms, now_ms)]
        if not isinstance(ask, QueueStalled):
            due += [i for i in self.of(ask.prefix, PENDING) if _orphaned(i, ask.orphaned_timeout_ms, now_ms)]
        due.sort(key=lambda item: item.id)
        return Result(TO_CANCEL_COLUMNS, [(key_of(item.path), b"%d" % item.id) for item in due])

    # Working on an item and ending it.

    def heartbeat(self, ask: QueueHeartbeat, now_ms: int) -> Result:
        """commands.md §4.7: any status; an unknown key is silently ignored."""
        item = self.find(ask.key)
        if item:
            item.heartbeat_ms = now_ms
        return EMPTY_RESULT

    def merge_extra(self, ask: QueueMergeExtra) -> Result:
        """commands.md §4.8; an unknown key is silently ignored."""
        item = self.find(ask.key)
        if item is None:
            return EMPTY_RESULT
        extra = merge_extra(item.extra, ask.extra)
        if self._outgrows(len(extra or b"") - len(item.extra or b"")):
            raise BoundError("CUBEQUEUE_QUEUE_MAX_SIZE")
        item.extra = extra
        return EMPTY_RESULT

    def cancel(self, ask: QueueCancel) -> Result:
        """commands.md §4.6: any status, any owner; wakes nobody."""
        item = self.find(ask.key)
        if item is None:
            return Result(PAYLOAD_COLUMNS, [])
        self.items.remove(item)
        return Result(PAYLOAD_COLUMNS, [(item.payload, item.extra)])

    def ack(self, ask: QueueAck, now_ms: int) -> Result:
        """commands.md §4.10; of results with the same path and external id the newest wins (decisions)."""
        item = self.find(ask.key)
        if item is None:
            return Result(SUCCESS_COLUMNS, [(False,)])
        growth = 0 if ask.value is None else len(ask.value) - item.size
        if growth > ALWAYS_ROOM_BYTES and self._outgrows(growth):
            raise BoundError("CUBEQUEUE_QUEUE_MAX_SIZE")
        self.items.remove(item)
        if ask.value is None:
            self._wake_waiters(item, Result(RESULT_COLUMNS, [_null_row(item)]), now_ms)
        else:
            expire_ms = now_ms + self.limits.results_expire_ms
            result = StoredResult(item.id, item.path, ask.value, expire_ms, item.external_id)
            self.results.append(result)
            self._hand_over(result, item, now_ms)
        return Result(SUCCESS_COLUMNS, [(True,)])

    def _hand_over(self, result: StoredResult, item: Item, now_ms: int) -> None:
        """Waking a waiter by id takes the result, waking one by path deletes it (commands.md §4.11)."""
        if any(waiter.key == item.id for waiter in self.waiters):
            result.taken = True
        if any(waiter.key == item.path for waiter in self.waiters):
            self.results.remove(result)
        self._wake_waiters(item, _result_table(result), now_ms)

    def _wake_waiters(self, item: Item, answer: Result, now_ms: int) -> None:
        """Every waiter for this id or path is answered (state-machine.md §3)."""
        woken = [waiter for waiter in self.waiters if item.is_named(waiter.key)]
        self.waiters = [waiter for waiter in self.waiters if waiter not in woken]
        for waiter in woken:
            self.wake(waiter, answer, now_ms)

    # Results.

    def result(self, ask: QueueResult) -> Result:
        """commands.md §4.11, the rows of RESULT."""
        if isinstance(ask.key, int):
            return self._result_by_id(ask.key, ask.external_id)
        named = [r for r in self.results if r.path == ask.key and r.external_id == ask.external_id]
        if ask.external_id is not None and named:
            return _result_table(max(named, key=lambda result: result.id))
        return _result_table(self._take(ask.key))

    def _result_by_id(self, id_: int, external_id: bytes | None) -> Result:
        result = next((result for result in self.results if result.id == id_), None)
        if result and external_id is not None and result.external_id != external_id:
            raise UserError(_mismatch(id_, external_id, result.external_id))
        return _result_table(result)

    def _take(self, path: bytes) -> StoredResult | None:
        """The newest result of a path, once (state-machine.md §2)."""
        newest = max((r for r in self.results if r.path == path), key=lambda result: result.id, default=None)
        if newest is None or newest.taken:
            return None
        newest.taken = True
        return newest

    def result_blocking(self, ask: QueueResultBlocking, request_key: RequestKey | None) -> Result | Later:
        """commands.md §4.11, state-machine.md §3: by id read-many, by path as RESULT; waits when there is none.

        By id with a timeout it takes the result (divergences.md).
        """
        if isinstance(ask.key, int):
            found = next((result for result in self.results if result.id == ask.key), None)
            if found and ask.timeout_ms:
                found.taken = True
        else:
            found = self._take(ask.key)
        if found:
            return _result_table(found)
        if len(self.waiters) + 1 > self.limits.max_waiters:
            raise BoundError("CUBEQUEUE_QUEUE_MAX_WAITERS")
        waiter = Waiter(ask.key, Told(ask.timeout_ms), request_key)
        self.waiters.append(waiter)
        return waiter.later

    def clear(self) -> Result:
        """commands.md §4.12: ids go on, waiters wait on."""
        self.items, self.results = [], []
        return EMPTY_RESULT


def _stalled(item: Item, timeout_ms: int, now_ms: int) -> bool:
    """commands.md §4.5, first row."""
    since_ms = item.created_ms if item.heartbeat_ms is None else item.heartbeat_ms
    return now_ms - since_ms > timeout_ms


def _orphaned(item: Item, timeout_ms: int, now_ms: int) -> bool:
    """commands.md §4.5, second and third row."""
    if item.orphaned_ms is not None:
        return item.orphaned_ms < now_ms
    return now_ms - item.created_ms > timeout_ms


def _result_table(result: StoredResult | None) -> Result:
    """commands.md §4.11, "Columns"."""
    if result is None:
        return Result(RESULT_COLUMNS, [])
    return Result(RESULT_COLUMNS, [(result.value, b"success", b"%d" % result.id, result.external_id)])


def _null_row(item: Item) -> tuple[None, bytes, bytes, None]:
    """What ACK with NULL gives a waiter (commands.md §4.11)."""
    return (None, b"success", b"%d" % item.id, None)


def _mismatch(id_: int, expected: bytes, got: bytes | None) -> str:
    """commands.md §4.11, RESULT EXTERNAL_ID e id; the stored one is printed as a debug string."""
    shown = "None" if got is None else 'Some("{}")'.format(got.decode().replace("\\", "\\\\").replace('"', '\\"'))
    return f"Queue result (id = {id_}) external_id mismatch: expected {expected.decode()}, got {shown}"
