"""Every transition of tests/storage/cache_transitions.py, and that no other event changes the state."""

from __future__ import annotations

import pytest

from storage.asking import ANYBODY
from storage.limits import AnswerLimits, CacheLimits, QueueLimits
from storage.memory import MemoryStore
from storage.vocabulary import CacheClear, CacheGet, CacheIncr, CacheRemove, CacheSet, Cell, Result, Statement
from tests.asking import Told
from tests.audit import audit
from tests.storage.cache_transitions import CACHE_TRANSITIONS, CacheEvent, CacheState

PATH, OTHER = b"p:k", b"p:other"
TTL_S, START_MS = 10, 1_000_000

STATEMENTS: dict[CacheEvent, Statement] = {
    CacheEvent.SET: CacheSet(PATH, b"2", TTL_S),
    CacheEvent.SET_NX: CacheSet(PATH, b"2", TTL_S, nx=True),
    CacheEvent.INCR: CacheIncr(PATH),
    CacheEvent.REMOVE: CacheRemove(PATH),
    CacheEvent.CLEAR: CacheClear(),
    CacheEvent.EVICT: CacheSet(OTHER, b"in need of the one place there is"),
}


class OnePlace:
    """A cache that has room for a single entry."""

    def __init__(self) -> None:
        self.store = MemoryStore(QueueLimits(), CacheLimits(max_keys=1), AnswerLimits(), 1, lambda: 0.5, Told)
        self.now_ms = START_MS

    def run(self, statement: Statement) -> Cell:
        result = self.store.execute(statement, ANYBODY, None, self.now_ms)
        assert isinstance(result, Result)
        return result.rows[0][0] if result.rows else None

    def happen(self, event: CacheEvent) -> None:
        if event is CacheEvent.EXPIRE:
            self.now_ms += TTL_S * 1_000
        else:
            self.run(STATEMENTS[event])

    @property
    def state(self) -> CacheState:
        return CacheState.ABSENT if self.run(CacheGet(PATH)) is None else CacheState.LIVE


@pytest.mark.parametrize("event", CacheEvent)
@pytest.mark.parametrize("state", CacheState)
def test_entry(state: CacheState, event: CacheEvent) -> None:
    cache = OnePlace()
    if state is CacheState.LIVE:
        cache.run(CacheSet(PATH, b"1", TTL_S))
    stated = {(before, what): then for before, what, then in CACHE_TRANSITIONS}
    cache.happen(event)
    assert cache.state is stated.get((state, event), state)
    audit(cache.store)
