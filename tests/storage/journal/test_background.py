"""Background jobs of the journal: they hold up nothing but the commits that must wait, and a stop comes through."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from storage.asking import ANYBODY
from storage.journal.database import Database
from storage.journal.store import JournaledStore
from storage.vocabulary import CachestoreAction, QueueAdd, QueueGet, SysCachestore
from tests.asking import Told
from tests.storage.journal.restarting import WRITES_A_LOG, RowsEngine, Turns, opened

NOW_MS = 1_764_000_000_000
TIMEOUT_S = 60
LARGE = 262_144


class Beside:
    """A thread that works when it is told to."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Callable[[], None], Callable[[], None]]] = []

    def __call__(self, work: Callable[[], None], then: Callable[[], None]) -> None:
        self.waiting.append((work, then))

    def run(self) -> None:
        work, then = self.waiting.pop()
        work()
        then()


def ask(store: JournaledStore, name: str, payload: bytes = b"{}") -> Told:
    later = store.execute(QueueAdd(b"q:" + name.encode(), payload), ANYBODY, None, NOW_MS)
    assert isinstance(later, Told)
    return later


def with_a_full_log() -> tuple[JournaledStore, RowsEngine, Turns, Beside]:
    database, turns, beside = RowsEngine(), Turns(), Beside()
    store = opened(database, turns, now_ms=NOW_MS, in_thread=beside)
    turns.all()
    database.log_writes = WRITES_A_LOG
    return store, database, turns, beside


def test_nothing_is_written_while_a_log_is_begun_and_reads_go_on() -> None:
    store, database, turns, beside = with_a_full_log()
    writes = len(database.writes)
    first = ask(store, "a")
    turns.all()
    database.log_writes = 0  # the thread is done, and the loop does not know it yet
    later = ask(store, "b")
    store.tick(NOW_MS + 10_000, 100)
    turns.all()
    assert len(database.writes) == writes
    found = store.execute(QueueGet(b"q:a"), ANYBODY, None, NOW_MS)
    assert isinstance(found, Told)
    assert [each.outcomes for each in (first, later, found)] == [[], [], []]
    beside.run()
    turns.all()
    assert database.logs == 2
    assert [len(each.rows) for each in (first, later, found)] == [1, 1, 1]
    assert {b"q:a", b"q:b"} <= set(store._memory.queue.items.by_path)


def test_no_mark_is_written_while_a_log_is_begun() -> None:
    store, database, turns, beside = with_a_full_log()
    store._writer._commit()
    assert beside.waiting
    writes = len(database.writes)
    store.synced(store._gate.seq, b"p" * 16)
    store.tick(NOW_MS + 10_000, 100)
    turns.all()
    assert len(database.writes) == writes
    beside.run()
    store.tick(NOW_MS + 20_000, 100)
    assert len(database.writes) == writes + 1


def test_regression_without_a_thread_writes_are_refused_until_there_is_one() -> None:
    """Commits stopped for ever, and nobody was told."""
    database, turns, beside = RowsEngine(), Turns(), Beside()
    has_threads = False

    def in_thread(work: Callable[[], None], then: Callable[[], None]) -> None:
        beside(work, then)  # as a pool does, which keeps the work even then
        if not has_threads:
            raise RuntimeError("can't start new thread")

    store = opened(database, turns, now_ms=NOW_MS, in_thread=in_thread)
    turns.all()
    database.log_writes = WRITES_A_LOG
    ask(store, "lost")
    turns.all()
    store.tick(NOW_MS + 10_000, 100)
    refused = store.failure
    has_threads = True
    stale = list(beside.waiting)
    beside.waiting.clear()
    store._retry_at_ms = 0
    store.tick(NOW_MS + 20_000, 100)
    for work, _ in stale:
        work()  # a thread has come to what was given up
    assert database.logs == 1
    beside.run()
    turns.all()
    assert (refused, store.failure) == ("refused: can't start new thread", None)
    kept = ask(store, "kept")
    turns.all()
    assert kept.rows


def test_regression_nothing_is_opened_anew_while_a_compaction_is_in_the_engine() -> None:
    store, database, turns, beside = with_a_full_log()
    database.log_writes = 0
    store.execute(SysCachestore(CachestoreAction.COMPACTION), ANYBODY, None, NOW_MS)
    compaction = beside.waiting.pop()
    database.is_broken = True
    ask(store, "lost")
    turns.all()
    assert store.failure is not None
    store.tick(NOW_MS + 10_000, 100)
    assert not beside.waiting
    compaction[1]()
    store.tick(NOW_MS + 20_000, 100)
    assert beside.waiting


def test_regression_what_was_opened_anew_after_a_stop_is_not_written() -> None:
    store, database, turns, beside = with_a_full_log()
    database.log_writes, database.is_broken = 0, True
    ask(store, "lost")
    turns.all()
    store.tick(NOW_MS + 10_000, 100)
    store.close()
    database.is_broken = False
    beside.run()
    writes = len(database.writes)
    turns.all()
    assert len(database.writes) == writes


def test_a_log_that_cannot_be_begun_is_a_failed_write() -> None:
    store, database, turns, beside = with_a_full_log()
    lost = ask(store, "lost")
    turns.all()
    database.is_broken = True
    beside.run()
    assert str(lost.outcome) == "refused: the disk is broken"
    assert store.failure is not None
    assert not store._memory.queue.items.by_path


def test_a_stop_waits_for_a_log_that_is_begun_and_writes_the_rest() -> None:
    database, turns = RowsEngine(), Turns()
    threads: list[threading.Thread] = []

    def slowly(work: Callable[[], None], then: Callable[[], None]) -> None:
        def run() -> None:
            time.sleep(0.05)
            work()

        turns.call_soon(then)
        threads.append(threading.Thread(target=run))
        threads[-1].start()

    store = opened(database, turns, now_ms=NOW_MS, in_thread=slowly)
    turns.all()
    database.log_writes = WRITES_A_LOG
    ask(store, "a")
    turns.one()
    assert threads
    store.close()
    assert database.logs == 2
    assert [key for key in database.content if key.startswith(b"i")]
    turns.all()  # the loop is told when all is over, which is no matter
    threads[0].join()


def test_the_engine_begins_no_log_by_itself_if_told_in_time(tmp_path: Path) -> None:
    def logs() -> set[str]:
        return {file.name for file in (tmp_path / "journal").glob("*.log")}

    database = Database(tmp_path / "journal")
    begun = 0
    sizes = Random(1)
    for row in range(6_000):
        before = logs()
        if database.is_log_due:
            database.begin_log()
            assert logs() - before
            begun += 1
            before = logs()
        database.put(b"%08d" % row, os.urandom(sizes.choice([10, 10, 10, 10_000, LARGE // 4])))
        assert not logs() - before
    assert begun >= 5
    assert all(database.get(b"%08d" % row) for row in range(6_000))
    database.close()


@pytest.mark.timeout(TIMEOUT_S)
def test_regression_a_stop_during_a_compaction_is_no_failure(tmp_path: Path) -> None:
    """The database cannot be closed while a thread is in it: this ended a server with an error."""
    turns = Turns()
    threads: list[threading.Thread] = []

    def in_thread(work: Callable[[], None], _then: Callable[[], None]) -> None:
        threads.append(threading.Thread(target=work))
        threads[-1].start()

    database = Database(tmp_path / "journal")
    store = opened(database, turns, now_ms=NOW_MS, in_thread=in_thread)  # type: ignore[arg-type]  # the real one
    turns.all()
    for row in range(200):
        database.put(b"x%08d" % (row % 50), os.urandom(LARGE))
    database.begin_log()
    kept = ask(store, "kept", b"p" * 1000)
    turns.all()
    assert kept.rows
    store.execute(SysCachestore(CachestoreAction.COMPACTION), ANYBODY, None, NOW_MS)
    last = ask(store, "last")
    store.close()
    for thread in threads:
        thread.join(TIMEOUT_S)
    del store, database
    again = Database(tmp_path / "journal")
    assert len(list(again.rows(b"i"))) == 2, last
    again.close()
