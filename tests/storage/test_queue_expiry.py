"""When items go by themselves (state-machine.md §1, "Item expiry"; decisions)."""

from __future__ import annotations

import pytest

from storage.limits import QueueLimits
from storage.queue.indexes import NEVER_MS
from storage.vocabulary import QueueGet, QueueMergeExtra, QueueRetrieve
from tests.storage.queue_world import HOUR_MS, SECOND_MS, World

PATH = b"p:k"


@pytest.mark.parametrize(
    ("orphaned_s", "claim_after_ms", "beat_after_ms", "life_ms"),
    [
        (None, None, None, 4 * HOUR_MS),
        (0, None, None, 2 * HOUR_MS),
        (3_600, None, None, 3 * HOUR_MS),
        (None, HOUR_MS, None, 5 * HOUR_MS),
        (0, HOUR_MS, None, 5 * HOUR_MS),
        (36_000, HOUR_MS, None, 12 * HOUR_MS),
        (None, HOUR_MS, 2 * HOUR_MS, 7 * HOUR_MS),
        (None, None, HOUR_MS, 4 * HOUR_MS),  # a heartbeat does not extend a pending item
        (36_000, HOUR_MS, 9 * HOUR_MS, 14 * HOUR_MS),
    ],
)
def test_life(orphaned_s: int | None, claim_after_ms: int | None, beat_after_ms: int | None, life_ms: int) -> None:
    world = World()
    born_ms = world.now_ms
    id_ = world.add(PATH, orphaned_s=orphaned_s)
    if claim_after_ms is not None:
        world.later(claim_after_ms)
        assert world.retrieve(PATH)
    if beat_after_ms is not None:
        world.later(beat_after_ms)
        world.heartbeat(PATH)
    world.now_ms = born_ms + life_ms - 1
    assert world.run(QueueGet(id_))
    world.check()
    world.now_ms += 1
    assert not world.run(QueueGet(id_))
    world.check()
    assert world.gauge("queue_items") == 0


@pytest.mark.parametrize("by_id", [False, True], ids=["by path", "by id"])
def test_an_expired_item_is_gone_for_every_command(by_id: bool) -> None:
    for ask in ("get", "heartbeat", "merge", "cancel", "ack"):
        world = World()
        key = world.add(PATH) if by_id else PATH
        world.add(PATH)
        world.later(4 * HOUR_MS)
        if ask == "get":
            assert world.run(QueueGet(key)) == []
        elif ask == "heartbeat":
            world.heartbeat(key)
        elif ask == "merge":
            assert world.run(QueueMergeExtra(key, b"x")) == []
        elif ask == "cancel":
            assert not world.cancel(key)
        else:
            assert not world.ack(key)
        assert world.gauge("queue_items") == 0
        assert world.add(PATH) == 2


def test_expired_items_of_other_queues_do_not_come_back_when_the_clock_does() -> None:
    world = World()
    world.add(b"p:a")
    world.later(4 * HOUR_MS)
    world.add(b"q:b")
    world.later(-2 * HOUR_MS)
    assert world.run(QueueGet(b"p:a")) == []
    world.check()


def test_expired_active_items_make_room_for_others() -> None:
    world = World()
    world.add(b"p:a")
    assert world.retrieve(b"p:a", 1)
    world.later(3 * HOUR_MS)
    world.add(b"p:b")
    assert not world.retrieve(b"p:b", 1)
    world.later(HOUR_MS)
    assert world.run(QueueRetrieve(b"p:b", 1, extended=True)) == [(b"{}", None, 0, b"b", b"2")]


def test_a_heartbeat_after_a_step_back_of_the_clock_brings_the_end_nearer() -> None:
    world = World()
    world.add(PATH, orphaned_s=0)
    assert world.retrieve(PATH)
    world.later(-3 * HOUR_MS)
    world.heartbeat(PATH)
    world.check()
    world.later(2 * HOUR_MS + 3 * HOUR_MS)
    assert not world.run(QueueGet(PATH))


def test_silent_items_that_orphaned_gave_longer_are_not_looked_at_all_the_time() -> None:
    """Their queue is due when one of them really ends, not at every statement."""
    world = World()
    for number in range(20):
        world.add(b"p:%d" % number, orphaned_s=360_000)
        assert world.retrieve(b"p:%d" % number)
    world.later(5 * HOUR_MS)
    world.add(b"p:new")
    items = world.store.queue.items
    assert items.due_ms == world.now_ms + 4 * HOUR_MS
    assert len(items) == 21
    world.check()


def test_nothing_is_due_in_an_empty_store() -> None:
    world = World()
    world.add(PATH)
    assert world.cancel(PATH)
    world.settle()
    assert world.store.queue.items.due_ms == NEVER_MS
    assert world.gauge("queues") == 0


def test_empty_queues_are_dropped_unless_something_came_back() -> None:
    world = World()
    for number in range(100):
        world.add(b"prefix-%d:k" % number)
        assert world.cancel(b"prefix-%d:k" % number)
    world.add(b"prefix-7:again")
    assert world.gauge("queues") == 100
    while world.store.tick(world.now_ms, 10):
        world.check()
    assert world.gauge("queues") == 1
    world.check()
    assert world.retrieve(b"prefix-7:again")


def test_results_go_after_their_time() -> None:
    world = World(QueueLimits(results_expire_ms=60 * SECOND_MS))
    world.add(PATH)
    assert world.ack(PATH)
    world.later(60 * SECOND_MS - 1)
    assert world.result(1) == b"done"
    world.later(1)
    assert world.result(1) is None
    assert world.gauge("queue_results") == 0
    assert world.gauge("queue_result_bytes") == 0
    world.check()


def test_results_go_in_time_when_the_clock_stepped_back() -> None:
    world = World()
    for path in (b"p:a", b"p:b"):
        world.add(path)
        assert world.ack(path)
        world.later(-10 * SECOND_MS)
    world.later(20 * SECOND_MS + 50 * SECOND_MS)
    assert world.result(2) is None
    assert world.result(1) == b"done"
    world.later(10 * SECOND_MS)
    assert world.result(1) is None
    world.check()
