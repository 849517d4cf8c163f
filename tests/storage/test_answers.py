"""Answers kept for those who ask again (decisions, "De-duplication")."""

from __future__ import annotations

import pytest

from storage.answers import ANSWER_OVERHEAD_BYTES
from storage.errors import UserError
from storage.limits import AnswerLimits
from storage.vocabulary import (
    CacheIncr,
    CacheRemove,
    Cell,
    QueueAck,
    QueueAdd,
    QueueCancel,
    QueueGet,
    QueueHeartbeat,
    QueueResult,
    QueueResultBlocking,
    QueueRetrieve,
    QueueStalled,
    Statement,
)
from tests.storage.queue_world import SECOND_MS, World, request

PATH = b"p:k"


def filled() -> World:
    world = World()
    world.add(PATH)
    world.add(b"p:acked")
    world.ack(b"p:acked", b"v")
    return world


@pytest.mark.parametrize(
    ("statement", "again"),
    [
        (QueueAdd(b"p:new", b"{}"), (b"3", True, 2)),
        (QueueAdd(PATH, b"{}"), (b"1", False, 1)),
        (QueueRetrieve(PATH, 9), (b"{}", None, 0, b"k", b"1")),
        (QueueAck(PATH, b"v"), (True,)),
        (QueueAck(b"p:unknown", b"v"), (False,)),
        (QueueCancel(PATH), (b"{}", None)),
        (QueueResult(b"p:acked"), (b"v", b"success", b"2", None)),
        (QueueResultBlocking(2, 1_000), (b"v", b"success", b"2", None)),
        (CacheIncr(b"c:n"), (b"1",)),
    ],
)
def test_what_had_effects_is_answered_again_not_done_again(statement: Statement, again: tuple[Cell, ...]) -> None:
    world = filled()
    assert world.run(statement, key=request(1)) == [again]
    before = world.store.gauges()
    assert world.run(statement, key=request(1)) == [again]
    assert world.store.gauges() == before
    assert before["answers"] == 1


@pytest.mark.parametrize(
    "statement",
    [QueueRetrieve(PATH, 0), QueueResult(PATH), QueueResult(2), QueueResultBlocking(2, 0), QueueGet(PATH)],
    ids=["failed claim", "no result", "by id", "blocking by id", "reading"],
)
def test_what_changed_nothing_is_not_kept(statement: Statement) -> None:
    world = filled()
    world.run(statement, key=request(1))
    assert world.gauge("answers") == 0


def test_a_heartbeat_is_not_kept_and_beats_again_when_it_is_sent_again() -> None:
    world = filled()
    world.retrieve(PATH)
    for _ in range(2):
        world.later(SECOND_MS)
        assert world.run(QueueHeartbeat(PATH), key=request(1)) == []
        assert world.run(QueueStalled(b"p", 0)) == []
    assert world.gauge("answers") == 0


def test_errors_are_not_kept() -> None:
    world = World()
    with pytest.raises(UserError):
        world.run(QueueAdd(PATH, b"{}", exclusive=True), key=request(1))
    assert world.run(QueueAdd(PATH, b"{}"), key=request(1)) == [(b"1", True, 1)]


def test_without_a_key_everything_is_done_again() -> None:
    world = World()
    assert [world.run(CacheIncr(b"c:n")) for _ in range(2)] == [[(b"1",)], [(b"2",)]]
    assert world.gauge("answers") == 0


@pytest.mark.parametrize("undelivered", [False, True], ids=["delivered", "undelivered"])
@pytest.mark.parametrize("confirmed", [False, True], ids=["fresh", "confirmed"])
def test_how_long(undelivered: bool, confirmed: bool) -> None:
    world = World()
    world.run(CacheIncr(b"c:n"), key=request(1))
    if confirmed:
        world.store.confirm_delivered([request(1), request(99)])
    if undelivered:
        world.store.mark_undelivered(request(1))
        world.store.mark_undelivered(request(99))
    world.check()
    world.later((600 if undelivered else 300) * SECOND_MS - 1)
    assert world.run(CacheIncr(b"c:n"), key=request(1)) == [(b"1",)]
    world.later(1)
    world.settle()
    assert world.gauge("answers") == 0
    assert world.gauge("answer_bytes") == 0
    assert world.run(CacheIncr(b"c:n"), key=request(1)) == [(b"2",)]
    world.check()


def test_asking_again_does_not_prolong() -> None:
    world = World()
    world.run(CacheIncr(b"c:n"), key=request(1))
    world.later(299 * SECOND_MS)
    world.run(CacheIncr(b"c:n"), key=request(1))
    world.later(SECOND_MS)
    assert world.run(CacheIncr(b"c:n"), key=request(1)) == [(b"2",)]


def test_confirmed_answers_make_room_oldest_first() -> None:
    world = World(answers=AnswerLimits(max_bytes=4 * 6 * ANSWER_OVERHEAD_BYTES))
    for number in range(3):
        world.run(CacheRemove(b"c:n"), key=request(number))
    world.store.confirm_delivered([request(0), request(1)])
    world.run(CacheIncr(b"c:n"), key=request(3))
    answers = world.store.answers
    assert [answers.find(request(number)) is not None for number in range(4)] == [False, True, True, True]
    world.check()


def test_unconfirmed_answers_stay_and_new_writes_are_refused() -> None:
    world = World(answers=AnswerLimits(max_bytes=4 * 3 * ANSWER_OVERHEAD_BYTES))
    for number in range(2):
        world.run(CacheRemove(b"c:none"), key=request(number))
    with pytest.raises(UserError, match="CUBEQUEUE_ANSWERS_MAX_SIZE"):
        world.run(QueueAdd(PATH, b"{}"), key=request(2))
    world.check()
    assert world.gauge("queue_items") == 0
    assert world.run(CacheRemove(b"c:none"), key=request(0)) == []  # a kept answer needs no room
    assert world.run(QueueGet(PATH), key=request(3)) == []
    assert world.run(QueueAdd(PATH, b"{}")) == [(b"1", True, 1)]
    world.later(300 * SECOND_MS)
    assert world.run(CacheRemove(b"c:none"), key=request(4)) == []
    world.check()


def test_texts_count() -> None:
    world = World()
    world.add(PATH, b"x" * 10_000)
    world.run(QueueRetrieve(PATH, 1), key=request(1))
    assert world.gauge("answer_bytes") == ANSWER_OVERHEAD_BYTES + 10_000 + len(b"k") + len(b"1")
    world.check()


@pytest.mark.parametrize("value", [b"v", None], ids=["value", "NULL"])
@pytest.mark.parametrize("key", [PATH, 1], ids=["by path", "by id"])
def test_a_woken_wait_is_answered_again(key: bytes | int, value: bytes | None) -> None:
    world = World()
    world.add(PATH)
    wait = world.wait(key, request_key=request(1))
    world.ack(PATH, value)
    assert wait.rows == [(value, b"success", b"1", None)]
    assert world.run(QueueResultBlocking(key, 1_000), key=request(1)) == wait.rows
    world.check()


def test_a_wait_that_timed_out_is_not_kept() -> None:
    world = World()
    wait = world.wait(1, request_key=request(1))
    world.store.give_up(wait, world.now_ms)
    assert wait.rows == []
    assert world.gauge("answers") == 0
    world.wait(1, request_key=request(1))


def test_two_waits_under_one_key_keep_the_first_answer() -> None:
    world = World()
    world.add(b"p:a")
    world.add(b"p:b")
    world.wait(1, request_key=request(1))
    world.wait(2, request_key=request(1))
    world.ack(1, b"one")
    world.ack(2, b"two")
    assert world.run(QueueResultBlocking(1, 1_000), key=request(1)) == [(b"one", b"success", b"1", None)]
    world.check()


def woken(count: int, text_bytes: int = 1_000) -> World:
    """A world in which one result answered so many requests."""
    world = World()
    id_ = world.add(PATH)
    waits = [world.wait(id_, request_key=request(number)) for number in range(count)]
    world.ack(PATH, b"x" * text_bytes)
    assert all(len(wait.outcomes) == 1 for wait in waits)
    return world


@pytest.mark.parametrize("count", [4, 40], ids=["a few", "many, which are answered in steps"])
def test_one_result_that_wakes_many_counts_once(count: int) -> None:
    world = woken(count)
    assert 0 <= count * ANSWER_OVERHEAD_BYTES + 1_000 + 8 - world.gauge("answer_bytes") < count
    world.check()


@pytest.mark.parametrize("count", [4, 40])
def test_the_last_of_many_that_share_a_result_counts_all_of_it(count: int) -> None:
    """Else a client would have results of any size kept for next to nothing, beside many that confirm theirs."""
    world = woken(count)
    answers = world.store.answers
    for number in range(count - 1):
        answers.confirm([request(number)])
        answers.texts.give_way_bytes = answers.texts.size_bytes
        answers.make_room(answers.texts)
        world.check()
        left = count - 1 - number
        assert len(answers) == left
        assert answers.size_bytes - left * ANSWER_OVERHEAD_BYTES > 1_008 // 2 - left, "half of it at least"
    assert answers.size_bytes == ANSWER_OVERHEAD_BYTES + 1_000 + len(b"success1")


def test_confirmed_answers_give_way_early_and_unconfirmed_ones_have_more_room() -> None:
    room = AnswerLimits(give_way_bytes=4 * 2 * ANSWER_OVERHEAD_BYTES, max_bytes=4 * 8 * ANSWER_OVERHEAD_BYTES)
    world = World(answers=room)
    for number in range(4):
        world.run(CacheIncr(b"c:n"), key=request(number))
    assert world.gauge("answers") == 4
    world.store.confirm_delivered([request(number) for number in range(4)])
    world.run(CacheIncr(b"c:n"), key=request(4))
    assert world.gauge("answers") == 2
    assert world.run(CacheIncr(b"c:n"), key=request(3)) == [(b"4",)]
    world.check()
