"""What the machine draws: small pools, so that statements meet each other, and with the nasty ones among them."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from storage.asking import Caller
from storage.limits import AnswerLimits, CacheLimits, EvictionPolicy, QueueLimits
from storage.vocabulary import Binary, CacheClear, CachestoreAction, QueueClear, SysCachestore
from tests.conformance.engines import Limits
from tests.model.records import prefix_of

SECOND_MS, MINUTE_MS, HOUR_MS = 1_000, 60_000, 3_600_000

QUEUE_PATHS = [b"a:x", b"a:y", b"a:z", b"k", b":k", b"a:", b"a:b:c", b"", "é:ü@0b61-😀".encode()]
CACHE_PATHS = [b"c:1", b"c:2", b"c:3", b"c:4", b"c:", b":1", b"1", b"c:d:e", "c:é".encode()]
PROCESSES = [None, b"one", b"two"]

CALLERS = [Caller(process, f"10.0.0.{number}:5", number) for number, process in enumerate(PROCESSES)]
QUEUE_PREFIXES = sorted({prefix_of(path) for path in QUEUE_PATHS})
CACHE_PREFIXES = sorted({prefix_of(path) for path in CACHE_PATHS})

# Which paths a run uses, and one of them: few, so that statements meet.
some_queue_paths = st.one_of(
    st.just(QUEUE_PATHS[:3]), st.lists(st.sampled_from(QUEUE_PATHS), min_size=1, max_size=4, unique=True)
)
some_cache_paths = st.lists(st.sampled_from(CACHE_PATHS), min_size=1, max_size=6, unique=True)
choices = st.integers(0, 5)
queue_prefixes = st.sampled_from([*QUEUE_PREFIXES, b"unknown"])
cache_prefixes = st.sampled_from([prefix + tail for prefix in CACHE_PREFIXES for tail in (b"", b":", b":*")])
callers = st.sampled_from(CALLERS)
payloads = st.sampled_from([b"{}", b"", b"x" * 40, "ü😀".encode(), Binary(b"\x00\xff")])
values = st.sampled_from([b"r", b"", b"y" * 60, b"z" * 600, "é".encode(), Binary(b"\xff"), None])
cache_values = st.sampled_from([b"1", b"", b"-7", b"text", b"v" * 30, b"w" * 90, b"z" * 200, Binary(b"\x01")])
extras = st.sampled_from(
    [
        b'{"a":1}',
        b'{"a": 2}',
        b'{"a":3,"c":4}',
        b'{"b": {"c": [1, 2]}}',
        b'{"a":"\xc3\xa9"}',
        b"null",
        b"[1, 2]",
        b"7",
        b"no json",
        b"",
        b"x",
    ]
)
priorities = st.sampled_from([0, 10, -1])
orphaned_s = st.sampled_from([None, None, 0, 5, 3_600])
external_ids = st.sampled_from([None, None, b"e", b'f"'])
concurrencies = st.integers(0, 4)
timeouts_ms = st.sampled_from([0, 1, 999, 1_000, 5_000, 2 * HOUR_MS])
ttls_s = st.sampled_from([None, None, 0, 1, 5, 60])


@dataclass(frozen=True)
class ById:
    """The id given out that many ADDs ago; 0 is the next to come."""

    ago: int


queue_keys = st.one_of(choices, st.integers(0, 4).map(ById))


@dataclass(frozen=True)
class UntilDue:
    """To the next moment at which something ends, and this much further."""

    off_by_ms: int


emptyings = st.sampled_from(
    [
        QueueClear(),
        QueueClear(),
        CacheClear(),
        CacheClear(),
        SysCachestore(CachestoreAction.WIPE),
        SysCachestore(CachestoreAction.TRUNCATE),
    ]
)
administrations = st.sampled_from(
    [
        SysCachestore(CachestoreAction.EVICTION),
        SysCachestore(CachestoreAction.EVICTION),
        SysCachestore(CachestoreAction.INFO),
        SysCachestore(CachestoreAction.COMPACTION),
        SysCachestore(CachestoreAction.PERSIST),
        SysCachestore(CachestoreAction.HEALTHCHECK),
    ]
)

# How the clock goes on before a statement: mostly not at all, to the very edge of something, by hours, or back.
# Seldom far: what has expired meets no other statement.
pauses = st.sampled_from(
    [
        *([0] * 30),
        *(1, 1, 999, 1_000, 1_001, 5_000, -1, -1_500, -HOUR_MS),
        *(MINUTE_MS, HOUR_MS, 5 * HOUR_MS),
        *(UntilDue(-1), UntilDue(0), UntilDue(0), UntilDue(1)),
    ]
)


@st.composite
def limits(draw: st.DrawFn) -> Limits:
    """The default bounds, or ones so small that they are met all the time."""
    queue = QueueLimits()
    if draw(st.booleans()):
        queue = QueueLimits(
            max_items=draw(st.integers(1, 5)),
            max_bytes=draw(st.integers(40, 4_000)),
            max_waiters=draw(st.integers(1, 3)),
        )
    cache = CacheLimits()
    if draw(st.booleans()):
        cache = CacheLimits(
            max_keys=draw(st.integers(2, 5)),
            max_bytes=draw(st.integers(400, 1_500)),
            max_entry_bytes=200,
            policy=draw(st.one_of(st.just(EvictionPolicy.ALLKEYS_LRU), st.sampled_from(EvictionPolicy))),
            proactive_size_bytes=draw(st.sampled_from([50, 262_144])),
        )
    return Limits(queue, cache, AnswerLimits())
