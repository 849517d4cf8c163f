"""The journaled store by hand: groups, large texts, a busy engine, failures, syncs."""

from __future__ import annotations

import pytest

from storage.asking import ANYBODY, Caller
from storage.errors import UserError
from storage.journal import rows
from storage.journal.store import Durability, JournaledStore
from storage.limits import AnswerLimits
from storage.vocabulary import (
    EMPTY_RESULT,
    CacheGet,
    CacheIncr,
    CacheSet,
    CachestoreAction,
    QueueAck,
    QueueAdd,
    QueueClear,
    QueueGet,
    QueueHeartbeat,
    QueueResult,
    QueueResultBlocking,
    QueueRetrieve,
    RequestKey,
    Result,
    Statement,
    SysCachestore,
)
from tests.asking import Told
from tests.storage.journal.restarting import RowsEngine, Turns, opened

NOW_MS = 1_764_000_000_000
TEXT = b"t" * 2000
MIB = 1 << 20


class World:
    """A store, its engine and its loop. What `asked` holds are the commits that the store wants to have synced."""

    def __init__(self, engine: RowsEngine | None = None, *, durability: Durability = Durability.RELAXED) -> None:
        self.engine = engine or RowsEngine()
        self.turns = Turns()
        self.asked: list[int] = []
        self.store: JournaledStore = opened(
            self.engine, self.turns, now_ms=NOW_MS, sync=self.asked.append, durability=durability
        )
        self.turns.all()

    @property
    def applied_seq(self) -> int:
        """The number of the last change that was applied."""
        return self.store._recorder.seq

    def execute(
        self, statement: Statement, key: RequestKey | None = None, at_ms: int = 0, caller: Caller = ANYBODY
    ) -> Result | Told:
        outcome = self.store.execute(statement, caller, key, NOW_MS + at_ms)
        assert isinstance(outcome, Result | Told)
        return outcome

    def ask(self, statement: Statement, key: RequestKey | None = None, at_ms: int = 0) -> Told:
        """Have a statement executed whose answer may not leave yet."""
        outcome = self.execute(statement, key, at_ms)
        assert isinstance(outcome, Told)
        assert not outcome.outcomes
        return outcome

    def do(
        self, statement: Statement, key: RequestKey | None = None, at_ms: int = 0, caller: Caller = ANYBODY
    ) -> Result:
        """Have it executed, and let the loop turn until its answer leaves."""
        outcome = self.execute(statement, key, at_ms, caller)
        self.turns.all()
        result = outcome.outcome if isinstance(outcome, Told) else outcome
        assert isinstance(result, Result)
        return result

    def at_once(self, statement: Statement) -> Result:
        """Have it executed, and answered in the same turn."""
        result = self.execute(statement)
        assert isinstance(result, Result)
        return result

    def lose(self, statement: Statement, key: RequestKey | None = None) -> Told:
        """Have it executed, and its write fail, as all later ones."""
        self.engine.is_broken = True
        lost = self.ask(statement, key)
        self.turns.all()
        return lost

    def recover(self) -> None:
        """Writes work again, and the store finds that out."""
        self.engine.is_broken = False
        self.store.tick(NOW_MS + 2_000, 10)
        self.turns.all()

    def kinds(self) -> str:
        """The kinds of all rows but the schema and the next id."""
        return b"".join(key[:1] for key in self.engine.content if not key.startswith(rows.META)).decode()

    def after_a_kill(self) -> World:
        return World(RowsEngine(dict(self.engine.content)))


def add(key: str, payload: bytes = TEXT) -> QueueAdd:
    return QueueAdd(b"q:" + key.encode(), payload)


def key(number: int) -> RequestKey:
    return (b"", b"client", number)


def test_an_answer_waits_for_the_turn_that_commits_it() -> None:
    world = World()
    added = world.ask(add("a"))
    assert world.kinds() == ""
    world.turns.one()
    assert added.rows[0][1] is True
    assert world.kinds() == "bi"


def test_all_of_a_turn_is_one_write() -> None:
    world = World()
    before = len(world.engine.writes)
    for name in "abc":
        world.ask(add(name))
        world.ask(QueueRetrieve(b"q:" + name.encode(), 10))
    world.turns.all()
    assert len(world.engine.writes) == before + 1


def test_reading_writes_nothing() -> None:
    world = World()
    world.do(add("a"))
    before = len(world.engine.writes)
    world.do(QueueGet(b"q:a"))
    world.do(CacheGet(b"c:a"))
    world.do(QueueRetrieve(b"q:none", 1), key(1))
    assert len(world.engine.writes) == before


def test_regression_a_read_that_drops_an_old_answer_has_it_deleted_in_the_next_turn() -> None:
    world = World()
    world.do(add("1"), key(1))
    assert rows.ANSWERS.decode() in world.kinds()
    late_ms = AnswerLimits().keep_ms + 1
    assert isinstance(world.execute(QueueGet(b"q:1"), at_ms=late_ms), Result)  # it changes no row: nothing to wait for
    world.turns.all()
    assert rows.ANSWERS.decode() not in world.kinds()


def test_a_tick_has_written_what_it_removes_and_frees() -> None:
    world = World()
    world.do(add("1"))
    world.do(CacheSet(b"c:1", b"u" * 2000, ttl_s=1))
    assert world.kinds().count(rows.BLOB.decode()) == 2
    world.store.tick(NOW_MS + 24 * 3_600_000, 1_000)
    world.turns.all()
    assert not world.kinds()


def test_a_payload_is_written_once_for_its_item_and_the_answers_that_carry_it() -> None:
    world = World()
    world.do(add("a"), key(1))
    world.do(QueueRetrieve(b"q:a", 1), key(2))
    assert world.kinds() == "aabis"
    assert sum(TEXT in value for value in world.engine.content.values()) == 1
    world.do(QueueAck(b"q:a", b"done"), key(3))
    assert world.kinds() == "aaabr", "the answer of RETRIEVE still names the payload"
    world.do(QueueHeartbeat(b"q:a"), at_ms=400_000)
    assert world.kinds() == "", "answers and results have expired, and with them the last that named it"


def test_a_heartbeat_rewrites_little() -> None:
    world = World()
    world.do(add("a"))
    world.do(QueueRetrieve(b"q:a", 1))
    world.engine.writes.clear()
    world.do(QueueHeartbeat(b"q:a"), at_ms=5)
    assert sum(world.engine.writes) < 120


def test_a_statement_sent_again_after_a_kill_gets_its_answer_and_runs_once() -> None:
    world = World()
    added = world.do(add("a"), key(1))
    claimed = world.do(QueueRetrieve(b"q:a", 1), key(2))
    counted = world.do(CacheIncr(b"c:n"), key(3))
    taken = world.do(QueueAck(b"q:a", TEXT), key(4))
    read = world.do(QueueResult(b"q:a"), key(5))
    world = world.after_a_kill()
    again = [
        world.do(add("a"), key(1)),
        world.do(QueueRetrieve(b"q:a", 1), key(2)),
        world.do(CacheIncr(b"c:n"), key(3)),
        world.do(QueueAck(b"q:a", TEXT), key(4)),
        world.do(QueueResult(b"q:a"), key(5)),
    ]
    assert again == [added, claimed, counted, taken, read]
    assert world.store.gauges()["queue_items"] == 0
    assert world.do(CacheGet(b"c:n")).rows == ((b"1",),)


def test_what_was_not_committed_is_gone_after_a_kill_and_runs_anew() -> None:
    world = World()
    world.ask(CacheIncr(b"c:n"), key(1))
    world = world.after_a_kill()
    assert world.do(CacheGet(b"c:n")).rows == ((None,),)
    assert world.do(CacheIncr(b"c:n"), key(1)).rows == ((b"1",),)


def test_a_large_text_goes_in_turns_and_others_wait_behind_it() -> None:
    world = World()
    large = bytes(5 * MIB)
    first = world.ask(add("large", large))
    world.turns.one()
    second = world.ask(add("small", b"s"))
    turns = 1
    while not first.outcomes:
        assert not second.outcomes, "it came later"
        assert max(world.engine.writes) <= rows.CHUNK_BYTES
        world.turns.one()
        turns += 1
    assert turns >= 5
    world.turns.all()
    assert second.rows
    assert world.after_a_kill().do(QueueGet(b"q:large")).rows[0][0] == large


def test_chunks_that_nothing_names_are_deleted_at_the_next_start() -> None:
    world = World()
    world.ask(add("large", bytes(5 * MIB)))
    world.turns.one()
    world.turns.one()
    assert set(world.kinds()) == {"b"}
    world = world.after_a_kill()
    assert world.kinds() == ""
    assert world.do(QueueGet(b"q:large")).rows == ()


def test_a_busy_engine_is_asked_again() -> None:
    world = World()
    world.engine.busy_for = 7
    world.do(add("large", bytes(3 * MIB)))
    assert world.engine.busy_for == 0
    assert world.after_a_kill().do(QueueGet(b"q:large")).rows[0][0] == bytes(3 * MIB)


def test_clear_deletes_ranges_and_then_the_texts_in_slices() -> None:
    world = World()
    for number in range(50):
        world.do(add(str(number), TEXT + b"%d" % number), key(number))
    world.do(QueueClear())
    assert set(world.kinds()) == {"a", "b"}
    while world.store.tick(NOW_MS, 10):
        pass
    world.turns.all()
    assert set(world.kinds()) == {"a"}
    assert world.after_a_kill().store.gauges()["queue_items"] == 0


def test_ids_go_on_after_a_kill_and_after_clear() -> None:
    world = World()
    first = int(world.do(add("a")).rows[0][0] or 0)
    world.do(QueueClear())
    world = world.after_a_kill()
    assert int(world.do(add("a")).rows[0][0] or 0) > first


# Strict.


def test_strict_waits_for_the_sync() -> None:
    world = World(durability=Durability.STRICT)
    added = world.ask(add("a"))
    world.turns.all()
    assert world.asked[-1] == world.applied_seq
    assert not added.outcomes
    world.store.synced(world.applied_seq - 1)
    assert not added.outcomes
    world.store.synced(world.applied_seq)
    assert added.rows


def test_relaxed_syncs_once_a_second() -> None:
    world = World()
    world.do(add("first"))
    world.store.tick(NOW_MS, 10)
    assert world.asked == [world.applied_seq]
    world.asked.clear()
    world.do(add("a"))
    world.store.tick(NOW_MS + 500, 10)
    assert not world.asked
    world.store.tick(NOW_MS + 1_000, 10)
    assert world.asked == [world.applied_seq]


def test_persist_answers_when_all_before_is_on_the_disk() -> None:
    world = World()
    world.do(add("a"))
    persisted = world.ask(SysCachestore(CachestoreAction.PERSIST))
    assert world.asked[-1] == world.applied_seq, "it waits for no second to pass"
    world.store.synced(world.applied_seq - 1)
    assert not persisted.outcomes
    world.store.synced(world.applied_seq)
    assert persisted.outcome == EMPTY_RESULT
    assert world.at_once(SysCachestore(CachestoreAction.PERSIST)) == EMPTY_RESULT


# When it fails.


def test_a_failed_write_takes_back_what_was_not_committed() -> None:
    world = World()
    world.do(add("kept"), key(1))
    lost = world.lose(add("lost"), key(2))
    assert str(lost.outcome) == "refused: the disk is broken"
    assert world.do(QueueGet(b"q:kept")).rows[0][0] == TEXT
    assert world.do(QueueGet(b"q:lost")).rows == ()
    with pytest.raises(UserError, match="the disk is broken"):
        world.execute(CacheSet(b"c:a", b"1"))
    assert world.store.failure == "refused: the disk is broken"
    assert world.do(SysCachestore(CachestoreAction.INFO), key(3)).rows, "it reads: `top` asks for it in an incident"
    with pytest.raises(UserError, match="the disk is broken"):
        world.execute(SysCachestore(CachestoreAction.EVICTION))


def test_it_goes_on_when_the_journal_can_be_written_again() -> None:
    world = World()
    world.do(add("kept"), key(1))
    world.lose(add("lost"), key(2))
    world.store.tick(NOW_MS + 1_000, 10)
    world.turns.all()
    assert world.store.failure is not None
    world.recover()
    assert world.store.gauges()["journal_failures"] == 1
    assert world.do(add("lost"), key(2)).rows[0][1] is True, "its first try had no effect, and no answer was kept"
    assert world.after_a_kill().store.gauges()["queue_items"] == 2


def test_who_waits_for_a_result_waits_on_through_a_failure() -> None:
    world = World()
    world.do(add("a"))
    waiting = world.ask(QueueResultBlocking(b"q:a", 60_000), key(9))
    world.lose(add("lost"))
    world.recover()
    assert not waiting.outcomes
    world.do(QueueAck(b"q:a", b"done"))
    assert waiting.rows[0][0] == b"done"


def test_the_cache_may_stay_in_memory() -> None:
    engine, turns = RowsEngine(), Turns()
    store = opened(engine, turns, now_ms=NOW_MS, cache_durability=Durability.MEMORY)
    turns.all()
    before = dict(engine.content)
    store.execute(CacheSet(b"c:a", TEXT), ANYBODY, key(1), NOW_MS)
    turns.all()
    assert engine.content == before
    store.execute(add("a"), ANYBODY, key(2), NOW_MS)
    turns.all()
    assert len(engine.content) > len(before)
