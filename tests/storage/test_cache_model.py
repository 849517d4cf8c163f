"""The cache against a dict that is looked at as a whole, under a clock that moves both ways.

Without pressure both must agree on everything. Under pressure the cache may have less, but nothing else.
"""

from __future__ import annotations

import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from storage.cache.entry import NEVER
from storage.cache.statements import Cache
from storage.errors import StatementError
from storage.limits import CacheLimits, EvictionPolicy
from storage.vocabulary import Binary
from tests.audit import audit
from tests.storage.cache_world import World

PATHS = st.sampled_from([b"a", b":a", b"p:", b"p:a", b"p:b", b"p:c", b"p:q:a", b"p:q:b", b"q:a"])
PREFIXES = st.sampled_from([b"", b":", b"p", b"p:", b"p:*", b"p:q", b"q:*", b"p:q:", b"x"])
VALUES = st.one_of(
    st.sampled_from([b"", b"1", b"-9", b"x", b"9223372036854775807", Binary(b"1")]),
    st.integers(0, 900).map(lambda size: b"v" * size),
)
TTLS = st.one_of(st.none(), st.integers(0, 8), st.just(1 << 32), st.just(1 << 80))
STEPS_MS = st.one_of(st.integers(-6_000, 6_000), st.sampled_from([-(10**12), 10**12, 60_000]))


class Model:
    """Value and expiry by path, in order of insertion."""

    def __init__(self) -> None:
        self.entries: dict[bytes, tuple[bytes, int]] = {}

    def strike(self, now_ms: int) -> None:
        self.entries = {path: entry for path, entry in self.entries.items() if entry[1] > now_ms}

    def keys(self, argument: bytes) -> list[bytes]:
        prefix = argument[:-2] if argument.endswith(b":*") else argument[:-1] if argument.endswith(b":") else argument
        return [path for path in self.entries if (path.rsplit(b":", 1)[0] if b":" in path else b"") == prefix]


class CacheMachine(RuleBasedStateMachine):
    """What both machines do. `look` compares one value, `look_at_keys` one answer of KEYS."""

    limits = CacheLimits()

    def __init__(self) -> None:
        super().__init__()
        self.world = World(self.limits)
        self.model = Model()

    def look(self, path: bytes) -> None:
        raise NotImplementedError

    def look_at_keys(self, prefix: bytes) -> None:
        raise NotImplementedError

    def before(self, path: bytes) -> None:
        """Bring the model to the present, and to what the cache still has."""
        self.model.strike(self.world.now_ms)
        self.look(path)

    @rule(path=PATHS, value=VALUES, ttl_s=TTLS, nx=st.booleans())
    def set(self, path: bytes, value: bytes, ttl_s: int | None, nx: bool) -> None:
        self.before(path)
        is_refused = nx and path in self.model.entries
        assert self.world.set(path, value, ttl_s, nx=nx) is not is_refused
        if not is_refused:
            expires_ms = NEVER if ttl_s is None else self.world.now_ms + 1000 * ttl_s
            self.model.entries[path] = (value, expires_ms)
            self.model.strike(self.world.now_ms)  # TTL 0 is dead at once, and stays so

    @rule(path=PATHS)
    def incr(self, path: bytes) -> None:
        self.before(path)
        value, expires_ms = self.model.entries.get(path, (b"0", NEVER))
        is_number = not isinstance(value, Binary) and value.removeprefix(b"-").isdigit() and int(value) < (1 << 63) - 1
        try:
            answer = self.world.incr(path)
        except StatementError:
            assert not is_number
        else:
            assert is_number
            assert answer == b"%d" % (int(value) + 1)
            self.model.entries[path] = (b"%d" % (int(value) + 1), expires_ms)

    @rule(path=PATHS)
    def remove(self, path: bytes) -> None:
        self.model.strike(self.world.now_ms)
        self.world.remove(path)
        self.model.entries.pop(path, None)

    @rule(path=PATHS)
    def get(self, path: bytes) -> None:
        self.before(path)

    @rule(prefix=PREFIXES)
    def keys(self, prefix: bytes) -> None:
        self.model.strike(self.world.now_ms)
        self.look_at_keys(prefix)

    @rule()
    def clear(self) -> None:
        self.world.clear()
        self.model.entries.clear()

    @rule(step_ms=STEPS_MS, max_rows=st.integers(0, 20))
    def tick(self, step_ms: int, max_rows: int) -> None:
        self.world.now_ms = max(self.world.now_ms + step_ms, 1)
        self.model.strike(self.world.now_ms)
        self.world.cache.tick(self.world.now_ms, max_rows)

    @rule(step_ms=STEPS_MS)
    def pass_silently(self, step_ms: int) -> None:
        self.world.now_ms = max(self.world.now_ms + step_ms, 1)

    @invariant()
    def holds_together(self) -> None:
        audit(self.world.cache)


class WithoutPressure(CacheMachine):
    limits = CacheLimits(proactive_size_bytes=400)

    def look(self, path: bytes) -> None:
        assert self.world.get(path) == self.model.entries.get(path, (None,))[0]

    def look_at_keys(self, prefix: bytes) -> None:
        assert self.world.keys(prefix) == self.model.keys(prefix)

    @rule()
    def settle(self) -> None:
        self.model.strike(self.world.now_ms)
        self.world.settle()
        assert self.world.gauge("keys") == len(self.model.entries)
        assert self.world.gauge("evicted_keys") == 0

    @rule()
    def info(self) -> None:
        figures = self.world.info()
        self.model.strike(self.world.now_ms)
        self.world.keys(b"")
        keys = figures["keys_total"]
        assert keys - figures["expired_keys_total"] <= len(self.model.entries) <= keys


class UnderPressure(CacheMachine):
    @initialize(policy=st.sampled_from(EvictionPolicy), seed=st.integers(0, 3))
    def begin(self, policy: EvictionPolicy, seed: int) -> None:
        limits = CacheLimits(max_keys=4, max_bytes=2_500, proactive_size_bytes=400, policy=policy)
        self.world.cache = Cache(limits, random.Random(seed).random)

    def look(self, path: bytes) -> None:
        value = self.world.get(path)
        if value is None:
            self.model.entries.pop(path, None)  # evicted
        else:
            assert value == self.model.entries[path][0]

    def look_at_keys(self, prefix: bytes) -> None:
        found = self.world.keys(prefix)
        assert set(found) <= set(self.model.keys(prefix))
        for path in set(self.model.keys(prefix)) - set(found):
            del self.model.entries[path]
        assert found == self.model.keys(prefix)

    @rule()
    def settle(self) -> None:
        self.world.settle()

    @rule()
    def sys_eviction(self) -> None:
        self.world.evict()
        assert self.world.gauge("keys") <= 4
        assert self.world.gauge("bytes") <= 2_500


TestWithoutPressure = WithoutPressure.TestCase
TestUnderPressure = UnderPressure.TestCase
TestWithoutPressure.settings = TestUnderPressure.settings = settings(
    max_examples=200, stateful_step_count=50, deadline=None
)
