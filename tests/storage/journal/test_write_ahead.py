"""Large texts are written before their statement is executed: no group, and so no answer, waits for them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.errors import UserError
from storage.journal import rows
from storage.journal.store import Durability
from storage.journal.writer import _AHEAD_BYTES_A_SYNC, _LARGE_BYTES_A_TURN
from storage.limits import AnswerLimits
from storage.vocabulary import (
    Binary,
    CacheGet,
    CacheRemove,
    CacheSet,
    QueueAck,
    QueueAdd,
    QueueAddAndRetrieve,
    QueueHeartbeat,
    QueueResult,
    QueueRetrieve,
    Statement,
)
from tests.asking import Told
from tests.audit import audit
from tests.storage.journal.restarting import everything
from tests.storage.journal.test_store import MIB, NOW_MS, World, key

CHUNKS = 5 * MIB // rows.CHUNK_BYTES
SMALL = CacheSet(b"c:small", b"v")


def text(size: int = 5 * MIB, fill: bytes = b"t") -> bytes:
    return fill * size


def ahead(world: World, statement: Statement) -> Told:
    later = world.store.write_ahead(statement)
    assert isinstance(later, Told)
    return later


def blobs(world: World) -> int:
    """Rows of large texts in the database."""
    return world.kinds().count(rows.BLOB.decode())


@pytest.mark.parametrize(
    "statement",
    [
        QueueAdd(b"q:a", text()),
        QueueAddAndRetrieve(b"q:a", text(), 1),
        CacheSet(b"c:a", text()),
        CacheSet(b"c:a", Binary(text())),
    ],
    ids=lambda statement: type(statement).__name__,
)
def test_a_text_is_there_before_the_group_that_names_it(statement: Statement) -> None:
    world = World()
    written = ahead(world, statement)
    while not written.outcomes:
        world.engine.writes.clear()
        world.turns.one()
        assert sum(world.engine.writes) <= _LARGE_BYTES_A_TURN
    assert blobs(world) == CHUNKS
    world.engine.writes.clear()
    world.do(statement, key(1))
    world.store.let_go(statement)
    world.turns.all()
    assert sum(world.engine.writes) < 1_000
    assert everything(world.after_a_kill().store) == everything(world.store)


def test_a_result_is_written_ahead_too() -> None:
    world = World()
    world.do(QueueAdd(b"q:a", b"p"))
    acknowledge = QueueAck(b"q:a", text())
    ahead(world, acknowledge)
    world.turns.all()
    world.do(acknowledge)
    world.store.let_go(acknowledge)
    world.turns.all()
    assert world.after_a_kill().do(QueueResult(b"q:a")).rows[0][0] == text()


@pytest.mark.parametrize(
    "statement",
    [QueueHeartbeat(b"q:a"), CacheSet(b"c:a", b"v"), QueueAck(b"q:a", None), CacheGet(b"c:a")],
    ids=lambda statement: type(statement).__name__,
)
def test_other_statements_have_nothing_to_write_ahead(statement: Statement) -> None:
    world = World()
    assert world.store.write_ahead(statement) is None
    world.store.let_go(statement)
    world.turns.all()
    assert not blobs(world)


def test_a_cache_in_memory_writes_nothing_ahead() -> None:
    world = World()
    world.store._with_cache = False
    assert world.store.write_ahead(CacheSet(b"c:a", text())) is None


def test_others_are_answered_in_each_turn_meanwhile() -> None:
    world = World()
    written = ahead(world, CacheSet(b"c:a", text()))
    turns = 0
    while not written.outcomes:
        answered = world.ask(SMALL)
        world.turns.one()
        assert answered.outcomes
        turns += 1
    assert turns >= CHUNKS // 2


def test_the_text_of_a_statement_that_was_refused_is_deleted() -> None:
    world = World()
    refused = QueueAck(b"q:none", text())
    ahead(world, refused)
    world.turns.all()
    assert blobs(world) == CHUNKS
    world.do(refused)
    world.store.let_go(refused)
    world.turns.all()
    assert not blobs(world)
    world.store.let_go(refused)  # a second time has no effect
    world.turns.all()


def test_what_a_kill_left_is_deleted_at_the_start() -> None:
    world = World()
    ahead(world, CacheSet(b"c:a", text()))
    world.turns.one()
    assert 0 < blobs(world) < CHUNKS
    assert not blobs(world.after_a_kill())


def test_a_write_that_fails_ends_the_wait_and_the_statement_is_refused() -> None:
    world = World()
    statement, other = CacheSet(b"c:a", text()), CacheSet(b"c:b", text())
    both = [ahead(world, statement), ahead(world, other)]
    world.turns.one()
    world.engine.is_broken = True
    world.turns.all()
    assert all(written.outcomes for written in both)
    with pytest.raises(UserError, match="refused: the disk is broken"):
        world.execute(statement)
    world.store.let_go(statement)
    assert world.store.write_ahead(other) is None, "while writes are refused there is nothing to write"
    world.recover()
    assert not blobs(world)
    world.do(other)
    world.store.let_go(other)
    world.turns.all()
    assert blobs(world) == CHUNKS


def test_a_busy_database_is_tried_again() -> None:
    world = World()
    statement = CacheSet(b"c:a", text())
    written = ahead(world, statement)
    world.engine.busy_for = 7
    world.turns.all()
    assert written.outcomes
    assert blobs(world) == CHUNKS


def test_in_strict_mode_little_is_written_between_two_syncs() -> None:
    world = World(durability=Durability.STRICT)
    written = ahead(world, CacheSet(b"c:a", text()))
    syncs = 0
    while not written.outcomes:
        world.engine.writes.clear()
        world.turns.all()
        assert sum(world.engine.writes) <= _AHEAD_BYTES_A_SYNC
        assert written.outcomes or len(world.asked) > syncs
        syncs = len(world.asked)
        world.store.synced(world.store._written_seq)
    assert syncs >= 5 * MIB // _AHEAD_BYTES_A_SYNC


@dataclass
class Large:
    statement: Statement
    written: Told


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from(["begin", "turn", "end", "claim", "remove", "kill", "break", "mend", "late"]), max_size=30)
)
def test_whatever_happens_only_texts_that_rows_name_stay(steps: list[str]) -> None:
    world, began, at_ms = World(), 0, 0
    under_way: list[Large] = []
    for step in steps:
        match step:
            case "begin":
                began += 1
                made: tuple[Statement, ...] = (
                    QueueAdd(b"q:a", text(MIB, b"%d" % (began % 10))),
                    CacheSet(b"c:a", text(MIB, b"%d" % (began % 10))),
                    QueueAck(b"q:a", text(MIB, b"%d" % (began % 10))),
                )
                statement = made[began % 3]
                written = world.store.write_ahead(statement)
                assert written is None or isinstance(written, Told)
                if written is not None:
                    under_way.append(Large(statement, written))
            case "turn":
                world.turns.one()
            case "end" if under_way and under_way[0].written.outcomes:
                first = under_way.pop(0).statement
                if world.store.failure is None:
                    world.execute(first, key(began), at_ms)
                world.store.let_go(first)
            case "claim" if world.store.failure is None:
                world.execute(QueueRetrieve(b"q:a", 1), at_ms=at_ms)
            case "remove" if world.store.failure is None:
                world.execute(CacheRemove(b"c:a"), at_ms=at_ms)
            case "kill" if world.store.failure is None:
                world, under_way = world.after_a_kill(), []
            case "break":
                world.engine.is_broken = True
            case "mend":
                world.recover()
            case "late":
                at_ms += AnswerLimits().keep_ms
    world.recover()
    for large in under_way:
        world.store.let_go(large.statement)
    world.turns.all()
    world.store.tick(NOW_MS + at_ms, 1_000)
    world.turns.all()
    names = {key[1:9] for key in world.engine.content if key.startswith(rows.BLOB)}
    assert len(names) == len(world.store._recorder.blobs), "a text that no row names"
    audit(world.store)
    assert everything(world.after_a_kill().store) == everything(world.store)
