"""A queue item, and the queue of its prefix in every order that a statement reads it (commands.md §4.4, §4.5).

Two classes, one thought: an item refers to its queue and the queue's indexes follow the fields of its items.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from typing import Any, TypeAlias

from storage.asking import Caller
from storage.limits import QueueLimits
from storage.queue.indexes import NEVER_MS, IdIndex, TimeIndex
from storage.stats import QueueFigures, QueueStats
from storage.vocabulary import Path, Value

_id_of = attrgetter("id")

# Above so many rows, and above so large a part of all, a reading goes through all.
_MANY = 1_000
_MANY_PART = 16


@dataclass(slots=True, eq=False, repr=False)
class Item:
    """One queue item: pending until it is claimed, then active until it is acknowledged or cancelled.

    Times are wall clock in whole milliseconds. `orphaned_ms` is the time from which a pending item counts as orphaned
    by its own ORPHANED, None without one. Only the `ItemTable` that holds an item changes it: the indexes of `queue`
    follow these fields.
    """

    id: int
    path: Path
    queue: PrefixQueue
    payload: Value
    priority: int
    created_ms: int
    orphaned_ms: int | None
    added_by: Caller
    exclusive: bool
    external_id: bytes | None
    extra: Value | None = None
    active: bool = False
    key: bytes = b""  # the key of `path`, once the item is active: RETRIEVE lists all active items
    heartbeat_ms: int | None = None  # None before the first claim or HEARTBEAT
    claimed_by: Caller | None = None  # None while it is pending, as is the time
    claimed_ms: int | None = None

    @property
    def owner(self) -> bytes | None:
        """The process that alone may see and claim the item; None if every process may (commands.md §4.4)."""
        return self.added_by.process_id if self.exclusive else None

    @property
    def size_bytes(self) -> int:
        """The bytes that the item counts towards the size of the queue: payload and extra."""
        return len(self.payload) + (0 if self.extra is None else len(self.extra))

    def __repr__(self) -> str:
        return f"Item({self.id}, {self.path!r}, {'active' if self.active else 'pending'})"


@dataclass(slots=True, eq=False, repr=False)
class StoredResult:
    """The result of an acknowledged item. `taken` hides it from readers by path; `older` and `newer` chain the results
    of one path."""

    id: int
    path: Path
    value: Value
    external_id: bytes | None
    expire_ms: int
    taken: bool = False
    older: StoredResult | None = None
    newer: StoredResult | None = None


# Items by priority, and within one priority by rising id.
_Levels: TypeAlias = dict[int, IdIndex[Item]]


class Lane:
    """The items that the same callers may see: those that all may see, or one owner's EXCLUSIVE ones.

    Lists read by priority, then by creation. Ids rise from ADD to ADD, so the order of ids *is* the order of
    creation, whatever the wall clock did meanwhile. A level is dropped with its last item: sorting the levels
    never costs more than the rows they yield.
    """

    __slots__ = ("active", "pending")

    def __init__(self) -> None:
        self.pending: _Levels = {}
        self.active: IdIndex[Item] = IdIndex()

    def __bool__(self) -> bool:
        return bool(self.pending) or len(self.active) > 0


class PrefixQueue:
    """One queue: all items of a prefix. Only the `ItemTable` changes it.

    `due_ms` is never later than the moment at which the next of its items expires. `id` is a number that no other
    queue of the table has. `stalled_after_ms`, `orphaned_after_ms` and `concurrency` are those that were last asked for
    here.
    """

    __slots__ = (
        "_active",
        "_orphanable",
        "_owned",
        "_shared",
        "_waiting",
        "active_count",
        "concurrency",
        "due_ms",
        "id",
        "is_idle",
        "orphaned_after_ms",
        "pending_count",
        "prefix",
        "stalled_after_ms",
        "stats",
    )

    def __init__(self, id_: int, prefix: Path, stats: QueueStats) -> None:
        self.id = id_
        self.prefix = prefix
        self.stats = stats
        self.stalled_after_ms: int | None = None
        self.orphaned_after_ms: int | None = None
        self.concurrency: int | None = None
        self.due_ms = NEVER_MS
        self.is_idle = False  # whether the table has it among the queues to drop
        self.pending_count = 0
        self.active_count = 0
        self._shared = Lane()
        self._owned: dict[bytes, Lane] = {}
        self._waiting: TimeIndex[Item] = TimeIndex(attrgetter("created_ms"))  # pending, without ORPHANED
        self._orphanable: TimeIndex[Item] = TimeIndex(attrgetter("orphaned_ms"))  # pending, with ORPHANED
        self._active: TimeIndex[Item] = TimeIndex(attrgetter("heartbeat_ms"))

    def __len__(self) -> int:
        return self.pending_count + self.active_count

    # Changes.

    def add(self, item: Item) -> None:
        """Take in a new, pending item. O(1); O(log n) with a time of its own to be orphaned at."""
        levels = (self._lane_of(item) if item.exclusive else self._shared).pending
        level = levels.get(item.priority)
        if level is None:
            level = levels[item.priority] = IdIndex()
        level.add(item)
        if item.orphaned_ms is None:
            self._waiting.add(item, item.created_ms)
        else:
            self._orphanable.add(item, item.orphaned_ms)
        self.pending_count += 1

    def claim(self, item: Item, now_ms: int) -> None:
        """Turn a pending item into an active one. O(1), amortised."""
        lane = self._remove_pending(item)
        item.key = item.path.rpartition(b":")[2]
        item.active = True
        item.heartbeat_ms = now_ms
        lane.active.add(item)
        self._active.add(item, now_ms)
        self.active_count += 1

    def beat(self, item: Item, now_ms: int) -> None:
        """Set the heartbeat of an item, which stays what it is. O(1)."""
        if item.active:
            self._active.touch(item, now_ms)
        item.heartbeat_ms = now_ms

    def remove(self, item: Item) -> None:
        """Take out an item, pending or active. O(1), amortised."""
        if item.active:
            lane = self._lane_of(item) if item.exclusive else self._shared
            lane.active.remove(item)
            self._active.remove(item)
            self.active_count -= 1
        else:
            lane = self._remove_pending(item)
        if lane is not self._shared and not lane:
            assert item.owner is not None
            del self._owned[item.owner]

    def _remove_pending(self, item: Item) -> Lane:
        lane = self._lane_of(item) if item.exclusive else self._shared
        if not lane.pending[item.priority].remove(item):
            del lane.pending[item.priority]
        if item.orphaned_ms is None:
            self._waiting.remove(item)
        else:
            self._orphanable.remove(item)
        self.pending_count -= 1
        return lane

    def _lane_of(self, item: Item) -> Lane:
        """The lane of an EXCLUSIVE item."""
        owner = item.owner
        if owner is None:
            return self._shared  # an EXCLUSIVE item nobody owns is nobody's in particular (§4.4)
        lane = self._owned.get(owner)
        if lane is None:
            lane = self._owned[owner] = Lane()
        return lane

    # Readings: each costs the rows it yields.

    def pending(self, process_id: bytes | None) -> list[Item]:
        """Pending items that the process may see: priority falling, then id rising."""
        return _ranked([lane.pending for lane in self._lanes_of(process_id)])

    def active(self, process_id: bytes | None) -> list[Item]:
        """Active items that the process may see, id rising."""
        return list(_by_id([lane.active.rows() for lane in self._lanes_of(process_id) if lane.active]))

    def listed(self, process_id: bytes | None) -> list[Item]:
        """Pending and active items that the process may see: priority falling, then id rising."""
        lanes = self._lanes_of(process_id)
        return _ranked(
            [lane.pending for lane in lanes] + [_levels(lane.active.rows()) for lane in lanes if lane.active]
        )

    def all_active(self) -> Iterable[Item]:
        """Active items of all owners, id rising."""
        if not self.active_count:
            return ()
        if self._owned:
            return sorted(self._active.before(NEVER_MS), key=_id_of)
        return self._shared.active.rows()

    def _lanes_of(self, process_id: bytes | None) -> list[Lane]:
        own = self._owned.get(process_id) if process_id is not None else None
        return [self._shared] if own is None else [self._shared, own]

    def stalled(self, now_ms: int, timeout_ms: int) -> list[Item]:
        """Active items whose last heartbeat is longer ago than the timeout, id rising (§4.5)."""
        limit_ms = now_ms - timeout_ms
        many = max(_MANY, self.active_count // _MANY_PART)
        found = self._active.before(limit_ms, many)
        if len(found) > many:  # found by id, as they lie in memory, they take a fifth of the time
            actives = self.all_active()
            return [item for item in actives if (beat_ms := item.heartbeat_ms) is not None and beat_ms < limit_ms]
        found.sort(key=_id_of)
        return found

    def orphaned(self, now_ms: int, timeout_ms: int) -> list[Item]:
        """Pending items past their own ORPHANED time, or without one and older than the timeout, id rising (§4.5)."""
        waiting, due = self._waiting.before(now_ms - timeout_ms), self._orphanable.before(now_ms)
        if due or self._waiting.has_late:
            return sorted(waiting + due, key=_id_of)
        return waiting  # they came in the order of their ids, and never move

    def is_stalled(self, item: Item, now_ms: int) -> bool:
        """Whether `stalled` would name the item, with the timeout that was last asked for. O(1)."""
        timeout_ms, beat_ms = self.stalled_after_ms, item.heartbeat_ms
        return item.active and timeout_ms is not None and beat_ms is not None and beat_ms < now_ms - timeout_ms

    def is_orphaned(self, item: Item, now_ms: int) -> bool:
        """Whether `orphaned` would name the item, with the timeout that was last asked for. O(1)."""
        timeout_ms = self.orphaned_after_ms
        if item.active or timeout_ms is None:
            return False
        return item.created_ms < now_ms - timeout_ms if item.orphaned_ms is None else item.orphaned_ms < now_ms

    def figures(self, now_ms: int) -> QueueFigures:
        """How the queue stands. O(stalled items)."""
        firsts = [item for item in (self._waiting.first(), self._orphanable.first()) if item is not None]
        oldest_ms = min((item.created_ms for item in firsts), default=None)
        heartbeat_ms = self._active.first_ms()
        return QueueFigures(
            self.prefix,
            self.pending_count,
            self.active_count,
            None if oldest_ms is None else max(0, now_ms - oldest_ms),
            None if heartbeat_ms is None else max(0, now_ms - heartbeat_ms),
            0 if self.stalled_after_ms is None else len(self.stalled(now_ms, self.stalled_after_ms)),
            self.concurrency,
        )

    # Expiry (state-machine.md §1, "Item expiry").

    def expired(self, now_ms: int, limits: QueueLimits) -> list[Item]:
        """Items that have reached their end."""
        by_life_ms = now_ms - limits.item_life_ms + 1
        silent = self._active.before(by_life_ms)
        return [
            *self._waiting.before(by_life_ms),
            *self._orphanable.before(now_ms - limits.orphaned_item_life_ms + 1),
            *(item for item in silent if expiry_ms(item, limits) <= now_ms),
        ]

    def next_due_ms(self, now_ms: int, limits: QueueLimits) -> int:
        """When the next item can expire, given that none has expired by now. Exact unless heartbeats follow."""
        by_life_ms = now_ms - limits.item_life_ms + 1
        spared = self._active.before(by_life_ms)  # silent for long, but ORPHANED gave them longer
        dues = [expiry_ms(item, limits) for item in spared]
        for index, life_ms, at_least_ms in (
            (self._waiting, limits.item_life_ms, None),
            (self._orphanable, limits.orphaned_item_life_ms, None),
            (self._active, limits.item_life_ms, by_life_ms),
        ):
            first_ms = index.first_ms(at_least_ms)
            if first_ms is not None:
                dues.append(first_ms + life_ms)
        return min(dues, default=NEVER_MS)

    def give_away(self) -> list[dict[Any, Item]]:
        """What holds the items, for one who frees it in slices; the queue lets go of it. O(owners + priorities)."""
        lanes = [self._shared, *self._owned.values()]
        containers: list[dict[Any, Item]] = []
        for index in (self._waiting, self._orphanable, self._active):
            containers += index.containers()
        for lane in lanes:
            containers += lane.active.containers()
            for level in lane.pending.values():
                containers += level.containers()
        self._shared, self._owned = Lane(), {}
        self._waiting = TimeIndex(attrgetter("created_ms"))
        self._orphanable = TimeIndex(attrgetter("orphaned_ms"))
        self._active = TimeIndex(attrgetter("heartbeat_ms"))
        return containers


def expiry_ms(item: Item, limits: QueueLimits) -> int:
    """When an item expires: fixed at ADD, and not before an active one has been silent for a whole life."""
    if item.orphaned_ms is None:
        end_ms = item.created_ms + limits.item_life_ms
    else:
        end_ms = item.orphaned_ms + limits.orphaned_item_life_ms
    if item.active and item.heartbeat_ms is not None:
        return max(end_ms, item.heartbeat_ms + limits.item_life_ms)
    return end_ms


def _levels(items: Iterable[Item]) -> _Levels:
    levels: _Levels = {}
    for item in items:
        level = levels.get(item.priority)
        if level is None:
            level = levels[item.priority] = IdIndex()
        level.add(item)
    return levels


def _ranked(groups: list[_Levels]) -> list[Item]:
    """The items of all groups: priority falling, then id rising."""
    groups = [levels for levels in groups if levels]
    items: list[Item] = []
    for priority in sorted(set().union(*groups), reverse=True):
        items += _by_id([levels[priority].rows() for levels in groups if priority in levels])
    return items


def _by_id(runs: list[Iterable[Item]]) -> Iterable[Item]:
    """The items of all runs by rising id; each run rises already."""
    return runs[0] if len(runs) == 1 else sorted(chain.from_iterable(runs), key=_id_of)


def _ids(items: Iterable[Item]) -> list[int]:
    return sorted(item.id for item in items)
