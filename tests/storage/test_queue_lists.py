"""Lists cost the rows they yield (commands.md §4.4, §4.5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from storage.queue.items import Item
from storage.vocabulary import (
    QueueActive,
    QueueAdd,
    QueueList,
    QueueOrphaned,
    QueuePending,
    QueueRetrieve,
    QueueStalled,
    QueueToCancel,
    Statement,
)
from tests.storage.queue_world import SECOND_MS, World


class Touches:
    """Counts how often a field of any item is read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, field: str) -> None:
        self.count = 0
        slot: Any = getattr(Item, field)

        def read(item: Item) -> Any:
            self.count += 1
            return slot.__get__(item)

        monkeypatch.setattr(Item, field, property(read, slot.__set__))


def test_order_of_a_list() -> None:
    world = World()
    for key, priority in ((b"a", 0), (b"b", 10), (b"c", -5), (b"d", 10), (b"e", 0)):
        world.add(b"p:" + key, priority=priority)
        world.later(-1)
    for key in (b"e", b"d"):
        world.retrieve(b"p:" + key)
    assert [row[0] for row in world.run(QueueList(b"p"))] == [b"b", b"d", b"a", b"e", b"c"]
    assert [row[0] for row in world.run(QueuePending(b"p"))] == [b"b", b"a", b"c"]
    assert [row[0] for row in world.run(QueueActive(b"p"))] == [b"d", b"e"]


def test_two_paths_with_one_key() -> None:
    world = World()
    assert [world.add(path) for path in (b"k", b":k", b"k", b":k")] == [1, 2, 1, 2]
    assert world.run(QueuePending(b"")) == [(b"k", b"1", b"pending", None), (b"k", b"2", b"pending", None)]


@pytest.mark.parametrize("claimed", [False, True], ids=["pending", "active"])
def test_exclusive_items_are_shown_to_their_owner_among_the_others(claimed: bool) -> None:
    world = World()
    owners = {b"a": None, b"b": b"P", b"c": b"Q", b"d": b"P", b"e": None}
    for key, owner in owners.items():
        path = b"p:" + key
        world.run(_exclusive(path, owner), process=owner)
        if claimed:
            world.run(_claim(path), process=owner)
    ask = QueueActive(b"p") if claimed else QueuePending(b"p")
    for statement in (ask, QueueList(b"p")):
        seen = {process: [row[0] for row in world.run(statement, process=process)] for process in (None, b"P", b"Q")}
        assert seen == {None: [b"a", b"e"], b"P": [b"a", b"b", b"d", b"e"], b"Q": [b"a", b"c", b"e"]}
    world.check()


def _exclusive(path: bytes, owner: bytes | None) -> Statement:
    return QueueAdd(path, b"{}", exclusive=owner is not None)


def _claim(path: bytes) -> Statement:
    return QueueRetrieve(path, 99)


def filled() -> World:
    """1000 items of each kind that a list must not walk over; one of each that it must find."""
    world = World()
    for number in range(1_000):
        world.run(_exclusive(b"p:other-%d" % number, b"Q"), process=b"Q")
        world.add(b"p:later-%d" % number, orphaned_s=3_600)
    world.add(b"p:orphaned", orphaned_s=0)
    for number in range(500):
        world.run(_claim(b"p:other-%d" % number), process=b"Q")
    return world


@pytest.mark.parametrize(
    ("statement", "rows"),
    [
        (QueueActive(b"p"), 0),
        (QueueStalled(b"p", 60_000), 0),
        (QueueOrphaned(b"p", 60_000), 1),
        (QueueToCancel(b"p", 60_000, 60_000), 1),
    ],
)
def test_nothing_that_is_not_answered_is_looked_at(
    monkeypatch: pytest.MonkeyPatch, statement: Statement, rows: int
) -> None:
    world = filled()
    world.later(30 * SECOND_MS)
    touches = [Touches(monkeypatch, field) for field in ("id", "created_ms", "orphaned_ms", "heartbeat_ms", "path")]
    assert len(world.run(statement)) == rows
    assert sum(touch.count for touch in touches) <= 10


CHURN: dict[str, Callable[[World, bytes], object]] = {
    "cancelled": lambda world, path: world.cancel(path),
    "acknowledged": lambda world, path: world.ack(path),
    "claimed": lambda world, path: world.retrieve(path),
}


@pytest.mark.parametrize("how", CHURN)
def test_what_has_gone_leaves_nothing_to_walk_over(how: str) -> None:
    world = World()
    for number in range(2_000):
        world.add(b"p:%d" % number)
    for number in range(1_999):
        CHURN[how](world, b"p:%d" % number)
    assert [row[0] for row in world.run(QueuePending(b"p"))] == [b"1999"]
    level = world.store.queue.items.queues[b"p"]._shared.pending[0]
    assert level._rows.__sizeof__() < 10_000
    world.check()
