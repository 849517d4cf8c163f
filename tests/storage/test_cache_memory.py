"""What is removed is freed: at once, or in slices where there is much of it; and nothing piles up."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import pytest

from storage.cache.entry import NEVER, Entry
from storage.cache.prefixes import PrefixIndex
from storage.journal.recorder import Recorder
from storage.limits import CacheLimits, EvictionPolicy
from storage.reclaim import Reclaimer
from storage.stats import PrefixTotalsTable
from tests.audit import audit, audited_entries
from tests.storage.cache_world import World

POLICIES = [pytest.param(policy, id=policy.value) for policy in EvictionPolicy]


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def count_entries() -> int:
    return sum(isinstance(thing, Entry) for thing in gc.get_objects())


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("policy", POLICIES)
def test_removed_entries_need_no_collector(policy: EvictionPolicy) -> None:
    before = count_entries()
    world = World(CacheLimits(max_keys=400, policy=policy))
    for number in range(2_000):
        world.set(b"p%d:%d" % (number % 3, number), b"v" * number, number % 5 or None)
        world.get(b"p1:%d" % (number // 2))
    world.pass_ms(2_000)
    world.settle()
    for path in world.keys(b"p1")[:50]:
        assert isinstance(path, bytes)
        world.remove(path)
    assert count_entries() - before == world.gauge("keys")
    world.clear()
    world.settle()
    assert count_entries() == before


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("policy", POLICIES)
def test_clear_frees_in_slices(policy: EvictionPolicy) -> None:
    before = count_entries()
    world = World(CacheLimits(policy=policy))
    for number in range(3_000):
        world.set(b"p%d:%d" % (number % 3, number), b"", number % 2 or None)
    world.clear()
    assert count_entries() - before == 3_000
    ticks = 0
    while world.cache.tick(world.now_ms, 500):
        ticks += 1
        world.set(b"new:%d" % ticks, b"v")
        audit(world.cache)
    assert ticks >= 3_000 // 500
    assert count_entries() - before == len(world.keys(b"new")) == ticks


def test_a_reclaimer_frees_what_it_is_told_and_no_more() -> None:
    reclaimer = Reclaimer()
    reclaimer.defer([{1: 1, 2: 2, 3: 3}, [], [4, 5], {}])
    assert bool(reclaimer)
    assert [reclaimer.free(2) for _ in range(4)] == [2, 2, 1, 0]
    assert not reclaimer


def test_endless_overwrites_leave_one_row_and_one_deadline() -> None:
    world = World()
    for number in range(20_000):
        world.set(b"p:k", b"v", number % 100 + 1)
        world.pass_ms(7)
        if number % 50 == 0:
            world.cache.tick(world.now_ms, 10)
    deadlines = world.cache._deadlines
    assert len(deadlines._heap) + len(deadlines._near) + len(deadlines._buckets) < 200
    assert len(world.cache._row_sizes) == 1


def test_a_group_that_shrank_gives_its_memory_back() -> None:
    index = PrefixIndex(PrefixTotalsTable())
    entries = [Entry(b"p:%d" % number, b"", NEVER) for number in range(20_000)]
    for entry in entries:
        index.add(entry)
    large = index._groups[b"p"].entries.__sizeof__()
    for entry in entries[:-5]:
        index.remove(entry.path)
    assert index._groups[b"p"].entries.__sizeof__() < large / 10
    assert index.paths(b"p") == [entry.path for entry in entries[-5:]]
    audited_entries(index)


def test_every_change_is_recorded_and_nothing_else_is() -> None:
    recorder = Recorder()
    world = World(recorder=recorder)

    def changes(act: Callable[[], object]) -> bool:
        before = recorder.seq
        act()
        return recorder.seq > before

    assert changes(lambda: world.set(b"p:k", b"1", 5))
    assert changes(lambda: world.incr(b"p:k"))
    assert not changes(lambda: world.get(b"p:k"))
    assert not changes(lambda: world.keys(b"p"))
    assert not changes(lambda: world.set(b"p:k", b"2", nx=True))
    assert not changes(lambda: world.remove(b"x"))
    world.pass_ms(5_000)
    assert changes(world.settle)
    assert not changes(world.settle)
    assert changes(world.clear)
