"""Eviction and SYS CACHESTORE (commands.md §5, "Eviction"; §6)."""

from __future__ import annotations

import pytest

from storage.limits import CacheLimits, EvictionPolicy
from storage.vocabulary import CachestoreAction, SysCachestore
from tests.audit import audit
from tests.conformance.conftest import Opener
from tests.conformance.engines import Limits
from tests.conformance.script import MINUTE_MS, Session, nth
from tests.conformance.words import ack, add, cache_get, cache_keys, cache_set, incr, result, retrieve

SOFT_KEYS, HARD_KEYS = 40, 50
EVICTION = SysCachestore(CachestoreAction.EVICTION)
INFO = SysCachestore(CachestoreAction.INFO)


def fill(session: Session, count: int, value: str = "1", ttl_s: int | None = None) -> None:
    for number in range(count):
        session.now_ms += 1
        assert session.rows(cache_set(f"c:{number}", value, ttl_s=ttl_s)) == [(True,)]


def keys(session: Session) -> list[str]:
    return [str(row[0], "ascii") for row in session.rows(cache_keys("c")) if isinstance(row[0], bytes)]


def value_bytes(session: Session) -> int:
    values = [session.rows(cache_get(key))[0][0] for key in keys(session)]
    return sum(len(value) for value in values if isinstance(value, bytes))


def keys_are(*numbers: range | list[int]) -> list[str]:
    return [f"c:{number}" for group in numbers for number in group]


def passes(session: Session, count: int) -> None:
    """Let this many eviction intervals go by."""
    for _ in range(count):
        session.tick(max_rows=7)
        session.now_ms += MINUTE_MS
    session.tick(max_rows=7)


@pytest.fixture(params=EvictionPolicy, ids=lambda policy: policy.value)
def policy(request: pytest.FixtureRequest) -> EvictionPolicy:
    assert isinstance(request.param, EvictionPolicy)
    return request.param


@pytest.mark.usefixtures("exact_eviction")
def test_no_policy_exceeds_the_hard_limit_or_refuses_a_set(open_session: Opener, policy: EvictionPolicy) -> None:
    session = open_session(Limits(cache=CacheLimits(max_keys=SOFT_KEYS, policy=policy)))
    for number in range(3 * SOFT_KEYS):
        session.now_ms += 1
        assert session.rows(cache_set(f"c:{number}", "1", ttl_s=None if number % 3 else 600)) == [(True,)]
        assert session.rows(cache_get(f"c:{number}")) == [(b"1",)]
        assert len(keys(session)) <= HARD_KEYS
        audit(session.store)
    passes(session, 2)
    assert SOFT_KEYS - 2 <= len(keys(session)) <= SOFT_KEYS


@pytest.mark.usefixtures("exact_eviction")
def test_no_policy_exceeds_the_hard_limit_of_bytes(open_session: Opener, policy: EvictionPolicy) -> None:
    session = open_session(Limits(cache=CacheLimits(max_bytes=40_000, policy=policy)))
    for number in range(100):
        session.now_ms += 1
        assert session.rows(cache_set(f"c:{number % 37}", "x" * (100 * (1 + number % 29)))) == [(True,)]
        assert value_bytes(session) <= 50_000
        audit(session.store)
    passes(session, 2)
    assert 20_000 < value_bytes(session) <= 40_000


def test_under_the_soft_limits_nothing_goes(open_session: Opener, policy: EvictionPolicy) -> None:
    session = open_session(Limits(cache=CacheLimits(max_keys=SOFT_KEYS, policy=policy)))
    fill(session, SOFT_KEYS)
    passes(session, 3)
    session.rows(EVICTION)
    assert keys(session) == keys_are(range(SOFT_KEYS))


@pytest.mark.usefixtures("exact_eviction")
def test_over_the_soft_limit_the_next_passes_evict(open_session: Opener) -> None:
    """44 - (44 - 40) * 1.15 leaves between 39 and 40 (an engine rounds as it likes)."""
    session = open_session(Limits(cache=CacheLimits(max_keys=SOFT_KEYS)))
    fill(session, 44)
    session.tick()
    assert len(keys(session)) == 44
    passes(session, 2)
    assert len(keys(session)) in (39, 40)


@pytest.mark.usefixtures("exact_eviction")
def test_lru_evicts_what_was_used_longest_ago(open_session: Opener) -> None:
    session = open_session(Limits(cache=CacheLimits(max_keys=SOFT_KEYS, policy=EvictionPolicy.ALLKEYS_LRU)))
    fill(session, HARD_KEYS)
    session.now_ms += 1
    session.rows(cache_get("c:0"))
    session.rows(incr("c:1"))
    session.rows(cache_set("c:2", "2"))
    session.rows(cache_set("c:3", "2", nx=True))
    session.rows(cache_keys("c"))
    session.rows(EVICTION)
    left = keys(session)
    assert len(left) in (38, 39)
    assert left == keys_are([0, 1, 2], range(HARD_KEYS - len(left) + 3, HARD_KEYS))


@pytest.mark.usefixtures("exact_eviction")
def test_ttl_evicts_what_expires_next_and_what_never_does_last(open_session: Opener) -> None:
    session = open_session(Limits(cache=CacheLimits(max_keys=4, policy=EvictionPolicy.ALLKEYS_TTL)))
    for number, ttl_s in enumerate([600, None, 300, None, 400]):
        session.rows(cache_set(f"c:{number}", "1", ttl_s=ttl_s))
    session.rows(EVICTION)
    assert keys(session) in (keys_are([0, 1, 3, 4]), keys_are([0, 1, 3]))


@pytest.mark.usefixtures("exact_eviction")
@pytest.mark.parametrize("sampled", [False, True], ids=["allkeys", "sampled"])
def test_lfu_keeps_what_is_used_often(open_session: Opener, sampled: bool) -> None:
    policy = EvictionPolicy.SAMPLED_LFU if sampled else EvictionPolicy.ALLKEYS_LFU
    session = open_session(Limits(cache=CacheLimits(max_keys=SOFT_KEYS, policy=policy)))
    fill(session, HARD_KEYS)
    for _ in range(200):
        for number in range(5):
            session.rows(cache_get(f"c:{number}"))
    session.rows(EVICTION)
    assert keys(session)[:5] == keys_are(range(5))


@pytest.mark.usefixtures("exact_eviction")
def test_large_entries_about_to_expire_go_early(open_session: Opener) -> None:
    session = open_session(Limits(cache=CacheLimits(max_keys=6, proactive_size_bytes=100)))
    session.rows(cache_set("c:0", "x" * 101, ttl_s=3))
    session.rows(cache_set("c:1", "x" * 100, ttl_s=3))
    session.rows(cache_set("c:2", "x" * 101, ttl_s=30))
    session.rows(cache_set("c:3", "x" * 101))
    for number in range(4, 7):
        session.rows(cache_set(f"c:{number}", "1"))
    session.rows(cache_get("c:0"))
    session.rows(EVICTION)
    left = keys(session)
    assert "c:0" not in left
    assert left[-3:] == keys_are([4, 5, 6])


@pytest.mark.usefixtures("exact_eviction")
def test_expired_entries_make_room_before_live_ones(open_session: Opener) -> None:
    session = open_session(Limits(cache=CacheLimits(max_keys=SOFT_KEYS)))
    for number in range(HARD_KEYS - 30):
        session.rows(cache_set(f"c:{number}", "1"))
    for number in range(HARD_KEYS - 30, HARD_KEYS):
        session.rows(cache_set(f"c:{number}", "1", ttl_s=1))
    session.now_ms += 1_000
    session.rows(cache_set("c:new", "1"))
    assert keys(session) == [*keys_are(range(HARD_KEYS - 30)), "c:new"]


def test_the_rows_of_eviction(session: Session) -> None:
    fill(session, 3)
    rows = session.rows(EVICTION)
    assert [row[0] for row in rows] == [
        b"stats_total_keys",
        b"stats_total_raw_size",
        b"total_keys_removed",
        b"total_size_removed",
        b"total_delete_skipped",
    ]
    assert [rows[0][1], rows[2][1], rows[4][1]] == [b"3", b"0", b"0"]


def test_the_rows_of_info(session: Session) -> None:
    fill(session, 3)
    session.rows(add("p:a", "x" * 10))
    session.rows(add("p:b", "x" * 20))
    session.rows(add("p:c"))
    session.rows(ack("p:c", "r"))
    info = {row[0]: row[1] for row in session.rows(INFO)}
    figures = ["keys_total", "size_total", "expired_keys_total", "expired_size_total"]
    figures += ["min_row_size", "max_row_size", "avg_row_size"]
    assert list(info) == [f"{t}.{f}".encode() for t in ("CacheItems", "QueueItems", "QueueResults") for f in figures]
    assert info[b"CacheItems.keys_total"] == b"3"
    assert [info[f"QueueItems.{figure}".encode()] for figure in figures] == [
        b"2",
        b"30",
        b"0",
        b"0",
        b"10",
        b"20",
        b"15",
    ]
    assert info[b"QueueResults.keys_total"] == b"1"
    assert info[b"QueueResults.size_total"] == b"1"


@pytest.mark.parametrize(
    "action",
    [
        CachestoreAction.COMPACTION,
        CachestoreAction.END_DROP_GUARD,
        CachestoreAction.HEALTHCHECK,
        CachestoreAction.PERSIST,
    ],
)
def test_actions_without_rows_change_nothing(session: Session, action: CachestoreAction) -> None:
    session.rows(add("p:a", "1"))
    session.rows(add("p:b"))
    session.rows(ack("p:b", "r"))
    fill(session, 2)
    outcome = session.result(SysCachestore(action))
    assert (len(outcome.columns), list(outcome.rows)) == (0, [])
    assert session.rows(retrieve("p:a")) == [(b"1", None, 0, b"a", nth(1))]
    assert session.rows(result("p:b")) == [(b"r", b"success", nth(2), None)]
    assert keys(session) == keys_are(range(2))
