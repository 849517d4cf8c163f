"""The CACHE half of the state machine (commands.md §5, state-machine.md §4).

                 SET, SET NX, INCR
      absent ------------------------> live ---+  SET: value and TTL replaced; INCR: value + 1, TTL kept;
        ^                               |      |  SET NX: unchanged; GET: a use
        |  REMOVE, CLEAR, eviction      | <----+
        +-------------------------------+
        |                               |  expiry <= now
        |  `tick`, or SET, INCR         v
        +---------------------------- expired: invisible to GET, KEYS, SET NX and INCR

Only `insert`, `_replace`, `_remove` and `clear` change rows, together with all indexes.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from storage import vocabulary
from storage.asking import Caller
from storage.cache.deadlines import DeadlineIndex
from storage.cache.drop_guard import MARKS, REFRESH_END, DropGuard
from storage.cache.entry import NEVER, ROW_OVERHEAD_BYTES, Entry, incremented, row_bytes
from storage.cache.eviction import EvictionRun, eviction_order, hard_limit
from storage.cache.keep import KeepPatterns
from storage.cache.prefixes import PrefixIndex, prefix_of_argument
from storage.errors import UserError
from storage.keys import key_of, prefix_of
from storage.limits import SECOND_MS, CacheLimits
from storage.listings import listing
from storage.reclaim import Reclaimer
from storage.recorder import Recorder
from storage.stats import PrefixTotalsTable, human_size, info_rows
from storage.vocabulary import EMPTY_RESULT, VALUE_COLUMNS, Path, Result, Row, Statement, Value

# One object each, so that encoders can keep the bytes of these answers.
SET = Result(vocabulary.SUCCESS_COLUMNS, ((True,),))
NOT_SET = Result(vocabulary.SUCCESS_COLUMNS, ((False,),))
ABSENT = Result(VALUE_COLUMNS, ((None,),))

# An insert into a full cache removes up to this many expired rows before it evicts live ones.
_EXPIRED_SLICE = 64

# Rows that one step of SYS CACHESTORE EVICTION removes: half a millisecond.
_EVICTION_STEP = 128


def too_large_to_set(path: Path, size_bytes: int, limits: CacheLimits) -> UserError:
    """The refusal of a SET of this many bytes."""
    return UserError(
        f"Unable to SET cache with '{key_of(path).decode(errors='replace')}' key, exceeds maximum allowed size"
        f" for payload: {human_size(size_bytes)}, max allowed: {human_size(limits.max_entry_bytes)}"
    )


def eviction_rows(keys: int, size_bytes: int, removed_keys: int, removed_bytes: int) -> list[Row]:
    """The rows of SYS CACHESTORE EVICTION: what is left, and what was removed (commands.md §6)."""
    skipped = b"rows that had gone before their turn; always 0: none is chosen ahead"
    return [
        (b"stats_total_keys", b"%d" % keys, None),
        (b"stats_total_raw_size", human_size(size_bytes).encode(), None),
        (b"total_keys_removed", b"%d" % removed_keys, None),
        (b"total_size_removed", human_size(removed_bytes).encode(), None),
        (b"total_delete_skipped", b"0", skipped),
    ]


class Cache:
    """Values by path, within limits. `random` draws from [0, 1); only LFU and the sampled policies use it.

    Costs: GET, SET, INCR and REMOVE O(1), or O(log n) with a TTL; KEYS O(1) plus one pass over the prefix's rows;
    CLEAR O(prefixes), then `tick` frees the rows. A SET at the hard limit evicts as many bytes as it needs: each victim
    gives back 160 bytes or more, so there is at most one victim for every 160 bytes of the value, plus one.

    After every statement the cache is within its hard limits, or holds a single entry larger than the limit.
    """

    def __init__(self, limits: CacheLimits, random: Callable[[], float], recorder: Recorder | None = None) -> None:
        self._limits = limits
        self._random = random
        self._recorder = recorder
        self._hard_keys = hard_limit(limits.max_keys)
        self._hard_bytes = hard_limit(limits.max_bytes)
        self._reclaimer = Reclaimer()
        self._run = EvictionRun(limits)
        self._seen_ms = 0
        self._last_pass_ms: int | None = None
        self.totals = PrefixTotalsTable()
        self._keep = KeepPatterns(limits.keep)
        self.guard = DropGuard(limits.drop_guard_ms, self._on_guard_changed)
        self._evicted_keys = self._evicted_bytes = 0
        self._expired_keys = self._expired_bytes = 0
        self._begin_empty()
        self.handlers: dict[type[Statement], Callable[[Any, Caller, int], Result]] = {
            vocabulary.CacheSet: self._on_set,
            vocabulary.CacheGet: self._on_get,
            vocabulary.CacheKeys: self._on_keys,
            vocabulary.CacheIncr: self._on_incr,
            vocabulary.CacheRemove: self._on_remove,
            vocabulary.CacheClear: self._on_clear,
        }

    # Statements. The two most frequent, SET and GET, have the test of `see` inline.

    def _on_set(self, statement: vocabulary.CacheSet, caller: Caller, now_ms: int) -> Result:
        if now_ms < self._seen_ms:
            self.see(now_ms)
        self._seen_ms = now_ms
        path, value = statement.path, statement.value
        if len(value) >= self._limits.max_entry_bytes:
            raise too_large_to_set(path, len(value), self._limits)
        ttl_s = statement.ttl_s
        expires_ms = NEVER if ttl_s is None else min(now_ms + ttl_s * SECOND_MS, NEVER)
        entry = self._entries.get(path)
        if entry is not None and entry.expires_ms <= now_ms:
            self._remove_expired(entry)
            entry = None
        if entry is None:
            self.insert(path, value, expires_ms, now_ms)
        elif statement.nx:
            return NOT_SET
        else:
            self._replace(entry, value, expires_ms, now_ms)
        return SET

    def _on_get(self, statement: vocabulary.CacheGet, caller: Caller, now_ms: int) -> Result:
        if now_ms < self._seen_ms:
            self.see(now_ms)
        self._seen_ms = now_ms
        entry = self._entries.get(statement.path)
        if entry is None or entry.expires_ms <= now_ms:
            self.totals.of(prefix_of(statement.path)).misses += 1
            return ABSENT
        if now_ms < self.guard.until_ms and entry.path.endswith(REFRESH_END):
            entry.totals.misses += 1
            return ABSENT
        entry.totals.hits += 1
        (self._use_kept if entry.is_kept else self._use)(entry, now_ms)
        return Result(VALUE_COLUMNS, ((entry.value,),))

    def _on_keys(self, statement: vocabulary.CacheKeys, caller: Caller, now_ms: int) -> Result:
        self.see(now_ms)
        prefix, index = prefix_of_argument(statement.prefix), self._prefixes
        paths = index.live_paths(prefix, now_ms) if self._deadlines.may_be_due(now_ms) else index.paths(prefix)

        def rows_of(part: slice) -> list[Row]:
            """Keys count as used when they are listed: marks of pre-aggregations are read by KEYS alone."""
            entries, use_kept = self._entries, self._use_kept
            for path in paths[part]:
                entry = entries.get(path)
                if entry is not None and entry.is_kept:
                    use_kept(entry, now_ms)
            return [(path,) for path in paths[part]]

        return Result(vocabulary.KEY_COLUMNS, listing(len(paths), rows_of))

    def _on_incr(self, statement: vocabulary.CacheIncr, caller: Caller, now_ms: int) -> Result:
        self.see(now_ms)
        path = statement.path
        entry = self._entries.get(path)
        if entry is not None and entry.expires_ms <= now_ms:
            self._remove_expired(entry)
            entry = None
        if entry is None:
            value = b"1"
            self.insert(path, value, NEVER, now_ms)
        else:
            value = incremented(path, entry.value)
            self._replace(entry, value, entry.expires_ms, now_ms)
        return Result(VALUE_COLUMNS, ((value,),))

    def _on_remove(self, statement: vocabulary.CacheRemove, caller: Caller, now_ms: int) -> Result:
        self.see(now_ms)
        entry = self._entries.get(statement.path)
        if entry is not None:
            self._remove(entry)
        return EMPTY_RESULT

    def _on_clear(self, statement: vocabulary.CacheClear, caller: Caller, now_ms: int) -> Result:
        self.clear(now_ms)
        return EMPTY_RESULT

    # Rows.

    def _begin_empty(self) -> None:
        self._entries: dict[bytes, Entry] = {}
        self._prefixes = PrefixIndex(self.totals)
        self._deadlines: DeadlineIndex[bytes] = DeadlineIndex()
        # Deadlines of large values only: the proactive rule evicts these values shortly before they expire.
        self._large_deadlines: DeadlineIndex[bytes] = DeadlineIndex()
        self._order = eviction_order(self._limits, self._random)
        self._kept_order = eviction_order(self._limits, self._random)
        self._use, self._use_kept = self._order.use, self._kept_order.use
        self._bytes = 0
        self._row_sizes: dict[int, int] = {}  # how many rows have a size

    def insert(self, path: Path, value: Value, expires_ms: int, now_ms: int) -> None:
        """Put a new entry, last used at `now_ms`; evicts others to keep the hard limits."""
        size = len(path) + len(value) + ROW_OVERHEAD_BYTES
        if len(self._entries) >= self._hard_keys or self._bytes + size > self._hard_bytes:
            self._make_room(1, size, now_ms)
        entry = Entry(path, value, expires_ms, is_kept=self._keep.matches(path))
        self._entries[path] = entry
        self._prefixes.add(entry)
        self._enter(entry, size, now_ms)
        if self._recorder is not None:
            self._recorder.entry_put(entry, None)

    def _replace(self, entry: Entry, value: Value, expires_ms: int, now_ms: int) -> None:
        """Give an entry a new value. It leaves the order of eviction while room is made: it must not be a victim."""
        self._leave(entry)
        size = len(entry.path) + len(value) + ROW_OVERHEAD_BYTES
        if len(self._entries) > self._hard_keys or self._bytes + size > self._hard_bytes:
            self._make_room(0, size, now_ms)
        old = entry.value
        entry.value = value
        entry.expires_ms = expires_ms
        self._enter(entry, size, now_ms)
        if self._recorder is not None:
            self._recorder.entry_put(entry, old)

    def _remove(self, entry: Entry) -> None:
        self._leave(entry)
        del self._entries[entry.path]
        self._prefixes.remove(entry.path)
        if self._recorder is not None:
            self._recorder.entry_removed(entry)

    def clear(self, now_ms: int) -> None:
        """Drop every row. O(prefixes + buckets of deadlines); `tick` frees the rows in slices."""
        recorder = self._recorder
        self._reclaimer.defer([self._entries], None if recorder is None else lambda row: recorder.entry_freed(row[1]))
        orders = [*self._order.containers(), *self._kept_order.containers()]
        self._reclaimer.defer([*self._prefixes.containers(), *orders])
        self._reclaimer.defer([*self._deadlines.containers(), *self._large_deadlines.containers()])
        self._begin_empty()
        self._run.abandon()
        if recorder is not None:
            recorder.cache_cleared()
        self.guard.begin(now_ms)

    def _enter(self, entry: Entry, size: int, now_ms: int) -> None:
        """Add an entry to the sizes, the deadlines and the order of eviction."""
        self._bytes += size
        sizes = self._row_sizes
        sizes[size] = sizes.get(size, 0) + 1
        if entry.expires_ms != NEVER:
            self._deadlines.add(entry.path, entry.expires_ms)
            if len(entry.value) > self._limits.proactive_size_bytes:
                self._large_deadlines.add(entry.path, entry.expires_ms)
        (self._kept_order if entry.is_kept else self._order).add(entry, now_ms)

    def _leave(self, entry: Entry) -> None:
        """Undo `_enter`, before the entry changes or goes."""
        size = row_bytes(entry.path, entry.value)
        self._bytes -= size
        sizes = self._row_sizes
        if sizes[size] > 1:
            sizes[size] -= 1
        else:
            del sizes[size]
        if entry.expires_ms != NEVER:
            self._deadlines.discard(entry.path, entry.expires_ms)
            if len(entry.value) > self._limits.proactive_size_bytes:
                self._large_deadlines.discard(entry.path, entry.expires_ms)
        (self._kept_order if entry.is_kept else self._order).remove(entry)

    # Expiry and eviction.

    def tick(self, now_ms: int, max_rows: int) -> bool:
        """Free the rows of CLEAR, remove expired rows, continue eviction; about `max_rows` rows at most.

        True when more is due already. The soft limits are checked every `eviction_interval_ms`; the first pass after a
        start only removes expired rows.
        """
        self.see(now_ms)
        self.guard.see(now_ms)
        budget = max_rows - self._reclaimer.free(max_rows)
        budget -= self._drop_expired(now_ms, budget)
        if self._is_pass_due(now_ms):
            self._run.begin(len(self._entries), self._bytes)
        self._go_on(now_ms, budget)
        return bool(self._reclaimer) or self._run.active or self._deadlines.may_be_due(now_ms)

    def evict(self, now_ms: int) -> Generator[None, None, Result]:
        """Do a whole eviction pass in steps, for SYS CACHESTORE EVICTION (§6). O(removed rows), 3 µs each.

        Other statements may run between two steps: what they write or take away does not count as removed.
        """
        removed_keys = removed_bytes = 0
        is_begun = False
        while True:
            keys, size = len(self._entries), self._bytes
            if self._deadlines.may_be_due(now_ms):
                self._drop_expired(now_ms, _EVICTION_STEP)
            elif not is_begun:
                self._run.begin(keys, size)
                is_begun = True
            elif self._run.active:
                self._go_on(now_ms, _EVICTION_STEP)
            else:
                break
            removed_keys += keys - len(self._entries)
            removed_bytes += size - self._bytes
            if keys - len(self._entries) >= _EVICTION_STEP:
                yield
        rows = eviction_rows(len(self._entries), self._bytes, removed_keys, removed_bytes)
        return Result(vocabulary.INFO_COLUMNS, rows)

    def see(self, now_ms: int) -> None:
        """Note the time. If the clock stepped back, rows that had expired before are removed: they must not come back.

        O(1) unless the clock stepped back.
        """
        if now_ms < self._seen_ms:
            self._drop_all_expired(self._seen_ms)
        self._seen_ms = now_ms

    def _make_room(self, keys: int, size: int, now_ms: int) -> None:
        """Evict until `keys` rows with `size` bytes more fit under the hard limits, or the cache is empty.

        A slice of expired entries goes first. Call it only if they do not fit; `tick` continues to the soft limits.
        """
        self._run.begin(len(self._entries) + keys, self._bytes + size)
        if self._deadlines.may_be_due(now_ms):
            self._drop_expired(now_ms, _EXPIRED_SLICE)
        while len(self._entries) + keys > self._hard_keys or self._bytes + size > self._hard_bytes:
            victim = self._victim(now_ms)
            if victim is None:
                break
            self._evict(victim, now_ms)

    def _victim(self, now_ms: int) -> Entry | None:
        """The entry to evict next: one that is kept only when there is no other."""
        return self._order.victim(now_ms) or self._kept_order.victim(now_ms)

    def _on_guard_changed(self, until_ms: int) -> None:
        if self._recorder is not None:
            self._recorder.guard_set(until_ms)

    def _is_pass_due(self, now_ms: int) -> bool:
        last_ms = self._last_pass_ms
        if last_ms is not None and 0 <= now_ms - last_ms < self._limits.eviction_interval_ms:
            return False
        self._last_pass_ms = now_ms
        return last_ms is not None

    def _go_on(self, now_ms: int, max_rows: int) -> None:
        """Continue a run with up to `max_rows` victims: first large values about to expire, then by policy."""
        if max_rows <= 0 or not self._run.active:
            return
        about_to_expire = self._large_deadlines.pop_expired(now_ms + self._limits.proactive_ttl_ms, max_rows)
        for path in about_to_expire:
            self._evict(self._entries[path], now_ms)
        for _ in range(max_rows - len(about_to_expire)):
            if not self._run.wants_more(len(self._entries), self._bytes):
                return
            victim = self._victim(now_ms)
            if victim is None:
                self._run.abandon()
                return
            self._evict(victim, now_ms)

    def _drop_expired(self, now_ms: int, max_rows: int) -> int:
        """Remove up to `max_rows` expired rows; returns how many."""
        paths = self._deadlines.pop_expired(now_ms, max_rows)
        for path in paths:
            self._remove_expired(self._entries[path])
        return len(paths)

    def _drop_all_expired(self, now_ms: int) -> None:
        while self._deadlines.may_be_due(now_ms):
            self._drop_expired(now_ms, len(self._entries) + 1)

    def _remove_expired(self, entry: Entry) -> None:
        self._expired_keys += 1
        self._expired_bytes += row_bytes(entry.path, entry.value)
        self._remove(entry)

    def _evict(self, entry: Entry, now_ms: int) -> None:
        if entry.expires_ms <= now_ms:
            self._remove_expired(entry)
            return
        self._evicted_keys += 1
        self._evicted_bytes += row_bytes(entry.path, entry.value)
        self._remove(entry)
        if MARKS in entry.path:
            self.guard.begin(now_ms)

    # Readings.

    def entries(self) -> list[Entry]:
        """All rows, expired ones included, in order of insertion. O(rows), ten nanoseconds each."""
        return list(self._entries.values())

    def holds(self, entry: Entry) -> bool:
        """Whether a row is still there. O(1)."""
        return self._entries.get(entry.path) is entry

    def gauges(self) -> dict[str, int]:
        """Counts and bytes by name, O(named prefixes). An evicted row that had expired counts as expired."""
        return {
            "cache_keys": len(self._entries),
            "cache_bytes": self._bytes,
            "cache_hits": self.totals.hits,
            "cache_misses": self.totals.misses,
            "cache_evicted_keys": self._evicted_keys,
            "cache_evicted_bytes": self._evicted_bytes,
            "cache_expired_keys": self._expired_keys,
            "cache_expired_bytes": self._expired_bytes,
            "drop_guard_until_s": self.guard.until_s(),
        }

    def info(self, now_ms: int) -> list[Row]:
        """The rows of SYS CACHESTORE INFO. O(distinct row sizes + expired rows that are still held)."""
        self.see(now_ms)
        expired = [row_bytes(path, self._entries[path].value) for path in self._deadlines.expired(now_ms)]
        return info_rows("CacheItems", len(self._entries), self._bytes, self._row_sizes, expired)
