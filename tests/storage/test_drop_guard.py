"""The cache guards tables of pre-aggregations while marks may be missing, and evicts marks last."""

from __future__ import annotations

import random
import re
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.asking import ANYBODY
from storage.cache.keep import KeepPatterns
from storage.cache.statements import Cache
from storage.limits import AnswerLimits, CacheLimits, EvictionPolicy, QueueLimits
from storage.memory import MemoryStore
from storage.vocabulary import (
    CacheClear,
    CacheGet,
    CacheKeys,
    CacheSet,
    CachestoreAction,
    Result,
    Statement,
    SysCachestore,
)
from tests.asking import Told
from tests.storage.journal.test_store import World

HOUR_MS = 3_600_000
NOW_MS = 1_700_000_000_000
END = b"STANDALONE#SQL_PRE_AGGREGATIONS_REFRESH_END_REACHED:"
MARK = b"STANDALONE#SQL_PRE_AGGREGATIONS_TABLES_TOUCH:prod.orders_%d"


def new_cache(**limits: object) -> Cache:
    cache = Cache(CacheLimits(**limits), random.Random(7).random)  # type: ignore[arg-type]
    cache.tick(NOW_MS, 100)
    return cache


def put(cache: Cache, path: bytes, value: bytes = b"1", now_ms: int = NOW_MS) -> None:
    cache.handlers[CacheSet](CacheSet(path, value), ANYBODY, now_ms)


def get(cache: Cache, path: bytes, now_ms: int = NOW_MS) -> bytes | None:
    result = cache.handlers[CacheGet](CacheGet(path), ANYBODY, now_ms)
    ((value,),) = result.rows
    assert value is None or isinstance(value, bytes)
    return value


def test_a_cache_that_began_empty_hides_the_end_of_refreshes_for_12_hours() -> None:
    cache = new_cache()
    put(cache, END)
    put(cache, b"STANDALONE#SQL_PRE_AGGREGATIONS_BUILD_STATUS:x")
    assert get(cache, END) is None
    assert get(cache, b"STANDALONE#SQL_PRE_AGGREGATIONS_BUILD_STATUS:x") == b"1"
    assert cache.gauges()["drop_guard_until_s"] == (NOW_MS + 12 * HOUR_MS) // 1000
    assert get(cache, END, NOW_MS + 12 * HOUR_MS - 1) is None
    assert get(cache, END, NOW_MS + 12 * HOUR_MS) == b"1"
    cache.tick(NOW_MS + 12 * HOUR_MS, 100)
    assert cache.gauges()["drop_guard_until_s"] == 0


def test_off_means_off() -> None:
    cache = new_cache(drop_guard_ms=0)
    put(cache, END)
    assert get(cache, END) == b"1"
    cache.clear(NOW_MS)
    put(cache, END)
    assert get(cache, END) == b"1"
    assert cache.gauges()["drop_guard_until_s"] == 0


@pytest.mark.parametrize("how", ["clear", "truncate", "wipe"])
def test_an_emptied_cache_guards_anew(how: str) -> None:
    store = MemoryStore(QueueLimits(), CacheLimits(), AnswerLimits(), 1, random.Random(7).random, Told)

    def do(statement: Statement, at_ms: int) -> Result:
        outcome = store.execute(statement, ANYBODY, None, at_ms)
        assert isinstance(outcome, Result)
        return outcome

    store.tick(NOW_MS, 100)
    later_ms = NOW_MS + 13 * HOUR_MS
    do(CacheSet(END, b"1"), later_ms)
    assert do(CacheGet(END), later_ms).rows[0] == (b"1",)
    do(CacheClear() if how == "clear" else SysCachestore(CachestoreAction(how)), later_ms)
    do(CacheSet(END, b"1"), later_ms)
    assert do(CacheGet(END), later_ms).rows[0] == (None,)
    do(SysCachestore(CachestoreAction.END_DROP_GUARD), later_ms)
    assert do(CacheGet(END), later_ms).rows[0] == (b"1",)


def test_an_evicted_mark_begins_the_guard() -> None:
    cache = new_cache(max_keys=10, keep=())
    later_ms = NOW_MS + 13 * HOUR_MS
    cache.tick(later_ms, 100)
    put(cache, END, now_ms=later_ms)
    put(cache, MARK % 1, now_ms=later_ms)
    assert get(cache, END, later_ms) == b"1"
    for number in range(20):
        put(cache, b"other:%d" % number, now_ms=later_ms)
    assert MARK % 1 not in cache._entries
    put(cache, END, now_ms=later_ms)
    assert get(cache, END, later_ms) is None


@pytest.mark.parametrize("policy", EvictionPolicy, ids=lambda policy: policy.value)
def test_marks_are_the_last_to_go_under_every_policy(policy: EvictionPolicy) -> None:
    cache = new_cache(max_keys=100, policy=policy)
    kept = [MARK % number for number in range(30)] + [END, b"PRE_AGG_JOB_1", b"lock:x"]
    for path in kept:
        put(cache, path)
    for number in range(2_000):
        put(cache, b"STANDALONE#SQL_QUERY_RESULT:%d" % number, now_ms=NOW_MS + number)
        get(cache, b"STANDALONE#SQL_QUERY_RESULT:%d" % number, NOW_MS + number)
        if number % 100 == 0:
            cache.evict(NOW_MS + number)
    assert all(path in cache._entries for path in kept)
    assert cache.gauges()["cache_evicted_keys"] > 1_800
    for number in count():  # with nothing else left they go as well, within the hard limit
        put(cache, MARK % (100 + number), now_ms=NOW_MS + 3_000)
        if number > 300:
            break
    assert len(cache._entries) <= 125


def test_without_patterns_marks_go_by_their_age() -> None:
    cache = new_cache(max_keys=100, keep=())
    put(cache, MARK % 1)
    for number in range(200):
        put(cache, b"STANDALONE#SQL_QUERY_RESULT:%d" % number)
    assert MARK % 1 not in cache._entries


def test_keys_count_as_used_when_they_are_listed() -> None:
    cache = new_cache(max_keys=100)
    for number in range(50):
        put(cache, MARK % number)
    for number in range(50):
        put(cache, b"lock:%d" % number)
    cache.handlers[CacheKeys](CacheKeys(b"STANDALONE#SQL_PRE_AGGREGATIONS_TABLES_TOUCH:"), ANYBODY, NOW_MS)
    for number in range(100, 150):
        put(cache, b"PRE_AGG_JOB_%d" % number)
    assert all(MARK % number in cache._entries for number in range(50))
    assert b"lock:0" not in cache._entries


def test_a_restart_goes_on_with_the_guard_of_before() -> None:
    world = World()
    world.do(CacheSet(END, b"1"))
    until_s = world.store.gauges()["drop_guard_until_s"]
    assert until_s > 0
    world = world.after_a_kill()
    assert world.store.gauges()["drop_guard_until_s"] == until_s
    world.do(SysCachestore(CachestoreAction.END_DROP_GUARD))
    world = world.after_a_kill()
    assert world.store.gauges()["drop_guard_until_s"] == 0
    world.do(CacheClear())
    world = world.after_a_kill()
    assert world.store.gauges()["drop_guard_until_s"] > 0


PATTERNS = st.lists(st.text(alphabet="ab*:", min_size=1, max_size=6), max_size=4)


@given(PATTERNS, st.text(alphabet="ab:", max_size=12))
def test_patterns_match_as_regular_expressions_do(patterns: list[str], path: str) -> None:
    expected = any(re.fullmatch(re.escape(each).replace(r"\*", ".*"), path) for each in patterns)
    assert KeepPatterns(tuple(map(str.encode, patterns))).matches(path.encode()) == expected
