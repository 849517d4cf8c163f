"""The cache as commands.md §5 describes it: one list of entries in insertion order, and scans."""

from __future__ import annotations

import math
from collections.abc import Iterable

from storage.errors import InternalError, UserError
from storage.limits import SECOND_MS, CacheLimits, EvictionPolicy
from storage.vocabulary import (
    EMPTY_RESULT,
    KEY_COLUMNS,
    SUCCESS_COLUMNS,
    VALUE_COLUMNS,
    Binary,
    CacheGet,
    CacheIncr,
    CacheKeys,
    CacheRemove,
    CacheSet,
    Result,
)
from tests.model.records import Entry, OversizeError, key_of

INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1
HARD_LIMIT = 1.25
RUN_EXCESS = 1.15
TOO_LARGE = "Unable to SET cache with '{}' key, exceeds maximum allowed size for payload: {}, max allowed: {}"


class NaiveCache:
    """One cache. With `evicts` off nothing is ever evicted: the caller compares with an engine that does."""

    def __init__(self, limits: CacheLimits, *, evicts: bool = True) -> None:
        self.limits = limits
        self.evicts = evicts
        self.entries: list[Entry] = []
        self.uses = 0
        self.last_run_ms: int | None = None

    def strike(self, now_ms: int) -> None:
        """An entry is live while its expiry is later than now (commands.md §5)."""
        self.entries = [entry for entry in self.entries if entry.expire_ms is None or entry.expire_ms > now_ms]

    def find(self, path: bytes) -> Entry | None:
        return next((entry for entry in self.entries if entry.path == path), None)

    def bytes_held(self) -> int:
        return sum(len(entry.value) for entry in self.entries)

    def set(self, ask: CacheSet, now_ms: int) -> Result:
        """SET replaces value and TTL and keeps the position; SET NX leaves a live entry alone."""
        self._refuse_oversize(ask)
        entry = self.find(ask.path)
        if entry and ask.nx:
            return Result(SUCCESS_COLUMNS, [(False,)])
        expire_ms = None if ask.ttl_s is None else now_ms + ask.ttl_s * SECOND_MS
        self._write(entry, ask.path, ask.value, expire_ms, now_ms)
        return Result(SUCCESS_COLUMNS, [(True,)])

    def get(self, ask: CacheGet, now_ms: int) -> Result:
        """Always one row, NULL when there is no live entry; a use."""
        entry = self.find(ask.path)
        if entry:
            self._use(entry, now_ms)
        return Result(VALUE_COLUMNS, [(entry.value if entry else None,)])

    def keys(self, ask: CacheKeys) -> Result:
        """commands.md §3: one trailing `:*` or `:` is cut, then the prefix must be equal; insertion order."""
        prefix = ask.prefix
        for tail in (b":*", b":"):
            if prefix.endswith(tail):
                prefix = prefix.removesuffix(tail)
                break
        return Result(KEY_COLUMNS, [(entry.path,) for entry in self.entries if entry.prefix == prefix])

    def incr(self, ask: CacheIncr, now_ms: int) -> Result:
        """`1` without TTL when there is no live entry; else the number plus one, its TTL kept."""
        entry = self.find(ask.path)
        if entry is None:
            self._write(None, ask.path, b"1", None, now_ms)
            return Result(VALUE_COLUMNS, [(b"1",)])
        if isinstance(entry.value, Binary):
            raise UserError(f'Unable to increment cache item "{ask.path.decode()}": value is binary')
        value = b"%d" % (_int64(entry.value) + 1)
        _int64(value)
        self._write(entry, ask.path, value, entry.expire_ms, now_ms)
        return Result(VALUE_COLUMNS, [(value,)])

    def remove(self, ask: CacheRemove) -> Result:
        self.entries = [entry for entry in self.entries if entry.path != ask.path]
        return EMPTY_RESULT

    def clear(self) -> Result:
        self.entries = []
        return EMPTY_RESULT

    def _refuse_oversize(self, ask: CacheSet) -> None:
        """At the limit is too large already (commands.md §5)."""
        size, limit = len(ask.value), self.limits.max_entry_bytes
        if size >= limit:
            raise OversizeError(TOO_LARGE.format(key_of(ask.path).decode(), human(size), human(limit)))

    def _write(self, entry: Entry | None, path: bytes, value: bytes, expire_ms: int | None, now_ms: int) -> None:
        if entry is None:
            entry = Entry(path, b"", expire_ms, 0, now_ms)
            self._make_room(1, len(value), entry, now_ms)
            self.entries.append(entry)
        else:
            self._make_room(0, len(value) - len(entry.value), entry, now_ms)
        entry.value, entry.expire_ms = value, expire_ms
        self._use(entry, now_ms)

    def _use(self, entry: Entry, now_ms: int) -> None:
        self.uses += 1
        entry.used, entry.used_ms = self.uses, now_ms

    # Eviction (commands.md §5, "Eviction"). Which of several unused entries LFU and the sampled policies drop is
    # theirs to choose: this is the least recently used one.

    def run_eviction(
        self, now_ms: int, more_keys: int = 0, more_bytes: int = 0, spared: Entry | None = None
    ) -> list[bytes]:
        """One run: entries that are large and about to expire, then by keys, then by bytes. Returns the victims."""
        self.last_run_ms = now_ms
        victims = [e.path for e in self.entries if e is not spared and self.is_proactive_victim(e, now_ms)]
        self.drop(victims)
        keys_over = (len(self.entries) + more_keys - self.limits.max_keys) * RUN_EXCESS
        by_keys = [entry.path for entry in self.in_order_of_going(spared)[: math.ceil(max(keys_over, 0))]]
        self.drop(by_keys)
        by_bytes = []
        bytes_over = (self.bytes_held() + more_bytes - self.limits.max_bytes) * RUN_EXCESS
        for entry in self.in_order_of_going(spared):
            if bytes_over <= 0:
                break
            bytes_over -= len(entry.value)
            by_bytes.append(entry.path)
        self.drop(by_bytes)
        return victims + by_keys + by_bytes

    def is_proactive_victim(self, entry: Entry, now_ms: int) -> bool:
        """Larger than 256 KiB and expiring within 5 s."""
        limits = self.limits
        is_large = len(entry.value) > limits.proactive_size_bytes
        return is_large and entry.expire_ms is not None and entry.expire_ms - now_ms <= limits.proactive_ttl_ms

    def in_order_of_going(self, spared: Entry | None = None) -> list[Entry]:
        """Who goes first under the policy: the least recently used, or the next to expire."""
        candidates = [entry for entry in self.entries if entry is not spared]
        if self.limits.policy in (EvictionPolicy.ALLKEYS_TTL, EvictionPolicy.SAMPLED_TTL):
            return sorted(candidates, key=lambda entry: (entry.expire_ms is None, entry.expire_ms or 0))
        return sorted(candidates, key=lambda entry: entry.used)

    def drop(self, paths: Iterable[bytes]) -> None:
        gone = set(paths)
        self.entries = [entry for entry in self.entries if entry.path not in gone]

    def _make_room(self, keys: int, size: int, spared: Entry, now_ms: int) -> None:
        """A write that would exceed a hard limit has a run at once, which spares what is written; it is not refused."""
        keys_then, bytes_then = len(self.entries) + keys, self.bytes_held() + size
        is_over = keys_then > self.limits.max_keys * HARD_LIMIT or bytes_then > self.limits.max_bytes * HARD_LIMIT
        if self.evicts and is_over:
            self.run_eviction(now_ms, keys, size, spared)

    def tick(self, now_ms: int) -> None:
        """The soft limits are looked after once in an interval."""
        last = self.last_run_ms
        if last is None:
            self.last_run_ms = now_ms
        elif self.evicts and now_ms - last >= self.limits.eviction_interval_ms:
            self.run_eviction(now_ms)


def _int64(value: bytes) -> int:
    """ASCII `[+-]?\\d+` in 64 bits, with the listed texts (commands.md §5; decisions, "Ids, time, texts")."""
    if not value:
        raise InternalError("cannot parse integer from empty string")
    digits = value[1:] if value[:1] in (b"+", b"-") else value
    if not digits.isdigit():
        raise InternalError("invalid digit found in string")
    significant = digits.lstrip(b"0") or b"0"
    number = int(significant) if len(significant) < 20 else INT64_MAX + 2
    number = -number if value.startswith(b"-") else number
    if number > INT64_MAX:
        raise InternalError("number too large to fit in target type")
    if number < INT64_MIN:
        raise InternalError("number too small to fit in target type")
    return number


def human(size: int) -> str:
    """Decimal megabytes with two digits, the one listed form (commands.md §5)."""
    return f"{size / 1_000_000:.2f} MB"
