"""Who leaves a full cache and how many (commands.md §5, "Eviction")."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.cache.entry import NEVER, ROW_OVERHEAD_BYTES, Entry, row_bytes
from storage.cache.eviction import (
    INITIAL_USES,
    MAX_USES,
    EvictionRun,
    FrequencyCounter,
    LfuOrder,
    LruOrder,
    SampledOrder,
    eviction_order,
    hard_limit,
    level_after_run,
)
from storage.limits import CacheLimits, EvictionPolicy
from storage.stats import human_size
from tests.audit import audit, audit_order
from tests.storage.cache_world import START_MS, World

POLICIES = list(EvictionPolicy)
EXACT = [EvictionPolicy.ALLKEYS_LRU, EvictionPolicy.ALLKEYS_LFU, EvictionPolicy.ALLKEYS_TTL]
MINUTE_MS = 60_000

by_policy = pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.value)


class TestHowMany:
    @pytest.mark.parametrize(
        ("current", "soft", "left"), [(110, 100, 99), (125, 100, 97), (101, 100, 100), (10_000, 0, 0), (2, 1, 1)]
    )
    def test_a_run_takes_what_is_over_the_soft_limit_and_15_percent_of_it_more(
        self, current: int, soft: int, left: int
    ) -> None:
        assert level_after_run(current, soft) == left

    @pytest.mark.parametrize(("soft", "hard"), [(100_000, 125_000), (100, 125), (3, 3), (1, 1), (0, 1)])
    def test_the_hard_limit_is_a_quarter_over_the_soft_one(self, soft: int, hard: int) -> None:
        assert hard_limit(soft) == hard

    def test_a_run_looks_at_keys_first_and_then_at_bytes(self) -> None:
        run = EvictionRun(CacheLimits(max_keys=100, max_bytes=1_000))
        run.begin(120, 1_200)
        assert run.wants_more(78, 1_001)  # keys are done, bytes are one over: one is the amount
        assert not run.wants_more(78, 1_000)
        run.begin(120, 1_000)
        assert run.wants_more(98, 0)
        assert not run.wants_more(97, 0)

    def test_no_run_within_the_limits(self) -> None:
        run = EvictionRun(CacheLimits(max_keys=100, max_bytes=1_000))
        run.begin(100, 1_000)
        assert not run.active

    @pytest.mark.parametrize(
        ("size", "text"),
        [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1 kB"),
            (1_023, "1.02 kB"),
            (1_048_576, "1.05 MB"),
            (2_100_000, "2.10 MB"),
            (64_000_000, "64 MB"),
            (66_060_288, "66.06 MB"),
            (4_294_967_296, "4.29 GB"),
            (10**24, "1000000 EB"),
        ],
    )
    def test_sizes_read_in_decimal_units(self, size: int, text: str) -> None:
        assert human_size(size) == text


class TestFrequency:
    def counter(self, draw: float = 0.0, limits: CacheLimits | None = None) -> FrequencyCounter:
        return FrequencyCounter(limits or CacheLimits(), lambda: draw)

    def entry(self, uses: int, used_ms: int = 0) -> Entry:
        entry = Entry(b"k", b"", NEVER)
        entry.uses, entry.used_ms = uses, used_ms
        return entry

    @pytest.mark.parametrize(
        ("uses", "draw", "then"),
        [
            (0, 0.99, 1),
            (9, 0.99, 10),
            (10, 0.99, 11),  # certain up to the initial value
            (11, 0.09, 12),  # 1 in 11
            (11, 0.0910, 11),
            (20, 0.0099, 21),  # 1 in 101
            (20, 0.0100, 20),
            (254, 0.0, 255),
            (255, 0.0, 255),
        ],
    )
    def test_rises_with_a_falling_chance(self, uses: int, draw: float, then: int) -> None:
        entry = self.entry(uses)
        self.counter(draw).count(entry, 5)
        assert (entry.uses, entry.used_ms) == (then, 5)

    @pytest.mark.parametrize(
        ("idle_ms", "then"), [(-1, 30), (0, 30), (59_999, 30), (60_000, 29), (600_000, 20), (1 << 50, 0)]
    )
    def test_falls_by_one_for_each_minute_of_rest(self, idle_ms: int, then: int) -> None:
        assert self.counter().decayed(self.entry(30, 1_000), 1_000 + idle_ms) == then

    def test_a_use_counts_from_the_decayed_value(self) -> None:
        entry = self.entry(30)
        self.counter(0.999).count(entry, 25 * MINUTE_MS)
        assert entry.uses == 6

    def test_a_write_starts_it_anew(self) -> None:
        entry = self.entry(200)
        self.counter().reset(entry, 9)
        assert (entry.uses, entry.used_ms) == (INITIAL_USES, 9)

    def test_factor_0_counts_every_use_and_decay_0_never_falls(self) -> None:
        entry = self.entry(100)
        counter = self.counter(0.999, CacheLimits(lfu_log_factor=0, lfu_decay_ms=0))
        assert counter.decayed(entry, 1 << 50) == 100
        counter.count(entry, 1 << 50)
        assert entry.uses == 101

    def test_takes_about_a_hundred_uses_to_15_and_hundreds_of_thousands_to_the_top(self) -> None:
        counter = FrequencyCounter(CacheLimits(), random.Random(1).random)

        def uses_until(goal: int) -> int:
            entry = self.entry(INITIAL_USES)
            uses = 0
            while entry.uses < goal:
                counter.count(entry, 0)
                uses += 1
            return uses

        assert 80 <= sum(uses_until(15) for _ in range(200)) / 200 <= 130
        assert 200_000 <= uses_until(MAX_USES) <= 400_000


def naive_weight(policy: EvictionPolicy, entry: Entry, now_ms: int, sequence: dict[bytes, int]) -> tuple[int, int]:
    """What decides, lowest first, computed from the entry alone; `sequence` numbers the last use of each path."""
    match policy:
        case EvictionPolicy.ALLKEYS_LRU:
            return (0, sequence[entry.path])
        case EvictionPolicy.ALLKEYS_TTL:
            return (entry.expires_ms, 0)
        case _:
            return (max(entry.uses - max(now_ms - entry.used_ms, 0) // MINUTE_MS, 0), entry.used_ms)


MOVES = st.lists(
    st.tuples(
        st.sampled_from(["write", "write", "use", "use", "use", "remove", "evict", "rest"]),
        st.integers(0, 12),
        st.integers(0, 100_000),
    ),
    max_size=120,
)


class TestOrder:
    @pytest.mark.parametrize("policy", EXACT, ids=lambda policy: policy.value)
    @given(moves=MOVES, seed=st.integers(0, 99))
    @settings(deadline=None, max_examples=150)
    def test_the_victim_is_the_lowest_of_all(
        self, policy: EvictionPolicy, moves: list[tuple[str, int, int]], seed: int
    ) -> None:
        entries: dict[bytes, Entry] = {}
        order = eviction_order(CacheLimits(policy=policy), random.Random(seed).random)
        sequence: dict[bytes, int] = {}
        now_ms = START_MS

        def drop(entry: Entry) -> None:
            order.remove(entry)
            del entries[entry.path]

        for step, (move, number, amount) in enumerate(moves):
            path = b"%d" % number
            entry = entries.get(path)
            if move == "rest":
                now_ms += 10 * amount
            elif move == "write":
                if entry:
                    drop(entry)
                entry = entries[path] = Entry(path, b"", now_ms + amount if amount % 3 else NEVER)
                order.add(entry, now_ms)
                sequence[path] = step
            elif move == "use" and entry:
                order.use(entry, now_ms)
                sequence[path] = step
            elif move == "remove" and entry:
                drop(entry)
            elif move == "evict":
                victim = order.victim(now_ms)
                if victim is None:
                    assert not entries
                else:
                    weights = [naive_weight(policy, other, now_ms, sequence) for other in entries.values()]
                    assert naive_weight(policy, victim, now_ms, sequence) == min(weights)
                    drop(victim)
            audit_order(order, entries)

    def test_a_sample_is_six_draws_and_the_lowest_goes(self) -> None:
        draws = iter([0.95, 0.5, 0.25, 0.99, 0.0, 0.75])
        order = SampledOrder(lambda: next(draws), lambda entry, _: entry.used_ms)
        entries = [Entry(b"%d" % number, b"", NEVER) for number in range(100)]
        for entry in entries:
            order.add(entry, 1_000 - int(entry.path))
        assert order.victim(0) is entries[99]
        with pytest.raises(StopIteration):
            order.victim(0)

    def test_of_six_or_fewer_every_one_is_looked_at(self) -> None:
        order = SampledOrder(lambda: 0.0, lambda entry, _: entry.used_ms)
        assert order.victim(0) is None
        entries = [Entry(b"%d" % number, b"", NEVER) for number in range(6)]
        for entry in entries:
            order.add(entry, 100 - int(entry.path))
        assert order.victim(0) is entries[5]

    @pytest.mark.parametrize(
        ("policy", "spared"),
        [
            (EvictionPolicy.SAMPLED_LRU, "used"),
            (EvictionPolicy.SAMPLED_LFU, "used"),
            (EvictionPolicy.SAMPLED_TTL, "lasting"),
        ],
    )
    def test_sampled_policies_spare_what_weighs_more(self, policy: EvictionPolicy, spared: str) -> None:
        world = World(CacheLimits(max_keys=1_000, policy=policy))
        for number in range(1_000):
            kind = b"used" if number % 2 else b"lasting"
            world.set(kind + b":%d" % number, b"", 100_000 if kind == b"used" else 200_000)
        world.pass_ms(1_000)
        for number in range(1, 1_000, 2):
            for _ in range(5):
                world.get(b"used:%d" % number)
        for number in range(550):
            world.set(b"new:%d" % number, b"", 300_000)
        used, lasting = len(world.keys(b"used")), len(world.keys(b"lasting"))
        more, fewer = (used, lasting) if spared == "used" else (lasting, used)
        assert fewer + more < 1_000
        assert more > 1.5 * fewer


class TestExactPolicies:
    def fill(self, policy: EvictionPolicy, ttl_s: Callable[[int], int | None] = lambda _: None) -> World:
        world = World(CacheLimits(max_keys=80, policy=policy))
        for number in range(100):
            world.set(b"p:%d" % number, b"v", ttl_s(number))
            world.pass_ms(1)
        return world

    def survivors(self, world: World) -> list[int]:
        return [int(path[2:]) for path in world.keys(b"p") if isinstance(path, bytes)]

    def test_lru_drops_what_was_used_longest_ago(self) -> None:
        world = self.fill(EvictionPolicy.ALLKEYS_LRU)
        world.get(b"p:0")
        world.incr(b"q:new")
        world.set(b"p:2", b"again")
        world.set(b"q:more", b"")
        world.set(b"q:and more", b"")
        assert self.survivors(world)[:4] == [0, 2, 5, 6]  # 1 went for q:new, 3 and 4 for the other two

    def test_lru_counts_incr_as_a_use_but_not_set_nx_and_keys(self) -> None:
        world = World(CacheLimits(max_keys=4, policy=EvictionPolicy.ALLKEYS_LRU))
        for number in range(5):
            world.set(b"p:%d" % number, b"1")
        world.incr(b"p:0")
        world.set(b"p:1", b"", nx=True)
        world.keys(b"p")
        world.set(b"p:5", b"")
        assert self.survivors(world) == [0, 2, 3, 4, 5]

    def test_lfu_drops_what_is_used_seldom_however_lately(self) -> None:
        world = World(CacheLimits(max_keys=80, policy=EvictionPolicy.ALLKEYS_LFU), draw=lambda: 0.0)
        for number in range(100):
            world.set(b"p:%d" % number, b"v")
        for number in range(50):
            world.get(b"p:%d" % number)
            world.get(b"p:%d" % number)
        world.pass_ms(1)
        for number in range(50, 100):
            world.get(b"p:%d" % number)
        for number in range(10):
            world.set(b"q:%d" % number, b"")
        assert [n for n in range(100) if n not in self.survivors(world)] == [50]
        assert world.keys(b"q") == [b"q:9"]  # a new one is the next to go: it was used least

    def test_lfu_lets_go_what_was_popular_once(self) -> None:
        world = World(CacheLimits(max_keys=4, policy=EvictionPolicy.ALLKEYS_LFU), draw=lambda: 0.0)
        world.set(b"p:0", b"v")
        for _ in range(10):
            world.get(b"p:0")  # its counter is 20
        world.pass_ms(11 * MINUTE_MS)  # now 9, under a new one's 10
        for number in range(1, 5):
            world.set(b"p:%d" % number, b"v")
        world.set(b"p:5", b"v")
        assert self.survivors(world) == [1, 2, 3, 4, 5]

    def test_ttl_drops_what_expires_soonest_and_what_never_expires_last(self) -> None:
        world = self.fill(EvictionPolicy.ALLKEYS_TTL, lambda number: None if number < 50 else 10_000 - 10 * number)
        for number in range(3):
            world.set(b"q:%d" % number, b"", 1 << 20)
        assert [n for n in range(100) if n not in self.survivors(world)] == [97, 98, 99]
        for number in range(200):
            world.set(b"r:%d" % number, b"")
        assert self.survivors(world) == []
        assert len(world.keys(b"r")) == 100


class TestLimits:
    @by_policy
    def test_an_insert_at_the_hard_key_limit_evicts_one_and_ticks_go_down_to_the_soft_one(
        self, policy: EvictionPolicy
    ) -> None:
        world = World(CacheLimits(max_keys=1_000, policy=policy))
        for number in range(1_250):
            world.set(b"p:%d" % number, b"v", 1_000)
        assert world.gauge("keys") == 1_250
        assert world.gauge("evicted_keys") == 0
        world.set(b"p:x", b"v")
        assert world.get(b"p:x") == b"v"
        assert world.gauge("keys") == 1_250
        assert world.gauge("evicted_keys") == 1
        assert world.cache.tick(world.now_ms, 100) is True
        assert world.gauge("keys") == 1_150
        assert world.cache.tick(world.now_ms, 1_000) is False
        assert world.gauge("keys") == level_after_run(1_251, 1_000) == 963
        assert world.gauge("evicted_keys") == 288
        audit(world.cache)

    @by_policy
    def test_a_large_value_evicts_as_many_bytes_as_it_needs(self, policy: EvictionPolicy) -> None:
        world = World(CacheLimits(max_bytes=100_000, policy=policy))
        row = row_bytes(b"p:000", b"x" * 1_000)
        for number in range(125_000 // row):
            world.set(b"p:%03d" % number, b"x" * 1_000)
        full = world.gauge("keys")
        world.set(b"p:big", b"x" * 40_000)
        assert world.gauge("evicted_keys") == -(-(row_bytes(b"p:big", b"x" * 40_000) - (125_000 - full * row)) // row)
        assert 125_000 - row < world.gauge("bytes") <= 125_000
        world.settle()
        assert world.gauge("bytes") <= 100_000
        assert world.gauge("evicted_bytes") + world.gauge("bytes") == full * row + row_bytes(b"p:big", b"x" * 40_000)
        audit(world.cache)

    @by_policy
    def test_a_value_that_grows_makes_room_but_is_no_victim_of_itself(self, policy: EvictionPolicy) -> None:
        world = World(CacheLimits(max_bytes=10_000, policy=policy))
        for number in range(10):
            world.set(b"p:%d" % number, b"x" * 1_000, 5 if number == 0 else 50)
        world.pass_ms(1)
        world.set(b"p:0", b"y" * 8_000, 5)
        assert world.get(b"p:0") == b"y" * 8_000
        assert world.keys(b"p")[0] == b"p:0"
        assert world.gauge("bytes") <= 12_500
        audit(world.cache)

    @by_policy
    def test_a_value_larger_than_the_limit_stands_alone(self, policy: EvictionPolicy) -> None:
        world = World(CacheLimits(max_bytes=1_000, policy=policy))
        for path in (b"a", b"b", b"c"):
            world.set(path, b"x" * 5_000)
            assert world.get(path) == b"x" * 5_000
            assert world.gauge("keys") == 1
            audit(world.cache)

    @by_policy
    def test_no_keys_at_all_means_one(self, policy: EvictionPolicy) -> None:
        world = World(CacheLimits(max_keys=0, policy=policy))
        world.set(b"a", b"")
        world.set(b"b", b"")
        assert world.keys(b"") == [b"b"]
        audit(world.cache)

    def test_what_expired_goes_before_what_lives(self) -> None:
        world = World(CacheLimits(max_keys=80))
        for number in range(100):
            world.set(b"p:%d" % number, b"", 1 if number >= 50 else None)
        world.pass_ms(1_000)
        world.set(b"p:new", b"")
        assert world.gauge("expired_keys") == 50
        assert world.gauge("evicted_keys") == 0
        assert world.gauge("keys") == 51

    def test_set_nx_on_a_live_entry_evicts_nothing(self) -> None:
        world = World(CacheLimits(max_keys=4))
        for number in range(5):
            world.set(b"p:%d" % number, b"")
        world.set(b"p:0", b"x" * 100, nx=True)
        assert world.gauge("evicted_keys") == 0

    def test_an_entry_counts_its_texts_and_a_fixed_amount(self) -> None:
        world = World()
        world.set(b"p:k", b"x" * 1_000)
        assert world.gauge("bytes") == 3 + 1_000 + ROW_OVERHEAD_BYTES
        world.set(b"p:k", b"")
        assert world.gauge("bytes") == 3 + ROW_OVERHEAD_BYTES
        world.remove(b"p:k")
        assert world.gauge("bytes") == 0


class TestLoop:
    def over_the_soft_limit(self) -> World:
        world = World(CacheLimits(max_keys=100))
        world.settle()
        for number in range(110):
            world.set(b"p:%d" % number, b"")
        return world

    def test_the_soft_limits_are_looked_at_once_in_an_interval(self) -> None:
        world = self.over_the_soft_limit()
        world.pass_ms(MINUTE_MS - 1)
        world.settle()
        assert world.gauge("keys") == 110
        world.pass_ms(1)
        world.settle()
        assert world.gauge("keys") == 99
        for number in range(11):
            world.set(b"q:%d" % number, b"")
        world.pass_ms(MINUTE_MS - 1)
        world.settle()
        assert world.gauge("keys") == 110
        world.pass_ms(1)
        world.settle()
        assert world.gauge("keys") == 99

    def test_the_first_pass_drops_only_what_expired(self) -> None:
        world = World(CacheLimits(max_keys=100))
        for number in range(120):
            world.set(b"p:%d" % number, b"", 1 if number < 10 else None)
        world.pass_ms(1_000)
        world.settle()
        assert world.gauge("keys") == 110
        assert world.gauge("expired_keys") == 10
        world.pass_ms(MINUTE_MS)
        world.settle()
        assert world.gauge("keys") == 99

    def test_a_clock_that_steps_back_does_not_put_the_next_pass_off(self) -> None:
        world = self.over_the_soft_limit()
        world.pass_ms(-10 * 365 * 86_400_000)
        world.settle()
        assert world.gauge("keys") == 99

    def test_under_the_limits_nothing_but_the_expired_goes(self) -> None:
        world = World()
        for number in range(100):
            world.set(b"p:%d" % number, b"x" * 300_000, 60 + number)
        world.pass_ms(62_000)
        world.settle()
        assert world.gauge("evicted_keys") == 0
        assert world.gauge("expired_keys") == 3

    @pytest.mark.parametrize(
        ("size", "ttl_s", "goes"),
        [(262_145, 65, True), (262_144, 65, False), (262_145, 66, False), (262_145, None, False)],
    )
    def test_large_values_about_to_expire_go_before_their_time(self, size: int, ttl_s: int | None, goes: bool) -> None:
        world = self.over_the_soft_limit()
        world.set(b"q:large", b"x" * size, ttl_s)
        world.pass_ms(MINUTE_MS)
        world.settle()
        assert (world.keys(b"q") == []) is goes
        assert world.gauge("keys") == 99
        audit(world.cache)

    def test_each_tick_touches_about_as_many_rows_as_it_may(self) -> None:
        world = World(CacheLimits(max_keys=10_000))
        for number in range(5_000):
            world.set(b"p:%d" % number, b"", 1)
        world.pass_ms(10_000)
        assert world.cache.tick(world.now_ms, 100) is True
        assert world.gauge("expired_keys") == 100
        ticks = 1
        while world.cache.tick(world.now_ms, 100):
            ticks += 1
        assert 49 <= ticks <= 51
        assert world.gauge("keys") == 0


class TestSysEviction:
    def test_runs_a_whole_pass_and_tells_the_figures(self) -> None:
        world = World(CacheLimits(max_keys=1_000))
        for number in range(1_200):
            world.set(b"p:%04d" % number, b"v" * 100, 1 if number < 100 else None)
        world.pass_ms(1_000)
        row = 6 + 100 + ROW_OVERHEAD_BYTES
        left = level_after_run(1_100, 1_000)
        rows = world.evict()
        assert [(name, value) for name, value, _ in rows] == [
            (b"stats_total_keys", b"%d" % left),
            (b"stats_total_raw_size", human_size(left * row).encode()),
            (b"total_keys_removed", b"%d" % (1_200 - left)),
            (b"total_size_removed", human_size((1_200 - left) * row).encode()),
            (b"total_delete_skipped", b"0"),
        ]
        assert [bool(description) for _, _, description in rows] == [False, False, False, False, True]
        assert world.cache.tick(world.now_ms, 1_000) is False
        audit(world.cache)

    def test_finishes_a_run_that_is_under_way(self) -> None:
        world = World(CacheLimits(max_keys=1_000))
        for number in range(1_251):
            world.set(b"p:%d" % number, b"")
        world.evict()
        assert world.gauge("keys") == 963

    def test_of_an_empty_cache(self) -> None:
        rows = World().evict()
        assert [value for _, value, _ in rows] == [b"0", b"0 B", b"0", b"0 B", b"0"]


class TestInfo:
    def test_tells_sizes_and_what_expired(self) -> None:
        world = World()
        for number, size in enumerate((10, 1_000, 100, 100)):
            world.set(b"p:%d" % number, b"x" * size, 1 if size == 100 else 10)
        world.pass_ms(1_000)
        overhead = 3 + ROW_OVERHEAD_BYTES
        rows = world.cache.info(world.now_ms)
        total = 1_210 + 4 * overhead
        assert rows == [
            (b"CacheItems.keys_total", b"4", None),
            (b"CacheItems.size_total", b"%d" % total, None),
            (b"CacheItems.expired_keys_total", b"2", None),
            (b"CacheItems.expired_size_total", b"%d" % (200 + 2 * overhead), None),
            (b"CacheItems.min_row_size", b"%d" % (10 + overhead), None),
            (b"CacheItems.max_row_size", b"%d" % (1_000 + overhead), None),
            (b"CacheItems.avg_row_size", b"%d" % (total // 4), None),
        ]
        world.settle()
        assert world.info()["expired_keys_total"] == 0
        world.remove(b"p:1")
        assert world.info()["max_row_size"] == 10 + overhead

    def test_of_an_empty_cache(self) -> None:
        rows = World().cache.info(START_MS)
        assert {value for _, value, _ in rows} == {b"0"}


def test_the_orders_are_those_of_the_table() -> None:
    kinds = {policy: type(eviction_order(CacheLimits(policy=policy), lambda: 0.0)) for policy in POLICIES}
    assert kinds[EvictionPolicy.ALLKEYS_LRU] is LruOrder
    assert kinds[EvictionPolicy.ALLKEYS_LFU] is LfuOrder
    assert all(issubclass(kind, SampledOrder) is policy.value.startswith("sampled-") for policy, kind in kinds.items())
