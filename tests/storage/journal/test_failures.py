"""A journaled store by hand whose writes or syncs fail: what is lost, what is told, what is durable."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.errors import UserError
from storage.journal import rows
from storage.journal.store import Durability
from storage.journal.sync import Syncer
from storage.vocabulary import EMPTY_RESULT, CacheGet, CacheIncr, CachestoreAction, QueueGet, SysCachestore
from tests.storage.journal.restarting import RowsEngine
from tests.storage.journal.test_store import MIB, NOW_MS, TEXT, World, add, key

PERSIST = SysCachestore(CachestoreAction.PERSIST)


class Reads(RowsEngine):
    """Counts the readings of rows; `may_open` says whether opening it anew works though it is broken."""

    may_open = False
    readings = 0

    def rows(self, kind: bytes) -> Iterator[tuple[bytes, bytes]]:
        self.readings += 1
        return super().rows(kind)

    def reopen(self) -> None:
        if not self.may_open:
            super().reopen()


class Halfway:
    """A strict world with a group that is written, not yet synced, and one whose write failed."""

    def __init__(self) -> None:
        self.world = World(durability=Durability.STRICT)
        self.written = self.world.ask(add("written"), key(1))
        self.world.turns.all()
        self.written_seq = self.world.asked[-1]
        self.lost = self.world.lose(add("lost"), key(2))


def test_regression_strict_what_was_reloaded_is_not_durable_before_it_is_synced() -> None:
    half = Halfway()
    read = half.world.ask(QueueGet(b"q:written"))
    assert half.world.asked[-1] > half.written_seq, "what was reloaded is numbered anew"
    half.world.store.synced(half.world.asked[-1])
    assert read.rows[0][0] == TEXT
    assert half.written.rows


def test_regression_strict_a_group_that_was_written_is_not_told_as_lost() -> None:
    half = Halfway()
    assert not half.written.outcomes
    assert str(half.lost.outcome) == "refused: the disk is broken"
    half.world.store.synced(half.written_seq)
    assert half.written.rows, "its answer leaves"


def test_strict_an_older_sync_says_nothing_of_what_was_reloaded() -> None:
    half = Halfway()
    read = half.world.ask(QueueGet(b"q:written"))
    half.world.store.synced(half.written_seq)
    assert not read.outcomes


def test_strict_an_engine_that_was_opened_anew_is_synced() -> None:
    half = Halfway()
    half.world.recover()
    assert half.written.rows
    assert half.world.at_once(QueueGet(b"q:written")).rows


def test_a_group_with_large_texts_that_fails_half_way_leaves_nothing() -> None:
    world = World()
    world.do(add("kept"))
    world.ask(add("large", bytes(5 * MIB)), key(1))
    world.turns.one()
    world.turns.one()
    world.engine.is_broken = True
    world.turns.all()
    assert world.do(QueueGet(b"q:large")).rows == ()
    world.recover()
    assert world.kinds() == "bi", "the chunks that were written ahead are deleted"
    assert world.do(add("large", bytes(5 * MIB)), key(1)).rows[0][1] is True
    assert world.after_a_kill().do(QueueGet(b"q:large")).rows[0][0] == bytes(5 * MIB)


def test_a_failed_increment_that_is_sent_again_counts_once() -> None:
    world = World()
    assert world.do(CacheIncr(b"c:n"), key(1)).rows == ((b"1",),)
    world.lose(CacheIncr(b"c:n"), key(2))
    assert world.do(CacheGet(b"c:n")).rows == ((b"1",),)
    for number in (2, 3):
        with pytest.raises(UserError, match="refused: the disk is broken"):
            world.execute(CacheIncr(b"c:n"), key(number))
    world.recover()
    assert world.do(CacheIncr(b"c:n"), key(2)).rows == ((b"2",),)
    assert world.after_a_kill().do(CacheIncr(b"c:n"), key(2)).rows == ((b"2",),)


def test_as_long_as_it_cannot_be_written_the_rows_are_not_read_again() -> None:
    engine = Reads()
    world = World(engine)
    world.do(add("kept"))
    engine.is_broken = engine.may_open = True
    world.ask(add("lost"))
    world.turns.all()
    readings = engine.readings
    for second in range(1, 5):
        world.store.tick(NOW_MS + second * 1_000, 10)
        world.turns.all()
    assert world.store.failure is not None
    assert engine.readings == readings, "100 000 items would hold everybody up each time"


def test_persist_of_what_is_lost_is_an_error() -> None:
    world = World()
    world.do(add("a"))
    before = world.ask(PERSIST)
    world.engine.is_broken = True
    world.ask(add("lost"))
    after = world.ask(PERSIST)
    world.turns.all()
    assert str(after.outcome) == "refused: the disk is broken"
    assert not before.outcomes
    world.store.synced(world.asked[-1])
    assert before.outcome == EMPTY_RESULT
    assert len(after.outcomes) == 1


def test_regression_a_stop_does_not_spin_while_the_engine_is_busy() -> None:
    world = World()
    world.do(add("a"))
    world.ask(add("b"))
    world.engine.busy_for = 1 << 60
    world.store.close()
    assert world.after_a_kill().store.gauges()["queue_items"] == 2


# Marks: what is known to be synced (`storage.journal.log_files`).


def mark(world: World) -> bytes | None:
    return world.engine.content.get(rows.SYNCED_KEY)


def test_the_first_group_says_that_nothing_is_known_to_be_synced() -> None:
    world = World()
    world.do(add("a"))
    assert mark(world) == bytes(16)


def test_what_is_synced_is_told_by_the_next_group_once() -> None:
    world = World()
    world.do(add("a"))
    world.store.synced(world.applied_seq, b"position of 16 b")
    assert mark(world) == bytes(16)
    world.do(add("b"))
    assert mark(world) == b"position of 16 b"
    del world.engine.content[rows.SYNCED_KEY]
    world.do(add("c"))
    assert mark(world) is None


def test_what_is_synced_is_told_when_no_group_comes() -> None:
    """As when the queue is empty: else one comes every two seconds."""
    world = World()
    world.do(CacheIncr(b"c:n"))
    world.store.synced(world.applied_seq, b"position of 16 b")
    world.engine.busy_for = 1
    world.store.tick(NOW_MS + 1, 10)
    assert mark(world) == bytes(16)
    world.store.tick(NOW_MS + 2, 10)
    assert mark(world) == b"position of 16 b"
    writes = len(world.engine.writes)
    world.store.tick(NOW_MS + 3, 10)
    assert len(world.engine.writes) == writes
    assert not world.asked or world.asked[-1] <= world.applied_seq


def test_a_mark_that_was_lost_with_its_group_comes_again() -> None:
    world = World()
    world.do(add("a"))
    world.store.synced(world.applied_seq, b"position of 16 b")
    world.lose(add("lost"))
    world.recover()
    world.do(add("b"))
    assert mark(world) == b"position of 16 b"


# The process that syncs.


def answered(syncer: Syncer, told: list[int], seq: int) -> None:
    deadline = time.monotonic() + 20
    while (not told or told[-1] < seq) and time.monotonic() < deadline:
        if select.select([syncer.fileno()], [], [], 0.1)[0]:
            syncer.on_readable()
    assert told[-1] == seq


def test_regression_a_sync_that_was_asked_for_while_hundreds_were_under_way_is_done(tmp_path: Path) -> None:
    told: list[int] = []
    failed: list[str] = []
    syncer = Syncer(tmp_path, lambda seq, _: told.append(seq), failed.append)
    try:
        syncer.ask(1)
        answered(syncer, told, 1)
        os.kill(syncer.pid, signal.SIGSTOP)
        for seq in range(2, 5_000):
            syncer.ask(seq)
        os.kill(syncer.pid, signal.SIGCONT)
        answered(syncer, told, 4_999)  # nobody asks once more
        assert not failed
    finally:
        syncer.close()


def test_a_sync_helper_that_dies_is_a_failed_sync(tmp_path: Path) -> None:
    failed: list[str] = []
    syncer = Syncer(tmp_path, lambda _, __: None, failed.append)
    os.kill(syncer.pid, signal.SIGKILL)
    select.select([syncer.fileno()], [], [], 20)
    syncer.on_readable()
    assert failed == ["the process that syncs ended with code -9"]
    syncer.close()


def test_a_sync_that_fails_is_told_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "000004.log").symlink_to("/proc/self/mem")  # can be opened, not synced
    failed: list[str] = []
    syncer = Syncer(tmp_path, lambda _, __: None, failed.append)
    syncer.ask(1)
    select.select([syncer.fileno()], [], [], 20)
    syncer.on_readable()
    assert failed == ["the journal could not be synced to the disk: Invalid argument"]
    syncer.close()
