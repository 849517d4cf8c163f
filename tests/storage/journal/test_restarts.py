"""The machine of the model, with a restart from the journal between any two statements."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from storage.asking import ANYBODY, Caller
from storage.journal.store import Durability, JournaledStore
from storage.limits import AnswerLimits
from storage.system_tables import SystemTable
from storage.vocabulary import (
    CacheIncr,
    QueueAck,
    QueueCancel,
    QueueHeartbeat,
    QueueMergeExtra,
    QueueRetrieve,
    Result,
    Row,
)
from tests.asking import Told, rows_of, run
from tests.audit import audit
from tests.conformance.engines import FIRST_ID, Candidate, Opened
from tests.model.machine import StoreMachine
from tests.storage.journal.restarting import RestartingStore, RowsEngine, Turns, opened
from tests.storage.journal.test_store import NOW_MS, World, add


class JournaledMachine(StoreMachine):
    """Restarted all the time."""

    engine = Candidate(
        "journaled",
        lambda limits: Opened(RestartingStore(limits.queue, limits.cache, limits.answers, FIRST_ID, every=7)),
    )


QUICK = settings(max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))


def test_a_restart_changes_nothing() -> None:
    run_state_machine_as_test(JournaledMachine, settings=QUICK)


@pytest.mark.soak
@pytest.mark.timeout(3_600)
def test_a_restart_changes_nothing_at_length() -> None:
    run_state_machine_as_test(JournaledMachine, settings=settings(QUICK, max_examples=2_000, stateful_step_count=80))


def test_who_added_and_who_claimed_an_item_outlives_the_process() -> None:
    adder, claimer = Caller(b"adder", "10.0.0.1:5", 7), Caller(b"claimer", "10.0.0.2:6", 8)
    world = World()
    for name in "abc":
        world.do(add(name), caller=adder)
    world.do(QueueRetrieve(b"q:a", 9), caller=claimer)
    world.do(QueueRetrieve(b"q:b", 9), caller=Caller(None, "10.0.0.3:7", 9))
    world.do(QueueHeartbeat(b"q:a"), caller=adder)
    for name in "ac":
        world.do(QueueMergeExtra(b"q:" + name.encode(), b"{}"), caller=adder)
    for _ in range(2):
        world = world.after_a_kill()
        items = list(world.store._memory.queue.items.by_id.values())
        assert [item.added_by for item in items] == [adder] * 3
        assert [item.claimed_by for item in items] == [claimer, Caller(None, "10.0.0.3:7", 9), None]
        assert len({id(item.added_by) for item in items}) == 1, "one object for all items of a client"
        audit(world.store)


MINUTE_MS, START_MS = 60_000, 1_764_000_000_000
ROOM = 600  # bytes of an answer, and some


class Lives:
    """Server after server on one journal, and a client whose statements must not run twice."""

    def __init__(self, *, give_way: int, most: int) -> None:
        give_way_bytes, most_bytes = 4 * give_way * ROOM, 4 * most * ROOM  # a quarter is for answers without texts
        self._limits = AnswerLimits(give_way_bytes, most_bytes, MINUTE_MS, 2 * MINUTE_MS)
        self._database, self._turns = RowsEngine(), Turns()
        self._last_id = 0
        self.now_ms = START_MS
        self.begin(after_ms=0)

    def begin(self, after_ms: int) -> None:
        """The server before is gone without a word; after that long comes the next."""
        self.now_ms += after_ms
        self.store = opened(self._database, self._turns, answers=self._limits, now_ms=self.now_ms)
        self._turns.all()

    def count(self, message_id: int | None = None) -> int:
        """What an increment is told: as many as there were, for a new message."""
        if message_id is None:
            message_id = self._last_id = self._last_id + 1
        outcome = self.store.execute(CacheIncr(b"c:n"), ANYBODY, (b"", b"client", message_id), self.now_ms)
        self._turns.all()
        result = outcome.outcome if isinstance(outcome, Told) else outcome
        assert isinstance(result, Result)
        value = result.rows[0][0]
        assert isinstance(value, bytes)
        return int(value)

    @property
    def kept(self) -> int:
        return self.store.gauges()["answers"]


def test_regression_answers_that_outlived_their_time_through_restarts_give_way() -> None:
    """Each restart counts them as new. A server that ended every few seconds for an hour kept all, and would have
    refused writes in the end."""
    lives = Lives(give_way=300, most=500)
    for _ in range(150):
        for _ in range(4):
            lives.count()
            lives.now_ms += 500
        lives.begin(after_ms=10_000)
    assert 200 < lives.kept < 360, "those of two minutes, and what there is room for"
    assert lives.count(600 - 100) == 500, "a recent one is there"


def test_however_long_nobody_was_there_an_unproved_answer_is_kept() -> None:
    """A client could ask again only while a server was up: not for three seconds yet, when the last one starts."""
    lives = Lives(give_way=10, most=500)
    told = [lives.count() for _ in range(50)]
    for _ in range(3):
        lives.begin(after_ms=10 * MINUTE_MS)
        told.append(lives.count())
    lives.begin(after_ms=10 * MINUTE_MS)
    assert [lives.count(number) for number in range(1, 54)] == told == list(range(1, 54))


def test_an_answer_that_nobody_could_be_given_keeps_its_longer_time_through_a_restart() -> None:
    lives = Lives(give_way=10, most=500)
    lives.count()
    lives.store.mark_undelivered((b"", b"client", 1))
    for seconds in (90, 20):
        for _ in range(seconds):
            lives.now_ms += 1_000
            lives.count()
        lives.begin(after_ms=1_000)
    lives.count()
    assert lives.count(1) == 1


def test_history_and_minutes_outlive_an_orderly_end_and_all_but_the_last_minute_a_kill() -> None:
    worker = Caller(b"p", "10.0.0.1:1", 1)
    world = World()
    world.store.tick(NOW_MS, 1_000)
    for name in "ab":
        world.do(add(name))
        world.do(QueueRetrieve(b"q:" + name.encode(), 9), caller=worker)
    world.do(QueueAck(b"q:a", b"1"), caller=worker)
    while world.store.tick(NOW_MS + MINUTE_MS, 1_000):
        pass
    world.turns.all()
    world.do(QueueAck(b"q:b", b"1"), at_ms=MINUTE_MS + 1, caller=worker)
    after_kill = opened(RowsEngine(dict(world.engine.content)), Turns(), now_ms=NOW_MS)
    assert [row[0] for row in _rows(after_kill, SystemTable.HISTORY)] == [b"a"]
    assert [row[2:6] for row in _rows(after_kill, SystemTable.MINUTES)] == [(2, 2, 1, 0)]
    before = {table: _rows(world.store, table) for table in (SystemTable.HISTORY, SystemTable.MINUTES)}
    assert len(before[SystemTable.HISTORY]) == 2
    world.store.close()
    after_close = opened(RowsEngine(dict(world.engine.content)), Turns(), now_ms=NOW_MS)
    assert {table: _rows(after_close, table) for table in before} == before


def test_a_lost_end_is_not_in_the_history() -> None:
    world = World()
    for name in "ab":
        world.do(add(name))
    world.do(QueueCancel(b"q:a"))
    world.lose(QueueCancel(b"q:b"))
    assert [row[0] for row in _rows(world.store, SystemTable.HISTORY)] == [b"a"]
    assert [each.path for each in world.store.take_cancels()] == [b"q:a"]
    assert run(world.store.queue_stats()).named[b"q"].added == 2  # no total falls


def test_how_long_an_item_runs_outlives_the_process() -> None:
    world = World()
    world.do(add("a"))
    world.do(QueueRetrieve(b"q:a", 9), at_ms=5)
    world.do(QueueHeartbeat(b"q:a"), at_ms=500)
    world.store.close()
    again = World(RowsEngine(dict(world.engine.content)))
    again.do(QueueAck(b"q:a", b"1"), at_ms=905)
    [row] = _rows(again.store, SystemTable.HISTORY)
    assert row[7:9] == (5, 900)


def _rows(store: JournaledStore, table: SystemTable) -> list[Row]:
    return run(rows_of(store.read_table(table)))


def test_the_lag_of_the_journal_in_time() -> None:
    world = World(durability=Durability.STRICT)
    world.turns.all()
    world.store.tick(NOW_MS, 1_000)
    assert world.store.gauges()["journal_lag_ms"] == 0
    world.ask(add("a"))
    world.store.tick(NOW_MS - 700, 1_000)  # the clock of the host stands still at NOW_MS
    assert world.store.gauges()["journal_lag_ms"] == 700
    world.turns.all()
    world.store.synced(world.applied_seq)
    assert world.store.gauges()["journal_lag_ms"] == 0
