"""Results side by side, and who finds which (commands.md §4.11)."""

from __future__ import annotations

import pytest

from storage.errors import UserError
from storage.vocabulary import Cell, KeyRef, QueueResult, QueueResultBlocking
from tests.storage.queue_world import SECOND_MS, World

PATH = b"p:k"


def done(world: World, value: bytes, external_id: bytes | None = None) -> int:
    """One more result of the path."""
    id_ = world.add(PATH, external_id=external_id)
    assert world.ack(PATH, value)
    return id_


def read(world: World, key: KeyRef, external_id: bytes | None = None) -> Cell:
    rows = world.run(QueueResult(key, external_id))
    return rows[0][0] if rows else None


def test_a_reader_by_path_sees_the_newest_only_and_once() -> None:
    world = World()
    one, two = done(world, b"one"), done(world, b"two")
    assert [read(world, PATH), read(world, PATH)] == [b"two", None]
    assert [read(world, one), read(world, two), read(world, two)] == [b"one", b"two", b"two"]
    world.check()


def test_a_taken_result_does_not_hide_behind_an_older_one() -> None:
    world = World()
    done(world, b"one")
    done(world, b"two")
    read(world, PATH)
    done(world, b"three")
    assert [read(world, PATH), read(world, PATH)] == [b"three", None]


@pytest.mark.parametrize(
    ("asked", "found"),
    [(b"a", b"newer a"), (b"b", b"b"), (b"none", b"newer a"), (None, b"newer a")],
    ids=["newest of its id", "an older one", "falls back to the newest", "no external id"],
)
def test_external_id_by_path(asked: bytes | None, found: bytes) -> None:
    world = World()
    done(world, b"older a", b"a")
    done(world, b"b", b"b")
    done(world, b"newer a", b"a")
    world.check()
    assert read(world, PATH, asked) == found


def test_by_external_id_is_read_many_and_its_fallback_one_shot() -> None:
    world = World()
    done(world, b"a", b"a")
    assert [read(world, PATH, b"a") for _ in range(3)] == [b"a"] * 3
    assert [read(world, PATH, b"x") for _ in range(2)] == [b"a", None]
    assert read(world, PATH, b"a") == b"a"


@pytest.mark.parametrize(
    ("external_id", "got"),
    [(None, "None"), (b"x", 'Some("x")'), (b'q"\\', 'Some("q\\"\\\\")')],
)
def test_external_id_by_id_must_match(external_id: bytes | None, got: str) -> None:
    world = World()
    id_ = done(world, b"a", external_id)
    with pytest.raises(UserError) as caught:
        read(world, id_, b"e")
    assert caught.value.wire_text == f"Queue result (id = {id_}) external_id mismatch: expected e, got {got}"
    assert read(world, id_ + 1, b"e") is None
    assert external_id is None or read(world, id_, external_id) == b"a"


def test_when_the_newest_of_an_external_id_ends_first_the_older_one_is_found() -> None:
    world = World()
    world.later(30 * SECOND_MS)
    done(world, b"older", b"a")
    world.later(-30 * SECOND_MS)
    done(world, b"newer", b"a")
    world.later(60 * SECOND_MS)
    assert read(world, PATH, b"a") == b"older"
    world.check()
    world.later(30 * SECOND_MS)
    assert read(world, PATH, b"a") is None
    world.check()


@pytest.mark.parametrize("key", [PATH, 1], ids=["by path", "by id"])
def test_blocking_answers_at_once_when_there_is_a_result(key: KeyRef) -> None:
    world = World()
    done(world, b"one", b"e")
    assert world.run(QueueResultBlocking(key, 1_000)) == [(b"one", b"success", b"1", b"e")]
    assert read(world, PATH) is None


def test_blocking_with_no_time_answers_at_once() -> None:
    assert World().run(QueueResultBlocking(1, 0)) == []


def test_a_wait_by_id_takes_the_result_from_readers_by_path() -> None:
    world = World()
    world.add(PATH, external_id=b"e")
    waits = [world.wait(1) for _ in range(3)]
    world.ack(PATH, b"v")
    assert [wait.rows for wait in waits] == [[(b"v", b"success", b"1", b"e")]] * 3
    assert [read(world, PATH), read(world, 1), read(world, PATH, b"e")] == [None, b"v", b"v"]


def test_a_wait_by_path_leaves_no_result() -> None:
    world = World()
    world.add(PATH)
    by_path, by_id = world.wait(PATH), world.wait(1)
    world.ack(1, b"v")
    assert by_path.rows == by_id.rows == [(b"v", b"success", b"1", None)]
    assert [read(world, PATH), read(world, 1)] == [None, None]
    assert world.gauge("queue_results") == 0


def test_ack_null_releases_with_null_and_stores_nothing() -> None:
    world = World()
    world.add(PATH, external_id=b"e")
    wait = world.wait(1)
    assert world.ack(PATH, None)
    assert wait.rows == [(None, b"success", b"1", None)]
    assert world.gauge("queue_results") == 0
    assert not world.ack(PATH, None)


def test_waits_end_in_any_order() -> None:
    world = World()
    world.add(PATH)
    waits = [world.wait(1) for _ in range(5)]
    for index in (2, 0, 4):
        world.store.give_up(waits[index], world.now_ms)
        world.store.give_up(waits[index], world.now_ms)
        world.check()
    assert [len(wait.outcomes) for wait in waits] == [1, 0, 1, 0, 1]
    assert waits[2].rows == []
    world.ack(1, b"v")
    assert [wait.rows for wait in waits if wait.rows] == [[(b"v", b"success", b"1", None)]] * 2
    world.store.give_up(waits[1], world.now_ms)
    assert all(len(wait.outcomes) == 1 for wait in waits)


def test_a_stop_ends_all_waits() -> None:
    world = World()
    waits = [world.wait(1), world.wait(1), world.wait(PATH), world.wait(9)]
    world.store.end_waits(world.now_ms)
    assert [wait.rows for wait in waits] == [[]] * 4
    assert world.gauge("waiters") == 0
    world.check()
