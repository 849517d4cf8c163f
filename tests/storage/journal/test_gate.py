"""No answer leaves before what it may have seen is durable, and none whose sight was lost: the gate, by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.errors import InternalError, UserError
from storage.journal import rows
from storage.journal.store import Durability
from storage.vocabulary import (
    EMPTY_RESULT,
    CacheGet,
    CacheIncr,
    CacheSet,
    CachestoreAction,
    QueueAck,
    QueueAdd,
    QueueGet,
    QueueResultBlocking,
    QueueRetrieve,
    Result,
    Statement,
    SysCachestore,
)
from tests.asking import Told
from tests.audit import audit
from tests.storage.journal.restarting import RowsEngine, Turns, opened
from tests.storage.journal.test_store import NOW_MS, World, add, key

PERSIST = SysCachestore(CachestoreAction.PERSIST)
LOST = "refused: the disk is broken"
WAIT = QueueResultBlocking(b"q:a", 60_000)


def commit(world: World) -> None:
    """Make everything durable."""
    world.turns.all()
    world.store.synced(world.applied_seq)


MODES = pytest.mark.parametrize("durability", [Durability.RELAXED, Durability.STRICT], ids=lambda mode: mode.value)


@MODES
def test_an_error_that_depends_on_the_state_is_held_until_the_state_is_durable(durability: Durability) -> None:
    world = World(durability=durability)
    world.ask(CacheSet(b"c:n", b"no number"))
    refused = world.ask(CacheIncr(b"c:n"))
    commit(world)
    assert isinstance(refused.outcome, InternalError)
    with pytest.raises(InternalError, match="invalid digit"):
        world.execute(CacheIncr(b"c:n"))


@MODES
def test_an_error_that_saw_what_is_lost_becomes_the_error_of_the_loss(durability: Durability) -> None:
    world = World(durability=durability)
    world.engine.is_broken = True
    world.ask(CacheSet(b"c:n", b"no number"))
    refused = world.ask(CacheIncr(b"c:n"), key(1))
    world.turns.all()
    assert str(refused.outcome) == LOST
    world.recover()
    counted = world.execute(CacheIncr(b"c:n"), key(1))
    commit(world)
    assert isinstance(counted, Told)
    assert counted.rows == [(b"1",)], "asked again, it is executed on what is left"


@MODES
def test_a_read_is_held_while_anything_is_not_durable(durability: Durability) -> None:
    world = World(durability=durability)
    world.ask(add("a"))
    about_it, about_another = world.ask(QueueGet(b"q:a")), world.ask(CacheGet(b"c:other"))
    commit(world)
    assert len(about_it.rows) == 1
    assert about_another.rows == [(None,)]
    assert world.at_once(QueueGet(b"q:a")).rows


@MODES
def test_a_waiter_that_is_woken_is_held(durability: Durability) -> None:
    world = World(durability=durability)
    world.ask(add("a"))
    commit(world)
    waiting = world.ask(WAIT, key(1))
    world.turns.all()
    acknowledged = world.ask(QueueAck(b"q:a", b"done"), key(2))
    assert not waiting.outcomes
    commit(world)
    assert waiting.rows[0][0] == b"done"
    assert acknowledged.rows == [(True,)]
    assert world.after_a_kill().do(WAIT, key(1)).rows[0][0] == b"done"


@MODES
def test_a_waiter_whose_wake_is_lost_is_told_so(durability: Durability) -> None:
    world = World(durability=durability)
    world.ask(add("a"))
    commit(world)
    waiting = world.ask(WAIT, key(1))
    acknowledged = world.lose(QueueAck(b"q:a", b"done"), key(2))
    assert str(waiting.outcome) == str(acknowledged.outcome) == LOST
    world.recover()
    again = world.ask(WAIT, key(1))
    world.ask(QueueAck(b"q:a", b"done"), key(2))
    commit(world)
    assert again.rows[0][0] == b"done"
    assert len(waiting.outcomes) == 1


@pytest.mark.parametrize("end", ["give up", "stop"])
def test_a_wait_that_ends_is_held_like_an_answer(end: str) -> None:
    world = World()
    waiting = world.ask(WAIT)
    world.ask(add("b"))
    if end == "stop":
        world.store.end_waits(NOW_MS)
    else:
        world.store.give_up(waiting, NOW_MS)
    assert not waiting.outcomes
    commit(world)
    assert waiting.rows == []


def test_answers_leave_in_the_order_of_their_statements() -> None:
    world = World(durability=Durability.STRICT)
    told: list[int] = []
    statements: list[Statement] = [
        add("a"),
        QueueGet(b"q:a"),
        CacheSet(b"c:n", b"x"),
        CacheIncr(b"c:n"),
        QueueRetrieve(b"q:a", 1),
        PERSIST,
        CacheGet(b"c:n"),
    ]
    for number, statement in enumerate(statements):
        world.ask(statement).then = lambda _, number=number: told.append(number)
        if number == 3:
            world.turns.all()
    commit(world)
    persist = statements.index(PERSIST)
    assert [number for number in told if number != persist] == [0, 1, 2, 3, 4, 6]
    assert persist in told


def test_an_answer_leaves_once_what_it_saw_is_durable_whatever_came_later() -> None:
    world = World(durability=Durability.STRICT)
    first = world.ask(add("a"))
    seq = world.applied_seq
    second = world.ask(add("b"))
    world.turns.all()
    world.store.synced(seq)
    assert first.rows
    assert not second.outcomes


# What a reading in steps ends with.


def test_settled_is_none_when_all_is_durable() -> None:
    world = World()
    world.do(add("a"))
    assert world.store.settled(world.store.losses) is None


@MODES
def test_settled_waits_for_what_was_applied_by_then(durability: Durability) -> None:
    world = World(durability=durability)
    world.ask(add("a"))
    later = world.store.settled(world.store.losses)
    assert isinstance(later, Told)
    assert later.timeout_ms is None
    assert not later.outcomes
    commit(world)
    assert isinstance(later.outcome, Result)


@MODES
def test_settled_fails_when_what_was_read_is_lost_while_it_waits(durability: Durability) -> None:
    world = World(durability=durability)
    world.ask(add("a"))
    later = world.store.settled(world.store.losses)
    world.engine.is_broken = True
    world.turns.all()
    assert isinstance(later, Told)
    assert isinstance(later.outcome, UserError)


def test_settled_refuses_when_something_was_lost_since_the_reading_began() -> None:
    world = World()
    losses = world.store.losses
    world.lose(add("a"))
    world.recover()
    with pytest.raises(UserError, match="lost by a failed write, ask again"):
        world.store.settled(losses)
    assert world.store.settled(world.store.losses) is None


# After a write that failed.


def test_what_was_above_the_last_written_change_is_told_as_lost_and_nothing_else() -> None:
    world = World(durability=Durability.STRICT)
    kept = [world.ask(add("a")), world.ask(QueueGet(b"q:a")), world.ask(CacheIncr(b"c:n"))]
    world.turns.all()
    kept.append(world.ask(CacheGet(b"c:n")))
    waiting = world.ask(WAIT)
    written_seq = world.applied_seq
    world.engine.is_broken = True
    lost = [world.ask(add("b")), world.ask(QueueGet(b"q:b")), world.ask(CacheSet(b"c:n", b"x"))]
    lost += [world.ask(CacheIncr(b"c:n")), world.ask(PERSIST)]
    settled = world.store.settled(world.store.losses)
    assert isinstance(settled, Told)
    lost.append(settled)
    world.turns.all()
    assert [str(each.outcome) for each in lost] == [LOST] * len(lost)
    assert [each.outcomes for each in kept] == [[]] * len(kept)
    world.store.synced(written_seq)
    assert all(isinstance(each.outcome, Result) for each in kept)
    assert not waiting.outcomes
    world.recover()
    assert [len(each.outcomes) for each in kept + lost] == [1] * len(kept + lost)
    world.ask(QueueAck(b"q:a", b"done"))
    commit(world)
    assert waiting.rows[0][0] == b"done"


# SYS CACHESTORE PERSIST.


@MODES
def test_persist_answers_each_when_what_came_before_it_is_on_the_disk(durability: Durability) -> None:
    world = World(durability=durability)
    seqs, persisted = [], []
    for name in "abc":
        world.execute(add(name))
        world.turns.all()
        seqs.append(world.applied_seq)
        persisted.append(world.ask(PERSIST))
    for number, seq in enumerate(seqs):
        assert [len(each.outcomes) for each in persisted] == [1] * number + [0] * (3 - number)
        world.store.synced(seq)
    assert [each.outcome for each in persisted] == [EMPTY_RESULT] * 3


def test_persist_ends_with_the_other_waits_at_a_stop_whose_end_syncs() -> None:
    world = World()
    world.do(add("a"))
    persisted = world.ask(PERSIST)
    world.store.end_waits(NOW_MS)
    assert persisted.outcome == EMPTY_RESULT
    world.store.synced(world.applied_seq)
    assert len(persisted.outcomes) == 1


def test_persist_where_nobody_syncs_waits_for_the_write_alone() -> None:
    turns = Turns()
    store = opened(RowsEngine(), turns, now_ms=NOW_MS, sync=None)
    turns.all()
    world = World.__new__(World)
    world.store, world.turns = store, turns
    world.ask(add("a"))
    persisted = world.ask(PERSIST)
    turns.all()
    assert persisted.outcome == EMPTY_RESULT


# The law of it all.

COUNTER = b"c:n"
STEPS = st.lists(
    st.sampled_from(["count", "count", "read", "refuse", "turn", "turn", "sync", "break", "mend"]), max_size=60
)


class Counting:
    """A counter that clients count and read while turns, syncs and failures come as they like."""

    def __init__(self, durability: Durability) -> None:
        self.world = World(durability=durability)
        self.is_strict = durability is Durability.STRICT
        self.written: dict[int, int] = {}  # the counter in the rows when a sync was asked for
        self.durable = 0  # the counter that would outlast now what the mode promises to outlast
        self.open = self.counted = self.messages = 0
        self.steps: dict[str, Callable[[], None]] = {
            "count": lambda: self.ask(CacheIncr(COUNTER)),
            "read": lambda: self.ask(CacheGet(COUNTER)),
            "refuse": lambda: self.ask(QueueAdd(b"q:a", b"", exclusive=True)),
            "turn": self.turn,
            "sync": self.sync,
            "break": lambda: setattr(self.world.engine, "is_broken", True),
            "mend": self.mend,
        }
        self.note()

    def ask(self, statement: Statement) -> None:
        self.messages += 1
        try:
            outcome = self.world.execute(statement, key(self.messages))
        except UserError:
            return  # refused at once, and had no effect
        if isinstance(outcome, Result):
            self.check(statement, outcome)
        else:
            self.open += 1
            outcome.then = lambda told: self.told(statement, told)

    def told(self, statement: Statement, outcome: object) -> None:
        self.open -= 1
        if isinstance(outcome, Result):
            self.check(statement, outcome)
        else:
            assert isinstance(outcome, UserError)

    def check(self, statement: Statement, result: Result) -> None:
        """An answer leaves: what it tells is durable."""
        self.counted += isinstance(statement, CacheIncr)
        self.look()
        value = result.rows[0][0]
        assert value is None or int(value) <= self.durable

    def look(self) -> None:
        """Where a write is all that is promised, rows are durable as soon as they are there."""
        if not self.is_strict:
            self.durable = self.in_rows()

    def in_rows(self) -> int:
        row = self.world.engine.content.get(rows.ENTRY + COUNTER)
        return 0 if row is None else int(rows.decode_entry(row).value)

    def turn(self) -> None:
        self.world.turns.one()
        self.note()

    def note(self) -> None:
        """What a sync that is asked for now will make durable."""
        for seq in self.world.asked:
            self.written.setdefault(seq, self.in_rows())

    def sync(self) -> None:
        """The sync that was asked for last is done."""
        if self.world.asked and self.is_strict:
            self.durable = self.written[self.world.asked[-1]]
            self.world.store.synced(self.world.asked[-1])

    def mend(self) -> None:
        store = self.world.store
        self.world.engine.is_broken = False
        if store.failure is not None:
            store._retry_at_ms = 0
            store.tick(NOW_MS, 10)
            self.durable = self.in_rows()  # an engine that was opened anew is synced
        self.turn()


@MODES
@given(steps=STEPS)
@settings(max_examples=200, deadline=None)
def test_what_an_answer_tells_is_durable_and_each_count_that_was_told_is_there_once(
    durability: Durability, steps: list[str]
) -> None:
    counting = Counting(durability)
    for step in steps:
        counting.steps[step]()
        audit(counting.world.store)
    counting.mend()
    while counting.world.turns:
        counting.turn()
    counting.sync()
    assert counting.open == 0
    assert counting.in_rows() == counting.counted
