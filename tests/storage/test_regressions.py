"""Faults that the naive model found, each in its shortest form."""

from __future__ import annotations

from storage.limits import CacheLimits
from storage.vocabulary import CachestoreAction, SysCachestore
from tests.conformance.engines import MEMORY, Limits
from tests.conformance.script import Session
from tests.conformance.words import cache_keys, cache_set, remove

EVICTION = SysCachestore(CachestoreAction.EVICTION)


def test_eviction_ends_when_only_the_deadline_of_a_removed_entry_is_left() -> None:
    session = Session(MEMORY, Limits())
    session.rows(cache_set("c:1", "1", ttl_s=1))
    session.tick()
    session.rows(remove("c:1"))
    session.now_ms += 5_000
    assert len(session.rows(EVICTION)) == 5


def test_info_counts_nothing_as_live_that_had_expired_when_the_clock_stepped_back() -> None:
    session = Session(MEMORY, Limits())
    session.rows(cache_set("c:1", "1", ttl_s=0))
    session.now_ms -= 1_000
    info = {row[0]: row[1] for row in session.rows(SysCachestore(CachestoreAction.INFO))}
    assert info[b"CacheItems.keys_total"] == info[b"CacheItems.expired_keys_total"] == b"0"


def test_eviction_ends_when_every_entry_is_large_and_about_to_expire() -> None:
    session = Session(MEMORY, Limits(cache=CacheLimits(max_keys=2, proactive_size_bytes=10)))
    for number in range(2):
        session.rows(cache_set(f"c:{number}", "x" * 11, ttl_s=1))
    session.now_ms += 1
    session.rows(cache_set("c:2", "x" * 11, ttl_s=1))
    assert len(session.rows(EVICTION)) == 5
    assert session.rows(cache_keys("c")) == []
