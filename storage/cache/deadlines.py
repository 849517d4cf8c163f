"""What is due when: an index of keys by deadline that needs no timers and leaves no garbage behind.

Most deadlines are overwritten or removed long before they come. So far ones are only *grouped*: a bucket holds
every key whose deadline falls into the same four seconds, and leaving a bucket is exact and leaves nothing. Only
the bucket that the clock is in is put in exact order, on a heap, in slices.

A pop never looks at a timer or at an earlier call, only at the `now_ms` it gets: a clock that steps back finds
the keys where they were.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

from sortedcontainers import SortedDict

# 4096 ms. Narrower buckets put fewer keys on the heap; wider ones cost less memory when deadlines lie scattered.
_BUCKET_BITS = 12

# How many keys `soonest` may put in order at once.
_SOONEST_SLICE = 64

# The heap may hold this many stale entries more than good ones.
_GARBAGE_FLOOR = 64

K = TypeVar("K", bound=Hashable)


class DeadlineIndex(Generic[K]):
    """Keys by deadline, in milliseconds since the epoch. A key is in it once; keys must be comparable.

    Costs: `add` and `discard` O(1), plus O(log buckets) for the first and last key of a bucket; `pop_expired`
    O(max_rows * log(keys of one bucket)); memory O(keys), whatever was added and discarded before.
    """

    __slots__ = ("_buckets", "_heap", "_near")

    def __init__(self) -> None:
        self._buckets: SortedDict[int, dict[K, int]] = SortedDict()
        # Keys taken out of their bucket, and the heap of them: an entry of the heap counts only while it agrees.
        self._near: dict[K, int] = {}
        self._heap: list[tuple[int, K]] = []

    def add(self, key: K, deadline_ms: int) -> None:
        """Add a key that is not in the index."""
        number = deadline_ms >> _BUCKET_BITS
        bucket = self._buckets.get(number)
        if bucket is None:
            self._buckets[number] = {key: deadline_ms}
        else:
            bucket[key] = deadline_ms

    def discard(self, key: K, deadline_ms: int) -> None:
        """Take out a key that was added with this deadline; nothing happens if it was popped already."""
        number = deadline_ms >> _BUCKET_BITS
        bucket = self._buckets.get(number)
        if bucket is not None and bucket.pop(key, None) is not None:
            if not bucket:
                del self._buckets[number]
        elif self._near.pop(key, None) is not None:
            self._limit_garbage()

    def pop_expired(self, now_ms: int, max_rows: int) -> list[K]:
        """Take out keys whose deadline is `now_ms` or earlier, in no particular order.

        Touches about `max_rows` keys and returns all that are due when that is enough; `may_be_due` tells.
        """
        current = now_ms >> _BUCKET_BITS
        popped: list[K] = []
        budget = max_rows
        while budget > 0 and self._buckets:
            number, bucket = self._buckets.peekitem(0)
            if number > current:
                break
            count = min(budget, len(bucket))
            budget -= count
            if number < current:
                popped += [bucket.popitem()[0] for _ in range(count)]
            else:
                self._order(bucket, count)
            if not bucket:
                del self._buckets[number]
        heap, near = self._heap, self._near
        while heap and heap[0][0] <= now_ms and len(popped) < max_rows:
            deadline_ms, key = heapq.heappop(heap)
            if near.get(key) == deadline_ms:
                del near[key]
                popped.append(key)
        self._limit_garbage()
        return popped

    def may_be_due(self, now_ms: int) -> bool:
        """False: nothing is due. True: something is due, or might be because it was not put in order yet. O(1)."""
        if self._heap and self._heap[0][0] <= now_ms:
            return True
        return bool(self._buckets) and self._buckets.peekitem(0)[0] <= now_ms >> _BUCKET_BITS

    def soonest(self) -> K | None:
        """The key with the earliest deadline, left in place; None if the index is empty.

        Exact, unless one bucket holds more than 64 keys: then it is the earliest of those put in order so far.
        Amortised O(log n): each key is put in order once.
        """
        heap, near = self._heap, self._near
        while heap and near.get(heap[0][1]) != heap[0][0]:
            heapq.heappop(heap)
        if self._buckets:
            number, bucket = self._buckets.peekitem(0)
            if not heap or number <= heap[0][0] >> _BUCKET_BITS:
                self._order(bucket, min(_SOONEST_SLICE, len(bucket)))
                if not bucket:
                    del self._buckets[number]
        return heap[0][1] if heap else None

    def expired(self, now_ms: int) -> Iterator[K]:
        """The keys that are due, left in place. O(keys in the buckets up to the one that the clock is in)."""
        last = now_ms >> _BUCKET_BITS
        for number in self._buckets.irange(maximum=last):
            for key, deadline_ms in self._buckets[number].items():
                if deadline_ms <= now_ms:
                    yield key
        for key, deadline_ms in self._near.items():
            if deadline_ms <= now_ms:
                yield key

    def containers(self) -> list[dict[K, int]]:
        """The dicts that hold the keys, for one who frees a dropped index in slices."""
        return [*self._buckets.values(), self._near]

    def _order(self, bucket: dict[K, int], count: int) -> None:
        for _ in range(count):
            key, deadline_ms = bucket.popitem()
            self._near[key] = deadline_ms
            heapq.heappush(self._heap, (deadline_ms, key))

    def _limit_garbage(self) -> None:
        # A rebuild leaves no stale entry, so at least as many discards as it costs lie between two of them.
        if len(self._heap) > 2 * len(self._near) + _GARBAGE_FLOOR:
            self._heap = [(deadline_ms, key) for key, deadline_ms in self._near.items()]
            heapq.heapify(self._heap)
