"""Audits: whether every index of a store agrees with every other. Tests call them after each step; each is O(n)."""

from __future__ import annotations

from collections import Counter
from functools import singledispatch
from itertools import chain, pairwise
from typing import Any, Protocol, runtime_checkable

from storage.answers import Answers
from storage.cache.deadlines import _BUCKET_BITS, _GARBAGE_FLOOR, DeadlineIndex
from storage.cache.entry import NEVER, Entry, row_bytes
from storage.cache.eviction import EvictionOrder, LfuOrder, LruOrder, SampledOrder, TtlOrder
from storage.cache.prefixes import PrefixIndex
from storage.cache.statements import Cache
from storage.journal.blobs import Blobs
from storage.journal.store import JournaledStore
from storage.keys import key_of, prefix_of
from storage.limits import QueueLimits
from storage.memory import MemoryStore
from storage.queue.history import History
from storage.queue.indexes import _FREE_HOLES, NEVER_MS, IdIndex, TimeIndex
from storage.queue.item_table import ItemTable
from storage.queue.items import Item, PrefixQueue, StoredResult, expiry_ms
from storage.queue.results import ResultTable
from storage.queue.statements import Queue
from storage.queue.waiters import Waiters
from storage.stats import QueueStatsTable


@runtime_checkable
class Audited(Protocol):
    """An engine of the tests: it audits itself."""

    def check_invariants(self) -> None:
        """Raises AssertionError."""


@singledispatch
def audit(part: object) -> None:
    """Audit an engine, or a part of one; raises AssertionError."""
    assert isinstance(part, Audited)
    part.check_invariants()


@audit.register
def _(store: JournaledStore) -> None:
    audit(store._memory)
    audit(store._recorder.blobs)
    numbers = [seq for seq, _, _ in store._gate.waiting]
    assert numbers == sorted(numbers)


@audit.register
def _(blobs: Blobs) -> None:
    for identity, blob in blobs._by_identity.items():
        assert id(blob.value) == identity
        assert blob.references >= 0
        assert blob.references or blob in blobs.unnamed, "nothing would ever delete it"


@audit.register
def _(store: MemoryStore) -> None:
    audit(store.queue)
    audit(store.cache)
    audit(store.answers)


@audit.register
def _(answers: Answers) -> None:
    every = [*answers._kept.values(), *answers._undelivered.values()]
    assert sum(answer.size_bytes for answer in every) == answers.size_bytes
    assert sum(not answer.is_confirmed for answer in every) == answers.unconfirmed_count
    assert not answers._kept.keys() & answers._undelivered.keys(), "an answer is in two groups"
    confirmed = {key for key, answer in answers._kept.items() if answer.is_confirmed}
    assert confirmed <= {*answers.small.confirmed, *answers.texts.confirmed}, "a confirmed answer would never make room"
    assert not any(answer.is_confirmed for answer in answers._undelivered.values())
    by_key = {**answers._kept, **answers._undelivered}
    for item_id, key in answers._claims.items():
        assert by_key[key].item_id == item_id
    held = Counter[tuple[int, object, bytes]]()
    for key, answer in by_key.items():
        share = answer.share
        assert share.owner.connections[key[1]] is share
        assert share.owner.pool.owners[share.owner.name] is share.owner
        assert share.owner.name == (key[0] or share.owner.name)
        assert share.owner.pool is answers.pool_of(answer.result)
        held[id(share.owner.pool), share.owner.name, key[1]] += answer.size_bytes
    for pool in (answers.small, answers.texts):
        assert sum(owner.size_bytes for owner in pool.owners.values()) == pool.size_bytes
        assert sum(owner.is_refused for owner in pool.owners.values()) == pool.refused_owners
        for name, owner in pool.owners.items():
            assert owner.connections, "an owner who holds nothing would never go"
            assert sum(share.size_bytes for share in owner.connections.values()) == owner.size_bytes
            for connection_id, share in owner.connections.items():
                assert share.size_bytes == held[id(pool), name, connection_id] > 0


# The queue.


@audit.register
def _(queue: Queue) -> None:
    audit(queue.items)
    audit(queue.results.table)
    audit(queue.results.waiters)
    audit(queue.stats)
    audit(queue.history)
    assert all(id_ < queue.next_id < 1 << 53 for id_ in queue.items.by_id)
    assert not queue.items.by_id.keys() & queue.results.table.by_id.keys(), "an item and its result both live"


@audit.register
def _(table: ItemTable) -> None:
    assert all(item.id == id_ for id_, item in table.by_id.items())
    assert {item.path: item for item in table.by_id.values()} == table.by_path
    assert sum(len(queue) for queue in table.queues.values()) == len(table.by_id)
    assert sum(queue.active_count for queue in table.queues.values()) == table.active_count
    assert sum(item.size_bytes for item in table.by_id.values()) == table.size_bytes
    for prefix, queue in table.queues.items():
        assert queue.prefix == prefix
        assert queue or queue.is_idle, "an empty queue would never be dropped"
        audit_queue(queue, table._limits)
    assert all(table.queues.get(prefix_of(item.path)) is item.queue for item in table.by_id.values())
    audit(table._schedule)
    scheduled = [queue for queue in table.queues.values() if queue.due_ms != NEVER_MS]
    assert len(table._schedule) == len(scheduled)
    assert table.due_ms == min((queue.due_ms for queue in scheduled), default=NEVER_MS)
    assert sorted(queue.id for queue in table._idle) == sorted(q.id for q in table.queues.values() if q.is_idle)


def audit_queue(queue: PrefixQueue, limits: QueueLimits) -> None:
    """The queue of one prefix."""
    items: list[Item] = []
    for owner, lane in [(None, queue._shared), *queue._owned.items()]:
        assert lane or owner is None, "an owner's lane outlived its items"
        for priority, level in lane.pending.items():
            audit(level)
            assert level
            assert all(item.priority == priority and not item.active for item in level.rows())
        audit(lane.active)
        assert all(item.active and item.heartbeat_ms is not None for item in lane.active.rows())
        assert all(item.key == key_of(item.path) for item in lane.active.rows())
        mine = [*chain.from_iterable(level.rows() for level in lane.pending.values()), *lane.active.rows()]
        assert all(item.owner == owner for item in mine)
        items += mine
    assert all(item.queue is queue and expiry_ms(item, limits) >= queue.due_ms for item in items)
    pending = [item for item in items if not item.active]
    for index, those in (
        (queue._active, [item for item in items if item.active]),
        (queue._waiting, [item for item in pending if item.orphaned_ms is None]),
        (queue._orphanable, [item for item in pending if item.orphaned_ms is not None]),
    ):
        audit(index)
        assert sorted(item.id for item in index.before(NEVER_MS)) == sorted(item.id for item in those)
    assert len(pending) == queue.pending_count
    assert len(items) == queue.pending_count + queue.active_count


@audit.register
def _(index: IdIndex) -> None:  # type: ignore[type-arg]  # singledispatch wants a plain class
    ids = list(index._rows)
    assert all(row.id == id_ for id_, row in index._rows.items())
    assert not index._is_sorted or ids == sorted(ids)
    assert max(ids, default=-1) <= index._highest_id
    assert index._holes <= len(ids) + _FREE_HOLES


@audit.register
def _(index: TimeIndex) -> None:  # type: ignore[type-arg]
    times = [index._time_of(row) for row in index._list.values()]
    assert times == sorted(times)
    assert index._newest_ms is None if not times else index._newest_ms is not None and times[-1] <= index._newest_ms
    assert all(row.id == id_ for id_, row in index._list.items())
    for (time_ms, id_), row in (index._late or {}).items():
        assert (index._time_of(row), row.id) == (time_ms, id_)
        assert id_ not in index._list


@audit.register
def _(table: ResultTable) -> None:
    chained: list[StoredResult] = []
    for path, newest in table.newest.items():
        assert newest.newer is None
        of_path = [newest]
        while (older := of_path[-1].older) is not None:
            of_path.append(older)
        assert all(result.path == path for result in of_path)
        assert all(older.newer is newer for newer, older in pairwise(of_path))
        assert [result.id for result in of_path] == sorted((result.id for result in of_path), reverse=True)
        chained += of_path
    assert {result.id: result for result in chained} == table.by_id
    assert len(chained) == len(table.by_id)
    assert {(r.path, r.external_id): r for r in reversed(chained) if r.external_id is not None} == table._by_external_id
    audit(table._by_end)
    assert len(table._by_end) == len(table.by_id)
    assert all(result.expire_ms >= table.due_ms for result in chained)
    assert sum(len(result.value) for result in chained) == table.size_bytes


@audit.register
def _(waiters: Waiters) -> None:
    count = 0
    for key, newest in waiters._newest.items():
        assert newest.newer is None
        later: Any = newest
        while later is not None:
            assert later.waits_for == key
            assert later.older is None or later.older.newer is later
            count += 1
            later = later.older
    assert count == waiters.count


@audit.register
def _(history: History) -> None:
    entries = history.entries()
    assert sum(entry.size_bytes for entry in entries) == history.size_bytes
    assert len(entries) == len(history) <= history.count


@audit.register
def _(stats: QueueStatsTable) -> None:
    assert len(stats.named) <= stats._max_named
    assert {prefix for prefix, each in stats.named.items() if not each.tables} == stats._resting.keys()


# The cache.


@audit.register
def _(cache: Cache) -> None:
    entries = cache._entries
    sizes = {path: row_bytes(path, entry.value) for path, entry in entries.items()}
    deadlines = {path: entry.expires_ms for path, entry in entries.items() if entry.expires_ms != NEVER}
    large = {path for path, entry in entries.items() if len(entry.value) > cache._limits.proactive_size_bytes}
    assert all(path == entry.path for path, entry in entries.items())
    assert cache._bytes == sum(sizes.values())
    assert cache._row_sizes == Counter(sizes.values())
    assert audited_entries(cache._prefixes) == entries
    assert audited_deadlines(cache._deadlines) == deadlines
    assert audited_deadlines(cache._large_deadlines) == {path: at for path, at in deadlines.items() if path in large}
    audit_order(cache._order, {path: entry for path, entry in entries.items() if not entry.is_kept})
    audit_order(cache._kept_order, {path: entry for path, entry in entries.items() if entry.is_kept})
    assert len(entries) <= cache._hard_keys
    assert cache._bytes <= cache._hard_bytes or len(entries) == 1


def audited_deadlines(index: DeadlineIndex[Any]) -> dict[Any, int]:
    """Audit an index of deadlines; returns the deadlines of all keys."""
    deadlines = dict(index._near)
    for number, bucket in index._buckets.items():
        assert bucket, "an empty bucket was left behind"
        for key, deadline_ms in bucket.items():
            assert key not in deadlines, "a key has two deadlines"
            assert deadline_ms >> _BUCKET_BITS == number, "a key is in the wrong bucket"
            deadlines[key] = deadline_ms
    assert {(deadline_ms, key) for key, deadline_ms in index._near.items()} <= set(index._heap)
    assert all(index._heap[(i - 1) // 2] <= index._heap[i] for i in range(1, len(index._heap)))
    assert len(index._heap) <= 2 * len(index._near) + _GARBAGE_FLOOR, "garbage on the heap"
    return deadlines


def audited_entries(index: PrefixIndex) -> dict[bytes, Entry]:
    """Audit an index of prefixes; returns all entries by path."""
    entries: dict[bytes, Entry] = {}
    for prefix, group in index._groups.items():
        assert group.entries, "an empty group was left behind"
        for path, entry in group.entries.items():
            assert path == entry.path
            assert prefix_of(path) == prefix
            entries[path] = entry
    return entries


def audit_order(order: EvictionOrder, entries: dict[bytes, Entry]) -> None:
    """Audit an order of eviction against all entries by path."""
    match order:
        case LruOrder():
            assert dict(order._entries) == entries
        case LfuOrder():
            assert all(order._levels.values()), "an empty level was left behind"
            for uses, level in order._levels.items():
                assert all(entry.uses == uses and entry.path == path for path, entry in level.items())
            assert {path: entry for level in order._levels.values() for path, entry in level.items()} == entries
        case TtlOrder():
            assert order._entries == {path: e for path, e in entries.items() if e.expires_ms != NEVER}
            assert audited_deadlines(order._deadlines) == {path: e.expires_ms for path, e in order._entries.items()}
            assert dict(order._everlasting) == {path: e for path, e in entries.items() if e.expires_ms == NEVER}
        case SampledOrder():
            assert all(entry.slot == slot for slot, entry in enumerate(order._entries))
            assert {entry.path: entry for entry in order._entries} == entries
            assert len(order._entries) == len(entries)
        case _:
            raise AssertionError(order)
