"""The CACHE statements (commands.md §5). GET needs no script: whether an entry is live, its reader sees."""

from __future__ import annotations

from functools import partial
from typing import Final

from cubequeue_server.engines.shared_store.calls import Call
from cubequeue_server.engines.shared_store.connection import Reply
from cubequeue_server.engines.shared_store.core import Core, word
from cubequeue_server.engines.shared_store.gathering import Gathering
from cubequeue_server.engines.shared_store.item_statements import Handler, Replied
from cubequeue_server.engines.shared_store.scripts import CACHE_INCR, CACHE_KEYS, CACHE_REMOVE, CACHE_SET, USES
from cubequeue_server.engines.shared_store.shards import lane_of
from storage.asking import Caller, Later
from storage.cache.entry import EMPTY, INVALID, TOO_LARGE, TOO_SMALL, is_binary_text
from storage.cache.eviction import INITIAL_USES
from storage.cache.prefixes import prefix_of_argument
from storage.cache.statements import ABSENT, NOT_SET, SET, too_large_to_set
from storage.errors import InternalError, StatementError, UserError
from storage.keys import prefix_of
from storage.limits import SECOND_MS, CacheLimits
from storage.listings import listing
from storage.stats import PrefixTotalsTable
from storage.vocabulary import (
    EMPTY_RESULT,
    KEY_COLUMNS,
    VALUE_COLUMNS,
    CacheGet,
    CacheIncr,
    CacheKeys,
    CacheRemove,
    CacheSet,
    Path,
    RequestKey,
    Result,
    Row,
    Statement,
    Value,
)

_MAX_USED: Final = 10_000  # entries whose uses are noted until they are told
_MAX_USES: Final = 0xFFFF
_USES_AT_ONCE: Final = 200
_FAILURES: Final = {b"empty": EMPTY, b"digit": INVALID, b"large": TOO_LARGE, b"small": TOO_SMALL}


class CacheStatements:
    """Handlers as in `queue_statements`. `totals` is what GET found; uses are told to the store once a second."""

    def __init__(self, core: Core, limits: CacheLimits) -> None:
        self._core = core
        self._limits = limits
        self._used: dict[Path, int] = {}
        self.totals = PrefixTotalsTable()
        self.handlers: dict[type[Statement], Handler] = {
            CacheSet: self._set,
            CacheGet: self._get,
            CacheKeys: self._keys,
            CacheIncr: self._incr,
            CacheRemove: self._remove,
        }

    def _set(self, ask: CacheSet, caller: Caller, key: RequestKey | None) -> Later:
        core, path = self._core, ask.path
        if len(ask.value) >= self._limits.max_entry_bytes:
            raise too_large_to_set(path, len(ask.value), self._limits)
        later = core.new_later(None)
        shard = core.shards.of_path(path)
        lane = lane_of(prefix_of(path))
        ttl_ms = b"" if ask.ttl_s is None else b"%d" % (ask.ttl_s * SECOND_MS)

        def send(value: bytes, pieces: list[bytes]) -> None:
            number = b"%d" % core.next_number()
            words = b"$%d\r\n%b\r\n$16\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$1\r\n%b\r\n$%d\r\n%b\r\n" % (
                len(path), path, lane, len(number), number, len(ttl_ms), ttl_ms, b"1" if ask.nx else b"0",
                len(value), value,
            )  # fmt: skip
            core.keyed(CACHE_SET, shard, key, words, then, piece_keys=pieces)

        def then(reply: Replied) -> None:
            if type(reply) is list and reply[0] == b"=":
                if len(reply) == 3:
                    core.saw_number(int(reply[2]))
                if key is not None:
                    core.kept.note(key, shard)
                later.done(SET if reply[1] == b"1" else NOT_SET)
            elif type(reply) is list and reply[0] == b"P":
                core.with_value(shard, ask.value, later, send)
            else:
                later.done(core.error_of(reply))

        core.with_value(shard, ask.value, later, send)
        return later

    def _get(self, ask: CacheGet, caller: Caller, key: RequestKey | None) -> Later:
        core, path = self._core, ask.path
        later = core.new_later(None)
        shard = core.shards.of_path(path)
        name = core.shards.key(shard, "C")
        request = b"*3\r\n$4\r\nHGET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(name), name, len(path), path)
        core.send(Call(core.sender, shard, None, request, partial(self._got, later, path, shard), may_repeat=True))
        return later

    def _got(self, later: Later, path: Path, shard: int, reply: bytes | StatementError | None) -> None:
        core = self._core
        if isinstance(reply, StatementError):
            later.done(reply)
            return
        totals = self.totals.of(prefix_of(path))
        ends_ms = 0 if reply is None else int.from_bytes(reply[:8], "big")
        if reply is None or (ends_ms and ends_ms <= core.now_ms):
            totals.misses += 1
            later.done(ABSENT)
            return
        totals.hits += 1
        used = self._used
        if path in used or len(used) < _MAX_USED:
            used[path] = used.get(path, 0) + 1
        core.answer(later, shard, None, reply[8:], _value_result)

    def _incr(self, ask: CacheIncr, caller: Caller, key: RequestKey | None) -> Later:
        core, path = self._core, ask.path
        later = core.new_later(None)
        shard = core.shards.of_path(path)
        words = word(path) + word(lane_of(prefix_of(path))) + word(b"%d" % core.next_number())

        def then(reply: Replied) -> None:
            if type(reply) is list and reply[0] == b"=":
                if len(reply) == 3:
                    core.saw_number(int(reply[2]))
                if key is not None:
                    core.kept.note(key, shard)
                later.done(Result(VALUE_COLUMNS, ((reply[1],),)))
            elif type(reply) is list and reply[:2] == [b"E", b"binary"]:
                later.done(UserError(is_binary_text(path)))
            elif type(reply) is list and reply[0] == b"E" and reply[1] in _FAILURES:
                later.done(InternalError(_FAILURES[reply[1]]))
            else:
                later.done(core.error_of(reply))

        core.keyed(CACHE_INCR, shard, key, words, then)
        return later

    def _remove(self, ask: CacheRemove, caller: Caller, key: RequestKey | None) -> Later:
        core, path = self._core, ask.path
        later = core.new_later(None)
        shard = core.shards.of_path(path)

        def then(reply: Replied) -> None:
            if type(reply) is list and reply[0] == b"=":
                if key is not None:
                    core.kept.note(key, shard)
                later.done(EMPTY_RESULT)
            else:
                later.done(core.error_of(reply))

        core.keyed(CACHE_REMOVE, shard, key, word(path), then)
        return later

    def _keys(self, ask: CacheKeys, caller: Caller, key: RequestKey | None) -> Later:
        """Of all shards, merged by the order of insertion."""
        core = self._core
        later = core.new_later(None)

        def end(replies: list[list[Reply]]) -> None:
            found = sorted(cell for reply in replies for cell in reply[1:])

            def rows_of(part: slice) -> list[Row]:
                return [(each[8:],) for each in found[part]]

            later.done(Result(KEY_COLUMNS, listing(len(found), rows_of)))

        lane = word(lane_of(prefix_of_argument(ask.prefix)))
        gathering = Gathering(core, core.shards.count, end, later.done)
        for shard in range(core.shards.count):
            core.call(CACHE_KEYS, shard, lane, gathering.take(shard))
        return later

    # Uses.

    def tell_uses(self, seed: int) -> None:
        """Tell the store which entries were read since the last time, for the order of eviction."""
        used, self._used = self._used, {}
        core = self._core
        by_shard: dict[int, list[bytes]] = {}
        for path, times in used.items():
            told = min(times, _MAX_USES).to_bytes(2, "big") + path
            by_shard.setdefault(core.shards.of_path(path), []).append(told)
        head = seed, self._limits.lfu_log_factor, self._limits.lfu_decay_ms, INITIAL_USES
        for shard, uses in by_shard.items():
            for first in range(0, len(uses), _USES_AT_ONCE):
                some = uses[first : first + _USES_AT_ONCE]
                words = b"".join(map(word, (b"%d" % number for number in head))) + b"".join(map(word, some))
                request = core.shards.head_of(USES, shard, 0, len(some)) + core.time() + words
                core.send(Call(core.sender, shard, USES, request, _ignore, may_repeat=False))


def _value_result(value: Value | None) -> Result:
    return Result(VALUE_COLUMNS, ((value,),))


def _ignore(_reply: object) -> None:
    """Nobody waits for it."""
