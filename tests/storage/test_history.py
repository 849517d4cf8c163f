"""The history of ended items: what it says of each, its bounds, and what a restart and a lost write leave of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.asking import Caller
from storage.limits import HistoryLimits, QueueLimits
from storage.queue.history import BLOCK_ITEMS, BLOCKS, ERROR_BYTES, HEAD_BYTES, TAIL_BYTES, WHOLE_BYTES, Block, History
from storage.system_tables import SYSTEM_COLUMNS, SystemTable
from storage.vocabulary import (
    QueueAck,
    QueueAdd,
    QueueCancel,
    QueueClear,
    QueueOrphaned,
    QueueRetrieve,
    QueueStalled,
    Result,
)
from tests.asking import rows_of, run
from tests.audit import audit
from tests.storage.queue_world import HOUR_MS, World

ADDER = Caller(b"adder", "10.0.0.1:1", 1)
CLAIMER = Caller(b"claimer", "10.0.0.2:2", 2)
OPERATOR = Caller(None, "10.0.0.3:3", 3, b"ops")
NAMES = SYSTEM_COLUMNS[SystemTable.HISTORY].names


def history(world: World) -> list[dict[str, Any]]:
    rows = run(rows_of(world.store.read_table(SystemTable.HISTORY)))
    return [dict(zip(NAMES, row, strict=True)) for row in rows]


def ask(world: World, statement: Any, caller: Caller) -> None:
    assert isinstance(world.store.execute(statement, caller, None, world.now_ms), Result)


def test_a_whole_life() -> None:
    world = World()
    begin_ms = world.now_ms
    payload = b'{"query":"SELECT 1","requestId":"old","stageQueryKey":[],"requestId":"r-1-span-1"}'
    ask(world, QueueAdd(b"a:b:key", payload, 7, external_id=b"ext"), ADDER)
    world.later(20)
    ask(world, QueueRetrieve(b"a:b:key"), CLAIMER)
    world.later(300)
    ask(world, QueueAck(b"a:b:key", b'{"result":[]}'), CLAIMER)
    assert history(world) == [
        {
            "id": b"key", "prefix": b"a:b", "number": 1, "priority": 7,
            "created": begin_ms, "claimed": begin_ms + 20, "ended": begin_ms + 320, "wait_ms": 20, "run_ms": 300,
            "outcome": b"acknowledged", "result_bytes": 13, "error": None, "request_id": b"r-1-span-1",
            "added_by": b"adder", "added_peer": b"10.0.0.1:1",
            "claimed_by": b"claimer", "claimed_peer": b"10.0.0.2:2",
            "ended_by": b"claimer", "ended_peer": b"10.0.0.2:2", "ended_user": None,
            "external_id": b"ext", "payload_bytes": len(payload), "value": payload, "value_tail": None,
        }
    ]  # fmt: skip


def _stalled(world: World) -> None:
    world.retrieve(b"q:k")
    world.run(QueueStalled(b"q", 1_000))
    world.later(2_000)
    world.cancel(b"q:k")


def _orphaned(world: World) -> None:
    world.run(QueueOrphaned(b"q", 1_000))
    world.later(2_000)
    world.cancel(b"q:k")


def _expired(world: World) -> None:
    world.later(5 * HOUR_MS)
    world.settle()


ENDS: dict[bytes, Callable[[World], object]] = {
    b"acknowledged": lambda world: world.ack(b"q:k", None),
    b"error": lambda world: world.ack(b"q:k", b'{"error":"Error: no such table"}'),
    b"cancelled": lambda world: world.cancel(b"q:k"),
    b"stalled": _stalled,
    b"orphaned": _orphaned,
    b"expired": _expired,
}


@pytest.mark.parametrize("outcome", ENDS)
def test_how_an_item_ended(outcome: bytes) -> None:
    world = World()
    world.add(b"q:k")
    ENDS[outcome](world)
    [entry] = history(world)
    assert entry["outcome"] == outcome
    assert entry["error"] == (b'{"error":"Error: no such table"}' if outcome == b"error" else None)
    assert (entry["claimed"] is None) == (entry["run_ms"] is None) == (outcome != b"stalled")
    audit(world.store)


def test_who_cancelled_by_hand_is_told_once() -> None:
    world = World()
    for name in (b"q:a", b"q:b"):
        world.add(name)
    ask(world, QueueCancel(b"q:a"), OPERATOR)
    world.ack(b"q:b")
    [cancelled] = world.store.take_cancels()
    assert (cancelled.path, cancelled.ended_by) == (b"q:a", OPERATOR)
    assert world.store.take_cancels() == []
    assert history(world)[0]["ended_user"] == b"ops"


def test_cancels_that_nobody_takes_are_bounded() -> None:
    world = World()
    for number in range(105):
        world.add(b"q:%d" % number)
        world.cancel(b"q:%d" % number)
    assert len(world.store.take_cancels()) == 100
    assert world.store.queue.history.cancels_dropped == 5


@pytest.mark.parametrize("size", [0, 1, WHOLE_BYTES, WHOLE_BYTES + 1, 300_000])
def test_of_a_large_payload_head_and_tail_are_kept(size: int) -> None:
    payload = bytes(number % 251 for number in range(size))
    world = World()
    world.add(b"q:k", payload)
    world.ack(b"q:k", b'{"error":"' + b"e" * 10_000)
    [entry] = history(world)
    if size <= WHOLE_BYTES:
        assert (entry["value"], entry["value_tail"]) == (payload, None)
    else:
        assert (entry["value"], entry["value_tail"]) == (payload[:HEAD_BYTES], payload[-TAIL_BYTES:])
    assert entry["payload_bytes"] == size
    assert len(entry["error"]) == ERROR_BYTES


def small(**limits: int) -> World:
    return World(QueueLimits(history=HistoryLimits(**limits)))


def test_one_item_past_the_limit_the_oldest_goes() -> None:
    world = small(max_items=3)
    for number in range(4):
        world.add(b"q:%d" % number)
        world.ack(b"q:%d" % number)
    assert [entry["id"] for entry in history(world)] == [b"1", b"2", b"3"]
    audit(world.store)


def test_bytes_are_bounded() -> None:
    world = small(max_bytes=10_000)
    for number in range(100):
        world.add(b"q:%d" % number, b"x" * 4_000)
        world.ack(b"q:%d" % number)
        assert world.gauge("history_bytes") <= 10_000
    assert [entry["id"] for entry in history(world)] == [b"98", b"99"]


def test_an_entry_larger_than_all_room_is_not_kept() -> None:
    world = small(max_bytes=1_000)
    world.add(b"q:k", b"x" * 4_000)
    world.ack(b"q:k")
    assert history(world) == []
    audit(world.store)


def test_old_entries_go_with_time() -> None:
    world = small(keep_ms=HOUR_MS)
    for name in (b"q:a", b"q:b"):
        world.add(name)
        world.ack(name)
        world.later(HOUR_MS)
    world.settle()
    assert [entry["id"] for entry in history(world)] == [b"b"]


def test_clear_leaves_the_history() -> None:
    world = World()
    world.add(b"q:a")
    world.ack(b"q:a")
    world.add(b"q:b")
    world.run(QueueClear())
    assert [entry["id"] for entry in history(world)] == [b"a"]


@pytest.mark.parametrize(
    ("payload", "request_id"),
    [
        (b"", None),
        (b"\xff\xfe", None),
        (b'{"requestId":7}', None),
        (b'{"requestId": "a"}', b"a"),
        (b'{"requestId":"' + b"a" * 257 + b'"}', None),
        (b'{"requestId":"head"}' + b" " * 10_000, b"head"),
        (b'{"requestId":"head"}' + b" " * 10_000 + b'"requestId":"tail"', b"tail"),
    ],
)
def test_the_request_id_of_a_payload(payload: bytes, request_id: bytes | None) -> None:
    world = World()
    world.add(b"q:k", payload)
    world.cancel(b"q:k")
    assert history(world)[0]["request_id"] == request_id


# Blocks, which a journal writes.


@given(
    steps=st.lists(st.tuples(st.integers(0, 200), st.booleans()), max_size=12),
    max_items=st.sampled_from([1, 10, BLOCK_ITEMS, 3 * BLOCK_ITEMS, 1_000]),
)
def test_blocks_restore_the_same_history(steps: list[tuple[int, bool]], max_items: int) -> None:
    limits = HistoryLimits(max_items=max_items)
    world = World(QueueLimits(history=limits))
    written: dict[int, Block] = {}
    kept = world.store.queue.history
    number = 0
    for items, is_restart in steps:
        for _ in range(items):
            number += 1
            world.add(b"q:%d" % number)
            world.ack(b"q:%d" % number)
        kept.begin_blocks()
        while (block := kept.next_block()) is not None:
            assert len(block[1]) <= BLOCK_ITEMS
            written[block[0] % BLOCKS] = block
        restored = History(limits)
        restored.restore(written.values())
        assert restored.entries() == kept.entries()
        audit(restored)
        if is_restart:  # numbers of blocks go on
            world.store.queue.history = kept = restored
            world.store.queue.items._history = restored
