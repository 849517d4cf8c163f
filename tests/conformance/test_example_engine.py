"""The example of a remote engine where scripts cannot look: many requests at once, and links that are lost anywhere."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.client_codec import Rows, decode_reply
from storage.asking import ANYBODY
from storage.errors import UserError
from storage.limits import AnswerLimits, CacheLimits, QueueLimits
from storage.system_tables import SystemTable
from storage.vocabulary import (
    EMPTY_RESULT,
    CacheGet,
    CacheIncr,
    QueueAck,
    QueueAdd,
    QueueHeartbeat,
    QueueResultBlocking,
    QueueRetrieve,
    QueueStalled,
    RequestKey,
    Statement,
)
from tests.asking import Told, rows_of, run
from tests.audit import audit
from tests.conformance.example_engine import UNKNOWN, ExampleEngine, Remote
from tests.storage.journal.restarting import Turns

NOW_MS = 1_764_000_000_000
INCR = CacheIncr(b"c:n")
WAIT = QueueResultBlocking(b"q:a", 60_000)


def key(number: int) -> RequestKey:
    return (b"", b"client", number)


class World:
    """A remote, and engines on it that share a loop by hand."""

    def __init__(self, seed: int = 1) -> None:
        self.turns = Turns()
        self.random = Random(seed)
        self.remote = Remote(QueueLimits(), CacheLimits(), AnswerLimits(), 1, self.random)
        self.may_lose: Callable[[ExampleEngine], bool] = lambda _engine: False
        self.engine = self.new_engine()

    def new_engine(self) -> ExampleEngine:
        def loses_link(engine: ExampleEngine) -> bool:
            return self.may_lose(engine)

        return ExampleEngine(self.remote, self.turns.call_soon, Told, self.random, loses_link)

    def ask(self, statement: Statement, key: RequestKey | None = None, engine: ExampleEngine | None = None) -> Told:
        later = (engine or self.engine).execute(statement, ANYBODY, key, NOW_MS)
        assert isinstance(later, Told)
        assert not later.outcomes
        return later

    def do(self, statement: Statement) -> Told:
        told = self.ask(statement)
        self.turns.all()
        return told

    def lose_link_with_answers(self) -> None:
        """Let the remote execute what was asked, and lose its answers."""
        while not self.engine.link.has_answers:
            self.turns.one()
        self.engine.link.lose()

    def lose_first_link_after(self, steps: int) -> None:
        """So many requests arrive, or turns bring answers; then the first link is lost."""
        left = iter(range(steps))
        self.may_lose = lambda _engine: next(left, None) is None and self.engine.links == 1

    @property
    def counted(self) -> int:
        return int(self.do(CacheGet(INCR.path)).rows[0][0] or 0)


def test_answers_come_in_another_order_and_effects_do_not() -> None:
    world = World()
    came: list[int] = []
    asked = []
    for number in range(20):
        asked.append(world.ask(INCR))
        asked[-1].then = lambda _, number=number: came.append(number)
    world.turns.all()
    assert [each.rows for each in asked] == [[(b"%d" % number,)] for number in range(1, 21)]
    assert sorted(came) == list(range(20)) != came


def test_some_answers_are_messages_for_the_client_that_asked() -> None:
    world = World()
    asked = [world.ask(INCR, key(number)) for number in range(1, 30)]
    world.turns.all()
    messages = {number: each.outcome for number, each in enumerate(asked, 1) if isinstance(each.outcome, bytes)}
    assert 0 < len(messages) < len(asked)
    for number, message in messages.items():
        reply = decode_reply(message)
        assert isinstance(reply, Rows)
        assert (reply.message_id, reply.rows) == (number, [(b"%d" % number,)])
    assert not any(isinstance(world.do(INCR).outcome, bytes) for _ in range(30)), "for whom would it be"


# A link that is lost.


def test_what_has_a_key_is_asked_again_and_executed_once() -> None:
    world = World()
    told = [world.ask(INCR, key(number)) for number in range(5)]
    world.lose_link_with_answers()
    world.turns.all()
    assert [len(each.outcomes) for each in told] == [1] * 5
    assert world.counted == 5
    assert world.engine.links == 2


def test_without_a_key_nobody_knows_and_it_is_not_executed_again() -> None:
    world = World()
    told = world.ask(INCR)
    world.lose_link_with_answers()
    world.turns.all()
    assert str(told.outcome) == UNKNOWN
    assert world.counted == 1


def test_what_does_no_harm_twice_is_asked_again_without_a_key() -> None:
    world = World()
    world.do(QueueAdd(b"q:a", b"{}"))
    world.do(QueueRetrieve(b"q:a", 1))
    read, beat = world.ask(QueueStalled(b"q", 1_000)), world.ask(QueueHeartbeat(b"q:a"))
    world.lose_link_with_answers()
    world.turns.all()
    assert (read.rows, beat.outcome) == ([], EMPTY_RESULT)


def test_what_was_not_sent_yet_is_sent_over_the_next_link() -> None:
    world = World()
    before = world.ask(INCR)
    world.engine.link.lose()
    after = world.ask(INCR)
    world.turns.all()
    assert [before.rows, after.rows] == [[(b"1",)], [(b"2",)]]


def test_the_rest_of_what_was_sent_together_is_lost_with_the_link() -> None:
    """The remote has executed a part; which one, nobody at this end knows."""
    world = World()
    world.lose_first_link_after(3)
    told = [world.ask(INCR) for _ in range(5)] + [world.ask(INCR, key(1))]
    world.turns.all()
    assert [str(each.outcome) for each in told[:5]] == [UNKNOWN] * 5
    assert len(told[5].outcomes) == 1
    assert world.counted == 3 + 1


def test_a_wait_goes_on_over_the_next_link() -> None:
    world = World()
    world.do(QueueAdd(b"q:a", b"{}"))
    waiting = world.ask(WAIT, key(1))
    world.turns.all()
    world.engine.link.lose()
    world.turns.all()
    assert not waiting.outcomes
    assert world.remote.store.gauges()["waiters"] == 1
    world.do(QueueAck(b"q:a", b"done"))
    assert len(waiting.outcomes) == 1


@pytest.mark.parametrize("when", ["while it waits", "while nobody waits", "after its answer was lost"])
def test_a_wait_gets_a_result_that_came_to_another_server_while_its_link_was_lost(when: str) -> None:
    world = World()
    other = world.new_engine()
    world.do(QueueAdd(b"q:a", b"{}"))
    waiting = world.ask(WAIT, key(1))
    world.turns.all()
    if when == "while nobody waits":
        world.engine.link.lose()
    acknowledged = world.ask(QueueAck(b"q:a", b"done"), engine=other)
    if when == "after its answer was lost":
        world.lose_link_with_answers()
    world.turns.all()
    assert acknowledged.rows == [(True,)]
    [outcome] = waiting.outcomes
    if isinstance(outcome, bytes):
        reply = decode_reply(outcome)
        assert isinstance(reply, Rows)
        assert reply.rows[0][0] == b"done"
    else:
        assert waiting.rows[0][0] == b"done"


def test_a_wait_that_is_given_up_ends_once_and_leaves_nothing_behind() -> None:
    """Wherever its link is lost: the answer may be lost when the one to giving up has come."""
    for seed, lost_after in product(range(20), range(8)):
        world = World(seed)
        waiting = world.ask(WAIT, key(1))
        world.turns.all()
        world.lose_first_link_after(lost_after)
        world.engine.give_up(waiting, NOW_MS)
        world.engine.give_up(waiting, NOW_MS)
        world.turns.all()
        assert len(waiting.outcomes) == 1, (seed, lost_after)
        assert world.remote.store.gauges()["waiters"] == 0
        audit(world.engine)


def test_a_result_that_overtakes_the_end_of_a_wait_is_its_answer() -> None:
    world = World()
    other = world.new_engine()
    world.do(QueueAdd(b"q:a", b"{}"))
    waiting = world.ask(WAIT)
    world.turns.all()
    world.ask(QueueAck(b"q:a", b"done"), engine=other)
    world.turns.one()
    world.engine.give_up(waiting, NOW_MS)
    world.turns.all()
    assert waiting.rows[0][0] == b"done"


# The law.

STEPS = st.lists(
    st.sampled_from(["keyed", "keyed", "bare", "bare", "wait", "give up", "turn", "turn", "lose"]), max_size=60
)


@given(seed=st.integers(0, 1 << 30), steps=STEPS)
@settings(max_examples=300, deadline=None)
def test_each_request_is_answered_once_whatever_happens_to_links(seed: int, steps: list[str]) -> None:
    """With a key it is executed once, without one once if it is told so, and at most once if nobody knows."""
    world = World(seed)
    keyed: list[Told] = []
    bare: list[Told] = []
    waits: list[Told] = []
    world.may_lose = lambda _engine: world.random.random() < 0.05
    for number, step in enumerate(steps):
        match step:
            case "keyed":
                keyed.append(world.ask(INCR, key(number)))
            case "bare":
                bare.append(world.ask(INCR))
            case "wait":
                waits.append(world.ask(WAIT, key(number)))
            case "give up" if waits:
                world.engine.give_up(world.random.choice(waits), NOW_MS)
            case "turn":
                world.turns.one()
            case "lose" if not world.engine.link.is_lost:
                world.engine.link.lose()
    world.may_lose = lambda _engine: False
    world.engine.end_waits(NOW_MS)
    world.turns.all()
    assert [len(each.outcomes) for each in (*keyed, *bare, *waits)] == [1] * len(keyed + bare + waits)
    unknown = sum(isinstance(each.outcome, UserError) for each in bare)
    assert not any(isinstance(each.outcome, UserError) for each in keyed + waits)
    least = len(keyed) + len(bare) - unknown
    assert least <= world.counted <= least + unknown
    assert world.remote.store.gauges()["waiters"] == 0
    audit(world.engine)


# What people look at.


def test_readings_are_answered_in_a_later_turn_and_outlast_a_link() -> None:
    world = World()
    for number in range(150):
        world.ask(QueueAdd(b"q:%d" % number, b"{}"))
    world.ask(CacheGet(b"c:missing"))
    world.ask(WAIT, key(1))
    world.turns.all()
    losses = world.engine.losses
    turns = 0

    def settle() -> None:
        nonlocal turns
        turns += 1
        if turns == 1:
            world.engine.link.lose()
        world.turns.all()

    keys = [row[0] for row in run(rows_of(world.engine.read_table(SystemTable.QUEUE)), settle)]
    assert keys == [b"%d" % number for number in range(150)]
    assert turns == 1
    [figures] = run(rows_of(world.engine.queue_figures(NOW_MS)), settle)
    assert (figures.prefix, figures.pending) == (b"q", 150)
    assert run(rows_of(world.engine.waited_paths()), settle) == [b"q:a"]
    assert run(world.engine.queue_stats(), settle).named[b"q"].added == 150
    assert run(world.engine.cache_totals(), settle).misses == 1
    assert turns == 5
    later = world.engine.settled(losses)
    assert isinstance(later, Told)
    assert not later.outcomes
    world.turns.all()
    assert later.outcome == EMPTY_RESULT


def test_gauges_are_those_of_the_last_tick() -> None:
    world = World()
    world.do(QueueAdd(b"q:a", b"{}"))
    assert world.engine.gauges()["queue_items"] == 0
    assert world.engine.tick(NOW_MS, 10) is False
    world.turns.all()
    assert world.engine.gauges()["queue_items"] == 1
