"""Which entries leave a cache that is full, and how many (commands.md §5, "Eviction").

A policy is an `EvictionOrder`: it is told of every entry that comes, is used and goes, and names a victim when
asked. None of them scans:

| policy       | victim                                                      | cost of a use | cost of a victim     |
| ------------ | ----------------------------------------------------------- | ------------- | -------------------- |
| allkeys-lru  | used longest ago                                            | O(1)          | O(1)                 |
| allkeys-lfu  | lowest counter after decay, of those the one used first     | O(1)          | O(256)               |
| allkeys-ttl  | soonest to expire; without a TTL last, oldest write first   | none          | O(log n), amortised  |
| sampled-*    | the lowest of 6 drawn at random, by the same three weights  | O(1)          | O(6)                 |

How far a run goes is arithmetic on two numbers (`EvictionRun`) and knows no policy.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol

from storage.cache.deadlines import DeadlineIndex
from storage.cache.entry import NEVER, Entry
from storage.limits import CacheLimits, EvictionPolicy

SAMPLE_SIZE = 6

# A write sets the counter of LFU to this, so a new entry outlives entries whose counter has decayed.
INITIAL_USES = 10
MAX_USES = 255

# An eviction run takes away what is over the soft limit and 15 % of it more.
_AMOUNT_PERCENT = 115


class EvictionOrder(Protocol):
    """The order in which entries leave. `now_ms` may step back; that costs precision, never correctness."""

    def add(self, entry: Entry, now_ms: int) -> None:
        """An entry was written and is not in the order."""

    def use(self, entry: Entry, now_ms: int) -> None:
        """An entry was read."""

    def remove(self, entry: Entry) -> None:
        """An entry goes, or is about to be written anew."""

    def victim(self, now_ms: int) -> Entry | None:
        """The entry to evict next, left in place; None if there is none."""

    def containers(self) -> list[dict[Any, Any] | list[Any]]:
        """What holds the entries, for one who frees a dropped order in slices."""


def eviction_order(limits: CacheLimits, random: Callable[[], float]) -> EvictionOrder:
    """The order that the policy of `limits` names; `random` draws from [0, 1)."""
    counter = FrequencyCounter(limits, random)
    match limits.policy:
        case EvictionPolicy.ALLKEYS_LRU:
            return LruOrder()
        case EvictionPolicy.ALLKEYS_LFU:
            return LfuOrder(counter)
        case EvictionPolicy.ALLKEYS_TTL:
            return TtlOrder()
        case EvictionPolicy.SAMPLED_LRU:
            return SampledOrder(random, lambda entry, _: entry.used_ms)
        case EvictionPolicy.SAMPLED_LFU:
            return SampledLfuOrder(random, counter)
        case EvictionPolicy.SAMPLED_TTL:
            return SampledOrder(random, lambda entry, _: entry.expires_ms)


class FrequencyCounter:
    """Counts the uses of an entry in eight bits, in `Entry.uses` as of `Entry.used_ms` (commands.md §5, "LFU").

    A counter that rose at every use would be full after 255 uses. This one rises with a chance that falls as it grows:
    with the default factor 10, about 100 uses take it from 10 to 15 and 300 000 fill it. It falls by one for every
    decay time without a use. `random` draws from [0, 1).
    """

    __slots__ = ("_decay_ms", "_log_factor", "_random")

    def __init__(self, limits: CacheLimits, random: Callable[[], float]) -> None:
        self._random = random
        self._log_factor = limits.lfu_log_factor
        self._decay_ms = limits.lfu_decay_ms

    def reset(self, entry: Entry, now_ms: int) -> None:
        """A write: the count starts anew."""
        entry.uses = INITIAL_USES
        entry.used_ms = now_ms

    def count(self, entry: Entry, now_ms: int) -> None:
        """A use: decay for the time since the last one, then rise by one with a chance of 1 / (1 + factor * excess)."""
        uses = self.decayed(entry, now_ms)
        excess = uses - INITIAL_USES
        if excess <= 0 or (uses < MAX_USES and self._random() * (1 + self._log_factor * excess) < 1):
            uses += 1
        entry.uses = uses
        entry.used_ms = now_ms

    def decayed(self, entry: Entry, now_ms: int) -> int:
        """The counter now: one less for each whole decay time since the last use, and never below 0."""
        idle_ms = now_ms - entry.used_ms
        if idle_ms <= 0 or self._decay_ms <= 0:
            return entry.uses
        return max(entry.uses - idle_ms // self._decay_ms, 0)


class LruOrder:
    """Least recently used first, exactly: by the sequence of uses, not by the clock."""

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()

    def add(self, entry: Entry, now_ms: int) -> None:
        self._entries[entry.path] = entry

    def use(self, entry: Entry, now_ms: int) -> None:
        self._entries.move_to_end(entry.path)

    def remove(self, entry: Entry) -> None:
        del self._entries[entry.path]

    def victim(self, now_ms: int) -> Entry | None:
        return next(iter(self._entries.values()), None)

    def containers(self) -> list[dict[Any, Any] | list[Any]]:
        return [self._entries]


class LfuOrder:
    """Least frequently used first: by the counter as it stands after decay, then by last use.

    Entries of one counter value lie in the order of their last use. Decay grows with the time since then, so the
    front of each level is the lowest of its level, and the victim is the lowest of at most 256 fronts.
    """

    __slots__ = ("_counter", "_levels")

    def __init__(self, counter: FrequencyCounter) -> None:
        self._counter = counter
        self._levels: dict[int, OrderedDict[bytes, Entry]] = {}

    def add(self, entry: Entry, now_ms: int) -> None:
        self._counter.reset(entry, now_ms)
        self._enter(entry)

    def use(self, entry: Entry, now_ms: int) -> None:
        before = entry.uses
        self._counter.count(entry, now_ms)
        if entry.uses == before:
            self._levels[before].move_to_end(entry.path)
        else:
            self._leave(entry, before)
            self._enter(entry)

    def remove(self, entry: Entry) -> None:
        self._leave(entry, entry.uses)

    def victim(self, now_ms: int) -> Entry | None:
        decayed = self._counter.decayed
        fronts = (next(iter(level.values())) for level in self._levels.values())
        return min(fronts, key=lambda entry: (decayed(entry, now_ms), entry.used_ms), default=None)

    def containers(self) -> list[dict[Any, Any] | list[Any]]:
        return list(self._levels.values())

    def _enter(self, entry: Entry) -> None:
        level = self._levels.get(entry.uses)
        if level is None:
            level = self._levels[entry.uses] = OrderedDict()
        level[entry.path] = entry

    def _leave(self, entry: Entry, uses: int) -> None:
        level = self._levels[uses]
        del level[entry.path]
        if not level:
            del self._levels[uses]


class TtlOrder:
    """Soonest to expire first, to within the precision of `DeadlineIndex.soonest`.

    What never expires goes when nothing else is left, longest unwritten first.
    """

    __slots__ = ("_deadlines", "_entries", "_everlasting")

    def __init__(self) -> None:
        self._entries: dict[bytes, Entry] = {}  # that expire
        self._deadlines: DeadlineIndex[bytes] = DeadlineIndex()
        self._everlasting: OrderedDict[bytes, Entry] = OrderedDict()

    def add(self, entry: Entry, now_ms: int) -> None:
        if entry.expires_ms == NEVER:
            self._everlasting[entry.path] = entry
        else:
            self._entries[entry.path] = entry
            self._deadlines.add(entry.path, entry.expires_ms)

    def use(self, entry: Entry, now_ms: int) -> None:
        """A read does not prolong a life."""

    def remove(self, entry: Entry) -> None:
        if self._everlasting.pop(entry.path, None) is None:
            del self._entries[entry.path]
            self._deadlines.discard(entry.path, entry.expires_ms)

    def victim(self, now_ms: int) -> Entry | None:
        path = self._deadlines.soonest()
        return self._entries[path] if path is not None else next(iter(self._everlasting.values()), None)

    def containers(self) -> list[dict[Any, Any] | list[Any]]:
        return [self._everlasting, self._entries, *self._deadlines.containers()]


class SampledOrder:
    """The lowest of six entries drawn at random: keeps no order, so a use costs next to nothing."""

    __slots__ = ("_entries", "_random", "_weight")

    def __init__(self, random: Callable[[], float], weight: Callable[[Entry, int], int]) -> None:
        self._random = random
        self._weight = weight
        self._entries: list[Entry] = []

    def add(self, entry: Entry, now_ms: int) -> None:
        entry.used_ms = now_ms
        entry.slot = len(self._entries)
        self._entries.append(entry)

    def use(self, entry: Entry, now_ms: int) -> None:
        entry.used_ms = now_ms

    def remove(self, entry: Entry) -> None:
        last = self._entries.pop()
        if last is not entry:
            self._entries[entry.slot] = last
            last.slot = entry.slot

    def victim(self, now_ms: int) -> Entry | None:
        entries, random, weight = self._entries, self._random, self._weight
        if len(entries) <= SAMPLE_SIZE:
            sample = entries
        else:
            sample = [entries[int(random() * len(entries))] for _ in range(SAMPLE_SIZE)]
        return min(sample, key=lambda entry: weight(entry, now_ms), default=None)

    def containers(self) -> list[dict[Any, Any] | list[Any]]:
        return [self._entries]


class SampledLfuOrder(SampledOrder):
    """The lowest counter after decay of six entries drawn at random."""

    __slots__ = ("_counter",)

    def __init__(self, random: Callable[[], float], counter: FrequencyCounter) -> None:
        super().__init__(random, counter.decayed)
        self._counter = counter

    def add(self, entry: Entry, now_ms: int) -> None:
        super().add(entry, now_ms)
        self._counter.reset(entry, now_ms)

    def use(self, entry: Entry, now_ms: int) -> None:
        self._counter.count(entry, now_ms)


class EvictionRun:
    """How far a cache is emptied: what is over the soft limit, and 15 % of it more; first by keys, then by bytes.

    A run may be carried out in slices with other statements in between. It therefore aims at a level, which is set
    when the run, or its second half, begins.
    """

    __slots__ = ("_goal_bytes", "_goal_keys", "_limits", "active")

    def __init__(self, limits: CacheLimits) -> None:
        self._limits = limits
        self.active = False
        self._goal_keys = self._goal_bytes = NEVER

    def begin(self, keys: int, size_bytes: int) -> None:
        """Begin a run if a soft limit is exceeded and none is under way."""
        if not self.active:
            self._aim(keys, size_bytes)

    def wants_more(self, keys: int, size_bytes: int) -> bool:
        """Whether the run has not come to its end at this level."""
        if self.active and keys <= self._goal_keys and size_bytes <= self._goal_bytes:
            self._aim(keys, size_bytes)
        return self.active

    def abandon(self) -> None:
        """End the run where it stands."""
        self.active = False

    def _aim(self, keys: int, size_bytes: int) -> None:
        limits = self._limits
        self._goal_keys = self._goal_bytes = NEVER
        self.active = True
        if keys > limits.max_keys:
            self._goal_keys = level_after_run(keys, limits.max_keys)
        elif size_bytes > limits.max_bytes:
            self._goal_bytes = level_after_run(size_bytes, limits.max_bytes)
        else:
            self.active = False


def level_after_run(current: int, soft_limit: int) -> int:
    """What an eviction run leaves of `current`, a number of keys or of bytes over its soft limit."""
    return max(current - (current - soft_limit) * _AMOUNT_PERCENT // 100, 0)


def hard_limit(soft_limit: int) -> int:
    """What no insert may exceed: a quarter over the soft limit, and never nothing."""
    return max(soft_limit + soft_limit // 4, 1)
