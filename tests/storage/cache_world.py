"""A cache with a clock of its own, driven in the words of the commands."""

from __future__ import annotations

import random
from collections.abc import Callable

from storage.asking import ANYBODY
from storage.cache.statements import Cache
from storage.limits import CacheLimits
from storage.recorder import Recorder
from storage.vocabulary import (
    EMPTY_RESULT,
    CacheClear,
    CacheGet,
    CacheIncr,
    CacheKeys,
    CacheRemove,
    CacheSet,
    Cell,
    Result,
    Row,
    Statement,
)

START_MS = 1_700_000_000_123


class World:
    """One cache; its random numbers are the same in every run."""

    def __init__(
        self,
        limits: CacheLimits | None = None,
        draw: Callable[[], float] | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self.now_ms = START_MS
        self.cache = Cache(limits or CacheLimits(), draw or random.Random(7).random, recorder)

    def run(self, statement: Statement) -> Result:
        return self.cache.handlers[type(statement)](statement, ANYBODY, self.now_ms)

    def set(self, path: bytes, value: bytes, ttl_s: int | None = None, *, nx: bool = False) -> Cell:
        return self._cell(CacheSet(path, value, ttl_s, nx), "success")

    def get(self, path: bytes) -> Cell:
        return self._cell(CacheGet(path), "value")

    def incr(self, path: bytes) -> Cell:
        return self._cell(CacheIncr(path), "value")

    def keys(self, prefix: bytes) -> list[Cell]:
        result = self.run(CacheKeys(prefix))
        assert result.columns.names == ("key",)
        return [key for (key,) in result.rows]

    def evict(self) -> list[Row]:
        """A whole pass of SYS CACHESTORE EVICTION."""
        steps = self.cache.evict(self.now_ms)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                result: Result = end.value
                return list(result.rows)

    def remove(self, path: bytes) -> None:
        assert self.run(CacheRemove(path)) == EMPTY_RESULT

    def clear(self) -> None:
        assert self.run(CacheClear()) == EMPTY_RESULT

    def pass_ms(self, milliseconds: int) -> None:
        self.now_ms += milliseconds

    def settle(self) -> None:
        """Tick at this moment until nothing is due."""
        while self.cache.tick(self.now_ms, 1000):
            pass

    def gauge(self, name: str) -> int:
        return self.cache.gauges()[f"cache_{name}"]

    def info(self) -> dict[str, int]:
        """The figures of SYS CACHESTORE INFO by their names, without that of the table."""
        figures = {}
        for name, value, _ in self.cache.info(self.now_ms):
            assert isinstance(name, bytes)
            assert isinstance(value, bytes)
            figures[name.decode().removeprefix("CacheItems.")] = int(value)
        return figures

    def _cell(self, statement: Statement, column: str) -> Cell:
        result = self.run(statement)
        assert result.columns.names == (column,)
        ((cell,),) = result.rows
        return cell
