"""QUEUE CLEAR, CACHE CLEAR and SYS CACHESTORE (commands.md §4.12, §5, §6): each shard does its part."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from cubequeue_server.engines.shared_store.connection import Reply
from cubequeue_server.engines.shared_store.core import Core, word
from cubequeue_server.engines.shared_store.gathering import Gathering
from cubequeue_server.engines.shared_store.item_statements import Handler
from cubequeue_server.engines.shared_store.scripts import CLEAR, SIZES
from cubequeue_server.engines.shared_store.upkeep import Upkeep
from storage.asking import Caller, Later
from storage.cache.statements import eviction_rows
from storage.errors import StatementError
from storage.stats import info_rows
from storage.vocabulary import (
    EMPTY_RESULT,
    INFO_COLUMNS,
    CacheClear,
    CachestoreAction,
    QueueClear,
    RequestKey,
    Result,
    Statement,
    SysCachestore,
)

_TABLES: Final = (("CacheItems", b"ch"), ("QueueItems", b"d"), ("QueueResults", b"r"))
_ALL_ROWS: Final = 10_000


class SysStatements:
    """Handlers as in `queue_statements`."""

    def __init__(self, core: Core, upkeep: Upkeep) -> None:
        self._core = core
        self._upkeep = upkeep
        self.handlers: dict[type[Statement], Handler] = {
            QueueClear: partial(self._clear, b"q"),
            CacheClear: partial(self._clear, b"c"),
            SysCachestore: self._cachestore,
        }

    def _clear(self, which: bytes, ask: Statement, caller: Caller, key: RequestKey | None) -> Later:
        core = self._core
        later = core.new_later(None)
        count = core.shards.count
        gathering = Gathering(core, count, lambda _: later.done(EMPTY_RESULT), later.done)
        for shard in range(count):
            core.keyed(CLEAR, shard, key, word(which), gathering.take(shard))
        return later

    def _cachestore(self, ask: SysCachestore, caller: Caller, key: RequestKey | None) -> Later:
        match ask.action:
            case CachestoreAction.WIPE | CachestoreAction.TRUNCATE:
                return self._clear(b"qc", ask, caller, key)
            case CachestoreAction.INFO:
                return self._info()
            case CachestoreAction.EVICTION:
                return self._eviction()
            case (
                CachestoreAction.COMPACTION
                | CachestoreAction.END_DROP_GUARD  # it never begins here
                | CachestoreAction.HEALTHCHECK
                | CachestoreAction.PERSIST
            ):
                later = self._core.new_later(None)
                self.sweep_all(partial(later.done, EMPTY_RESULT))  # an answer of each shard: it is there
                return later

    def sweep_all(self, then: Callable[[], None]) -> None:
        """Sweep all shards, so that counters are of now; then call."""
        left = [self._core.shards.count]

        def ended() -> None:
            left[0] -= 1
            if not left[0]:
                then()

        for shard in range(self._core.shards.count):
            self._upkeep.sweep(shard, _ALL_ROWS, ended)

    def _eviction(self) -> Later:
        """One pass, and its figures."""
        later = self._core.new_later(None)
        upkeep = self._upkeep

        def begin() -> None:
            keys, size = self._held()

            def end() -> None:
                keys_left, size_left = self._held()
                later.done(
                    Result(INFO_COLUMNS, eviction_rows(keys_left, size_left, keys - keys_left, size - size_left))
                )

            upkeep.evict(end)

        self.sweep_all(begin)
        return later

    def _held(self) -> tuple[int, int]:
        figures = self._upkeep.figures
        return sum(each.entries for each in figures), sum(each.cache_bytes for each in figures)

    # INFO.

    def _info(self) -> Later:
        """Sums of counters; smallest and largest rows take a walk through all of them, done in the engine."""
        core = self._core
        later = core.new_later(None)

        def begin() -> None:
            gathering = Gathering(core, core.shards.count * len(_TABLES), end, later.done)
            for place in range(core.shards.count * len(_TABLES)):
                _Walk(core, place // len(_TABLES), _TABLES[place % len(_TABLES)][1], gathering.take(place)).go_on()

        def end(replies: list[list[Reply]]) -> None:
            figures = self._upkeep.figures
            sums = {
                "CacheItems": (sum(each.entries for each in figures), sum(each.cache_bytes for each in figures)),
                "QueueItems": (sum(each.items for each in figures), sum(each.queue_bytes for each in figures)),
                "QueueResults": (sum(each.results for each in figures), sum(each.result_bytes for each in figures)),
            }
            rows = []
            for number, (name, _) in enumerate(_TABLES):
                sizes = [size for reply in replies[number :: len(_TABLES)] for size in reply[1:]]
                keys, size_bytes = sums[name]
                rows += info_rows(name, keys, size_bytes, sizes)
            later.done(Result(INFO_COLUMNS, rows))

        self.sweep_all(begin)
        return later


class _Walk:
    """A walk through one table of one shard; ends with its smallest and largest row, if it has any."""

    def __init__(
        self, core: Core, shard: int, table: bytes, end: Callable[[list[Reply] | StatementError], None]
    ) -> None:
        self._core = core
        self._shard = shard
        self._table = table
        self._end = end
        self._sizes: list[int] = []

    def go_on(self, cursor: bytes = b"0") -> None:
        self._core.call(SIZES, self._shard, word(self._table) + word(cursor), self._took)

    def _took(self, reply: list[Reply] | StatementError) -> None:
        if isinstance(reply, StatementError) or reply[0] != b"=":
            self._end(reply)
            return
        self._sizes += [int(size) for size in reply[2:] if size is not None]
        if self._sizes:
            self._sizes = [min(self._sizes), max(self._sizes)]
        if reply[1] == b"0":
            self._end([b"=", *self._sizes])
            return
        try:
            self.go_on(reply[1])
        except StatementError as error:
            self._end(error)
