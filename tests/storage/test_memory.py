"""The in-process store as a whole: bounds, CLEAR, garbage, gauges, SYS CACHESTORE."""

from __future__ import annotations

import gc
import random
import tracemalloc
from collections.abc import Iterator

import pytest

from storage.asking import ANYBODY
from storage.engine import Store
from storage.errors import InternalError, NoRoomError, UserError
from storage.journal.recorder import Recorder
from storage.limits import AnswerLimits, CacheLimits, QueueLimits
from storage.memory import MemoryStore
from storage.queue.statements import RESULT_OVERHEAD_BYTES
from storage.vocabulary import (
    CacheGet,
    CacheSet,
    CachestoreAction,
    OtherSql,
    QueueAck,
    QueueAdd,
    QueueAddAndRetrieve,
    QueueGet,
    QueueMergeExtra,
    QueueResultBlocking,
    Statement,
    SysCachestore,
    SysForeign,
)
from tests.asking import Told
from tests.storage.queue_world import HOUR_MS, SECOND_MS, World, request


def test_it_is_a_store() -> None:
    store: Store = MemoryStore(QueueLimits(), CacheLimits(), AnswerLimits(), 1, random.Random(7).random, Told)
    assert store.settled(store.losses) is None


@pytest.mark.parametrize("statement", [OtherSql(b"SELECT 1"), SysForeign("METASTORE COMPACTION")])
def test_statements_of_others_are_refused(statement: Statement) -> None:
    with pytest.raises(InternalError):
        World().run(statement)


def test_what_changes_is_recorded_and_nothing_else_is() -> None:
    recorder = Recorder()
    world = World(recorder=recorder)
    world.add(b"p:a")
    after_add = recorder.seq
    world.add(b"p:a")
    world.run(QueueGet(b"p:a"))
    world.retrieve(b"p:a", 0)
    assert recorder.seq == after_add > 0
    world.heartbeat(b"p:a")
    assert recorder.seq > after_add


# Bounds.


def refused(world: World, statement: Statement, setting: str) -> None:
    before = world.store.gauges()
    with pytest.raises(UserError, match=setting):
        world.run(statement)
    assert world.store.gauges() == before
    world.check()


@pytest.mark.parametrize("ask", [QueueAdd(b"q:b", b""), QueueAddAndRetrieve(b"q:b", b"", 9)])
def test_items(ask: Statement) -> None:
    world = World(QueueLimits(max_items=2))
    world.add(b"p:a")
    world.add(b"p:b")
    world.add(b"p:a")
    refused(world, ask, "CUBEQUEUE_QUEUE_MAX_ITEMS")
    world.cancel(b"p:a")
    world.run(ask)


def test_bytes() -> None:
    world = World(QueueLimits(max_bytes=100))
    world.add(b"p:a", b"x" * 60)
    refused(world, QueueAdd(b"p:b", b"x" * 41), "CUBEQUEUE_QUEUE_MAX_SIZE")
    refused(world, QueueMergeExtra(b"p:a", b"x" * 41), "CUBEQUEUE_QUEUE_MAX_SIZE")
    world.run(QueueMergeExtra(b"p:a", b"x" * 20))
    world.add(b"p:b", b"x" * 20)
    assert world.gauge("queue_bytes") == 100


def test_a_result_takes_the_room_of_its_item() -> None:
    world = World(QueueLimits(max_bytes=1_000))
    world.add(b"p:a", b"x" * 600)
    world.add(b"p:b", b"x" * 400)
    refused(world, QueueAck(b"p:a", b"x" * 1_113), "CUBEQUEUE_QUEUE_MAX_SIZE")
    assert world.ack(b"p:a", b"x" * 600)
    assert world.ack(b"p:b", b"")
    world.check()


def test_an_error_that_ends_an_item_fits_always() -> None:
    world = World(QueueLimits(max_bytes=10))
    world.add(b"p:a", b"x" * 10)
    with pytest.raises(NoRoomError) as refusal:
        world.ack(1, b"r" * 523)
    assert (refusal.value.key, refusal.value.size_bytes, refusal.value.limit_bytes) == (1, 513, 10)
    assert world.ack(1, b"r" * 522)
    refused(world, QueueAdd(b"p:b", b"x"), "CUBEQUEUE_QUEUE_MAX_SIZE")


def test_many_small_results_are_not_free() -> None:
    world = World(QueueLimits(max_bytes=10 * RESULT_OVERHEAD_BYTES))
    for number in range(10):
        world.add(b"p:%d" % number, b"")
        assert world.ack(b"p:%d" % number, b"")
    refused(world, QueueAdd(b"p:k", b"1"), "CUBEQUEUE_QUEUE_MAX_SIZE")
    world.later(60 * SECOND_MS)
    world.add(b"p:k", b"1")


def test_waiters() -> None:
    world = World(QueueLimits(max_waiters=2))
    waits = [world.wait(1), world.wait(b"p:k")]
    refused(world, QueueResultBlocking(2, 1_000), "CUBEQUEUE_QUEUE_MAX_WAITERS")
    assert world.run(QueueResultBlocking(2, 0)) == []
    world.store.give_up(waits[0], world.now_ms)
    world.wait(2)


# CLEAR.


def fill(world: World, count: int) -> None:
    for number in range(count):
        path = b"prefix-%d:%d" % (number % 7, number)
        world.run(QueueAdd(path, b"x", number % 3, 5 if number % 2 else None, number % 5 == 0), process=b"P")
        if number % 3 == 0:
            world.ack(path)


def test_clear_is_at_once_and_frees_in_slices() -> None:
    world = World()
    fill(world, 300)
    wait = world.wait(100_000)
    world.clear()
    world.check()
    assert [world.gauge(name) for name in ("queue_items", "queue_results", "queue_bytes", "queues")] == [0] * 4
    cleared = world.store.queue._reclaimer
    assert sum(len(container) for container, _ in cleared._containers) > 600
    slices = 1
    while world.store.tick(world.now_ms, 10):
        slices += 1
    assert slices > 60
    assert not cleared
    assert wait.outcomes == []
    assert world.add(b"prefix-1:1") == 301


@pytest.mark.parametrize("action", [CachestoreAction.WIPE, CachestoreAction.TRUNCATE])
def test_wipe_and_truncate_empty_everything_but_the_ids(action: CachestoreAction) -> None:
    world = World()
    world.add(b"p:a")
    world.run(CacheSet(b"c:a", b"1"))
    assert world.run(SysCachestore(action)) == []
    assert world.run(QueueGet(b"p:a")) == []
    assert world.run(CacheGet(b"c:a")) == [(None,)]
    assert world.add(b"p:a") == 2


@pytest.mark.parametrize(
    "action", [CachestoreAction.COMPACTION, CachestoreAction.HEALTHCHECK, CachestoreAction.PERSIST]
)
def test_what_needs_no_doing_succeeds(action: CachestoreAction) -> None:
    world = World()
    world.add(b"p:a")
    assert world.run(SysCachestore(action)) == []
    assert world.gauge("queue_items") == 1


def test_info() -> None:
    world = World()
    world.add(b"p:a", b"x" * 10)
    world.add(b"p:b", b"x" * 30)
    world.add(b"p:c")
    world.ack(b"p:c", b"12345")
    rows = {row[0]: row[1] for row in world.run(SysCachestore(CachestoreAction.INFO))}
    assert len(rows) == 21
    assert rows[b"QueueItems.keys_total"] == b"2"
    assert rows[b"QueueItems.size_total"] == b"40"
    assert (rows[b"QueueItems.min_row_size"], rows[b"QueueItems.max_row_size"]) == (b"10", b"30")
    assert rows[b"QueueItems.avg_row_size"] == b"20"
    assert rows[b"QueueResults.size_total"] == b"5"
    assert rows[b"CacheItems.keys_total"] == b"0"


def test_eviction_answers_with_rows() -> None:
    rows = World().run(SysCachestore(CachestoreAction.EVICTION))
    assert b"total_keys_removed" in [row[0] for row in rows]


# Figures.


def test_gauges_follow() -> None:
    world = World()
    world.add(b"p:a", b"12345")
    world.add(b"p:b", b"1")
    world.add(b"q:c", b"1")
    world.retrieve(b"p:a")
    world.run(QueueMergeExtra(b"p:a", b"123"))
    world.ack(b"q:c", b"1234567")
    world.wait(1, request_key=request(1))
    gauges = world.store.gauges()
    expected = {
        "queues": 2,
        "queue_items": 2,
        "queue_pending": 1,
        "queue_active": 1,
        "queue_bytes": 9,
        "queue_results": 1,
        "queue_result_bytes": 7,
        "waiters": 1,
        "answers": 0,
        "answers_unconfirmed": 0,
        "answer_bytes": 0,
    }
    assert {name: gauges[name] for name in expected} == expected
    assert sorted(world.store.queue.items.depths()) == [(b"p", 1, 1), (b"q", 0, 0)]


# Memory.


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
def test_a_life_cycle_leaves_no_garbage() -> None:
    """The server runs with the collector off: whatever is gone must be free by its reference counts alone."""
    world = World()
    gc.collect()
    for number in range(50):
        path = b"prefix-%d:k" % (number % 3)
        world.later(number * (-1) ** number)
        world.run(QueueAdd(path, b"x", 1, 7, exclusive=True, external_id=b"e"), process=b"P", key=request(number))
        waits = [world.store.execute(QueueResultBlocking(key, 9), ANYBODY, None, 0) for key in (number + 1, path, path)]
        world.store.give_up(waits[0], 0)  # type: ignore[arg-type]
        world.heartbeat(path)
        world.ack(path, b"v" if number % 2 else None)
        world.result(path)
        world.store.confirm_delivered([request(number)])
    fill(world, 50)
    world.clear()
    fill(world, 50)
    world.later(5 * HOUR_MS)
    world.settle()
    del waits
    assert gc.collect() == 0
    assert world.gauge("queue_items") == world.gauge("queues") == world.gauge("queue_results") == 0


def test_a_pending_item_costs_at_most_800_bytes_over_its_payload() -> None:
    """Its path and all its places in the indexes included."""
    count, payload_bytes = 20_000, 100
    world = World()
    tracemalloc.start()
    try:
        for number in range(count):
            world.add(b"SQL_QUERY_STANDALONE_default:%032x" % number, b"%0*d" % (payload_bytes, number))
        held_bytes = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held_bytes / count - payload_bytes < 800
