"""Background work of the store, done by whichever server comes first: expiry, eviction, what is to be deleted.

A sweep of a shard also tells its counters. Their sums over all shards are what limits and gauges go by: about a second
old, and exact where there is one shard.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from struct import Struct
from typing import Final

from cubequeue_server.engines.shared_store.calls import Call
from cubequeue_server.engines.shared_store.connection import Reply, bulks
from cubequeue_server.engines.shared_store.core import Core, word
from cubequeue_server.engines.shared_store.scripts import CONFIRM, EVICT, FORGET, SWEEP, UNDELIVERED, UNLINK
from cubequeue_server.engines.shared_store.tallies import Tallies
from storage.cache.eviction import hard_limit
from storage.errors import StatementError
from storage.limits import CacheLimits, EvictionPolicy
from storage.vocabulary import RequestKey

_COUNTERS: Final = Struct(">16Q")
_EVICTED_AT_ONCE: Final = 200
_AMOUNT: Final = 1.15  # of what is over the soft limit (commands.md §5, "amount")
_MAX_CONFIRMED_AT_ONCE: Final = 5_000
_POLICIES: Final = {
    EvictionPolicy.ALLKEYS_LRU: b"lru",
    EvictionPolicy.ALLKEYS_LFU: b"lfu",
    EvictionPolicy.ALLKEYS_TTL: b"ttl",
    EvictionPolicy.SAMPLED_LRU: b"lru",
    EvictionPolicy.SAMPLED_LFU: b"lfu",
    EvictionPolicy.SAMPLED_TTL: b"ttl",
}


@dataclass(slots=True)
class ShardFigures:
    """The counters of a shard (lua/head.lua)."""

    seq: int = 0
    now_ms: int = 0
    due_ms: int = 0
    results_due_ms: int = 0
    cache_due_ms: int = 0
    swept_ms: int = 0
    items: int = 0
    active: int = 0
    queue_bytes: int = 0
    results: int = 0
    result_bytes: int = 0
    answer_bytes: int = 0
    undelivered: int = 0
    entries: int = 0
    cache_bytes: int = 0
    stamp: int = 0


@dataclass(slots=True)
class CacheLosses:
    """What this server's background work took out of the cache since the start."""

    evicted_keys: int = 0
    evicted_bytes: int = 0
    expired_keys: int = 0
    expired_bytes: int = 0


class Upkeep:
    """`interval_ms` is how often each shard is swept; 0 sweeps all of them in each tick."""

    def __init__(
        self,
        core: Core,
        tallies: Tallies,
        cache_limits: CacheLimits,
        *,
        now_s: Callable[[], float],
        random: Callable[[], float],
        interval_ms: int,
    ) -> None:
        self._core = core
        self._tallies = tallies
        self._limits = cache_limits
        self._now_s = now_s
        self._random = random
        self._interval_ms = interval_ms
        count = core.shards.count
        self._next_s = [now_s() + shard * interval_ms / 1000 / count for shard in range(count)]
        self._is_sweeping = [False] * count
        self._is_more_due = False
        self._is_sum_due = False
        self._is_evicting = False
        self._last_pass_ms: int | None = None
        self.figures = [ShardFigures() for _ in range(count)]
        self.losses = CacheLosses()
        core.drop_answers = self.drop_answers

    # Sweeps.

    def tick(self, max_rows: int) -> bool:
        """Sweep the shards that are due, evict when the cache is over its limits. True when more is due already."""
        is_more_due, self._is_more_due = self._is_more_due, False
        now_s = self._now_s()
        if self._is_sum_due:
            self._sum_up()
        for shard in range(self._core.shards.count):
            if self._next_s[shard] <= now_s and not self._is_sweeping[shard]:
                self._next_s[shard] = now_s + self._interval_ms / 1000
                self.sweep(shard, max_rows, self._ignore, every_ms=self._interval_ms * 9 // 10)
        self._evict_if_over()
        return is_more_due

    def _ignore(self) -> None:
        """Nobody waits for it."""

    def sweep(self, shard: int, max_rows: int, then: Callable[[], None], *, every_ms: int = 0) -> None:
        """Have a shard swept, unless that was done less than `every_ms` ago; `then` is called in any case."""
        core = self._core
        words = bulks(
            b"%d" % number
            for number in (
                max_rows,
                every_ms,
                core.queue_limits.item_life_ms,
                core.answer_limits.keep_ms,
            )
        )
        request = b"%b%b%b" % (core.shards.head(SWEEP, shard), core.time(), words)
        call = Call(core.sender, shard, SWEEP, request, partial(self._swept, shard, then), may_repeat=True)
        self._is_sweeping[shard] = True
        try:
            core.sender.send(call)
        except StatementError:
            self._is_sweeping[shard] = False
            then()

    def _swept(self, shard: int, then: Callable[[], None], reply: list[Reply] | StatementError) -> None:
        self._is_sweeping[shard] = False
        if type(reply) is list and reply[0] == b"=":
            self._took(shard, reply)
        then()

    def _took(self, shard: int, reply: list[Reply]) -> None:
        core = self._core
        figures = self.figures[shard] = ShardFigures(*_COUNTERS.unpack_from(reply[2]))
        core.clock.learn(figures.now_ms)
        if reply[1] == b"1":
            self._is_more_due = True
            self._next_s[shard] = 0
        at = 3
        lists: list[list[bytes]] = []
        for _ in range(3):
            count = int(reply[at])
            lists.append(reply[at + 1 : at + 1 + count])
            at += 1 + count
        for prefix in lists[0]:
            self._tallies.of(prefix).expired += 1
        for member in lists[1]:
            self._drop(FORGET, shard, member, [member[8:]])
        for member in lists[2]:
            pieces = core.shards.piece_keys(shard, member[8:24], int.from_bytes(member[24:28], "big"))
            self._drop(UNLINK, shard, member, pieces)
        self.losses.expired_keys += int.from_bytes(reply[at][:8], "big")
        self.losses.expired_bytes += int.from_bytes(reply[at][8:], "big")
        self._is_sum_due = True

    def _drop(self, script: object, shard: int, member: bytes, keys: list[bytes]) -> None:
        """Delete keys that only their names tell: a generation of kept answers, or the pieces of a value."""
        core = self._core
        if script is FORGET:
            request = core.shards.head(FORGET, shard) + bulks(keys) + core.time() + word(member)
            call = Call(core.sender, shard, FORGET, request, _nothing, may_repeat=True)
        else:
            head = core.shards.head_of(UNLINK, shard, len(keys), 0)
            call = Call(
                core.sender, shard, UNLINK, head + bulks(keys) + core.time() + word(member), _nothing, may_repeat=True
            )
        _try_to_send(core, call)

    def _sum_up(self) -> None:
        self._is_sum_due = False
        figures = self.figures
        core = self._core
        core.set_room(
            [each.answer_bytes for each in figures],
            [each.items for each in figures],
            [each.queue_bytes + each.result_bytes + 512 * each.results for each in figures],
        )
        limits = core.answer_limits
        total = sum(each.answer_bytes for each in figures)
        core.kept.press(is_short=total >= min(limits.give_way_bytes, limits.max_bytes))

    # Kept answers.

    def drop_answers(self, shard: int, key: RequestKey, message_ids: list[int]) -> None:
        """Drop answers of a connection that are known to have arrived."""
        core = self._core
        for first in range(0, len(message_ids), _MAX_CONFIRMED_AT_ONCE):
            mids = [b"%d" % each for each in message_ids[first : first + _MAX_CONFIRMED_AT_ONCE]]
            head = core.shards.head_of(CONFIRM, shard, 0, len(mids))
            request = head + core.shards.answer_keys(shard, key) + core.time() + bulks(mids)
            _try_to_send(core, Call(core.sender, shard, CONFIRM, request, _nothing, may_repeat=True))

    def mark_undelivered(self, shard: int, key: RequestKey) -> None:
        """Keep an answer for the longer time."""
        core = self._core
        words = word(b"%d" % key[2]) + word(b"%d" % core.answer_limits.keep_undelivered_ms)
        request = core.shards.head(UNDELIVERED, shard) + core.shards.answer_keys(shard, key) + core.time() + words
        _try_to_send(core, Call(core.sender, shard, UNDELIVERED, request, _nothing, may_repeat=True))

    # Eviction.

    def _evict_if_over(self) -> None:
        limits = self._limits
        keys = sum(each.entries for each in self.figures)
        size = sum(each.cache_bytes for each in self.figures)
        is_over = keys > hard_limit(limits.max_keys) or size > hard_limit(limits.max_bytes)
        if not is_over:
            now_ms = self._core.now_ms
            last_ms = self._last_pass_ms
            if last_ms is not None and now_ms - last_ms < limits.eviction_interval_ms:
                return
            self._last_pass_ms = now_ms
            is_over = keys > limits.max_keys or size > limits.max_bytes
        if is_over and not self._is_evicting:
            self.evict(_nothing_to_do)

    def evict(self, then: Callable[[], None]) -> None:
        """Evict what is over the soft limits, as of the last sweeps; `then` is called at the end."""
        limits = self._limits
        keys = sum(each.entries for each in self.figures)
        size = sum(each.cache_bytes for each in self.figures)
        over_keys = max(keys - limits.max_keys, 0) * _AMOUNT
        over_bytes = max(size - limits.max_bytes, 0) * _AMOUNT
        runs: list[tuple[int, float, float]] = []
        for shard, each in enumerate(self.figures):
            if each.entries and (over_keys or over_bytes):
                runs.append((shard, over_keys * each.entries / keys, over_bytes * each.cache_bytes / size))
        if not runs:
            then()
            return
        self._is_evicting = True
        left = [len(runs)]

        def ended() -> None:
            left[0] -= 1
            if not left[0]:
                self._is_evicting = False
                then()

        for run in runs:
            self._evict_some(*run, ended)

    def _evict_some(self, shard: int, keys: float, size: float, ended: Callable[[], None]) -> None:
        core, limits = self._core, self._limits
        numbers = (
            -int(-keys // 1),
            -int(-size // 1),
            _EVICTED_AT_ONCE,
            int(self._random() * (1 << 30)),
            limits.lfu_decay_ms,
            limits.proactive_size_bytes,
            limits.proactive_ttl_ms,
        )
        words = word(_POLICIES[limits.policy]) + bulks(b"%d" % number for number in numbers)

        def then(reply: list[Reply] | StatementError) -> None:
            if type(reply) is not list or reply[0] != b"=" or reply[1] == b"0":
                ended()
                return
            gone, gone_bytes = int(reply[1]), int(reply[2])
            self.losses.evicted_keys += gone
            self.losses.evicted_bytes += gone_bytes
            figures = self.figures[shard]
            figures.entries -= gone
            figures.cache_bytes -= gone_bytes
            if keys - gone > 0 or size - gone_bytes > 0:
                self._evict_some(shard, max(keys - gone, 0), max(size - gone_bytes, 0), ended)
            else:
                ended()

        request = core.shards.head(EVICT, shard) + core.time() + words
        call = Call(core.sender, shard, EVICT, request, then, may_repeat=True)
        try:
            core.sender.send(call)
        except StatementError:
            ended()


def _try_to_send(core: Core, call: Call) -> None:
    """Send what nobody waits for; when too much waits already it is not worth it."""
    try:
        core.sender.send(call)
    except StatementError:
        return


def _nothing(_reply: object) -> None:
    """Nobody waits for it."""


def _nothing_to_do() -> None:
    """Nobody waits for it."""
