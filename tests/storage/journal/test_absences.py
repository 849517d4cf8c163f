"""Downtime does not count: what stands in rows is moved by the time in which no server was up, and moved once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from storage.asking import ANYBODY
from storage.journal import rows
from storage.journal.absences import Moved, decode_absences, with_new
from storage.journal.errors import JournalError
from storage.journal.store import JournaledStore
from storage.vocabulary import (
    CacheSet,
    QueueAck,
    QueueAdd,
    QueueGet,
    QueueHeartbeat,
    QueueMergeExtra,
    QueueOrphaned,
    QueueResult,
    QueueRetrieve,
    QueueStalled,
    QueueToCancel,
    Result,
    Statement,
)
from tests.asking import Told
from tests.audit import audit
from tests.storage.journal.restarting import RowsEngine, Turns, opened

START_MS = 1_764_000_000_000
SECOND_MS, MINUTE_MS, HOUR_MS = 1_000, 60_000, 3_600_000
GRACE_MS = 20 * SECOND_MS


class Server:
    """Server after server on one journal. The clock goes on by hand; a tick comes with each statement."""

    def __init__(self) -> None:
        self.database, self.turns = RowsEngine(), Turns()
        self.now_ms = START_MS
        self.start()

    def start(self) -> None:
        self.store: JournaledStore = opened(self.database, self.turns, now_ms=self.now_ms)
        self.store._host = replace(self.store._host, now_ms=lambda: self.now_ms)
        self.turns.all()

    def up(self, time_ms: int) -> None:
        """So long it runs, and ticks ten times a second."""
        for _ in range(0, time_ms, 100):
            self.now_ms += 100
            self.tick()

    def tick(self) -> None:
        self.store.tick(self.now_ms, 100)
        self.turns.all()

    def down(self, time_ms: int) -> None:
        """It is killed, and the next one starts so much later."""
        self.now_ms += time_ms
        self.database = RowsEngine(dict(self.database.content))
        self.start()

    def do(self, statement: Statement) -> Result:
        outcome = self.store.execute(statement, ANYBODY, None, self.now_ms)
        self.turns.all()
        result = outcome.outcome if isinstance(outcome, Told) else outcome
        assert isinstance(result, Result)
        return result

    def keys(self, statement: Statement) -> list[object]:
        return [row[0] for row in self.do(statement).rows]

    @property
    def item(self) -> tuple[int, int | None, int | None]:
        """When the only item was added and beat, and is to be orphaned, each as ms ago."""
        [item] = self.store._memory.queue.items.by_id.values()
        times = (item.created_ms, item.heartbeat_ms, item.orphaned_ms)
        created_ms, heartbeat_ms, orphaned_ms = (None if each is None else self.now_ms - each for each in times)
        assert created_ms is not None
        return created_ms, heartbeat_ms, orphaned_ms

    def row(self, key: bytes) -> bytes | None:
        return self.database.content.get(key)


def claimed() -> Server:
    """An item that was added and claimed two seconds ago, and noted as alive just now."""
    server = Server()
    server.do(QueueAdd(b"q:a", b"{}", orphaned_s=60))
    server.do(QueueRetrieve(b"q:a", 1))
    server.up(2 * SECOND_MS)
    server.store._next_alive_ms = 0
    server.tick()
    assert server.item == (2_000, 2_000, -58_000)
    return server


def test_times_of_items_move_by_the_absence() -> None:
    server = claimed()
    server.down(HOUR_MS)
    assert server.item == (2_000, 2_000, -58_000)
    server.up(5 * SECOND_MS)
    assert server.item == (7_000, 7_000, -53_000)
    audit(server.store)


def test_several_absences_add_up() -> None:
    server = claimed()
    for _ in range(4):
        server.down(30 * SECOND_MS)
        server.up(3 * SECOND_MS)
        server.store._next_alive_ms = 0
        server.tick()
    assert server.item == (14_000, 14_000, -46_000)


def test_what_happened_after_an_absence_is_not_moved_by_it() -> None:
    server = claimed()
    server.down(HOUR_MS)
    server.do(QueueHeartbeat(b"q:a"))
    server.do(QueueAdd(b"q:later", b"{}"))
    server.up(SECOND_MS)
    server.store._next_alive_ms = 0
    server.tick()
    server.down(0)
    first, second = server.store._memory.queue.items.by_id.values()
    assert first.heartbeat_ms is not None
    assert server.now_ms - first.heartbeat_ms == 1_000
    assert server.now_ms - second.created_ms == 1_000


@pytest.mark.parametrize("rewrites", [1, 3])
def test_regression_a_row_that_is_written_again_is_not_moved_again_by_the_same_absence(rewrites: int) -> None:
    """MERGE_EXTRA writes the heartbeat as well, and RESULT by path the end of the result."""
    server = claimed()
    server.do(QueueAdd(b"q:done", b"{}"))
    server.do(QueueAck(b"q:done", b"r"))
    server.do(QueueAdd(b"q:read", b"{}"))
    server.do(QueueAck(b"q:read", b"r"))
    server.down(HOUR_MS)
    server.do(QueueResult(b"q:read"))
    for number in range(rewrites):
        server.do(QueueMergeExtra(b"q:a", b'{"n":%d}' % number))
        server.down(0)
    assert server.item == (2_000, 2_000, -58_000)
    results = server.store._memory.queue.results.table.by_id.values()
    assert [result.expire_ms - server.now_ms for result in results] == [MINUTE_MS, MINUTE_MS]
    server.down(MINUTE_MS)
    assert server.item == (2_000, 2_000, -58_000)


def test_a_result_lives_a_minute_in_which_a_server_is_up() -> None:
    server = Server()
    id_ = int(server.do(QueueAdd(b"q:a", b"{}")).rows[0][0] or 0)
    server.do(QueueAck(b"q:a", b"r"))
    server.up(30 * SECOND_MS)
    server.down(HOUR_MS)
    server.up(27 * SECOND_MS)
    assert server.do(QueueResult(id_)).rows
    server.up(6 * SECOND_MS)
    assert not server.do(QueueResult(id_)).rows


def test_an_item_expires_after_four_hours_in_which_a_server_is_up() -> None:
    server = claimed()
    server.down(5 * HOUR_MS)
    assert server.do(QueueGet(b"q:a")).rows
    server.now_ms += 4 * HOUR_MS
    assert not server.do(QueueGet(b"q:a")).rows


def test_nothing_is_stalled_for_a_while_after_a_start_and_pending_items_may_be_orphaned() -> None:
    server = claimed()
    server.do(QueueAdd(b"q:pending", b"{}", orphaned_s=3))
    server.up(2 * SECOND_MS)
    server.down(SECOND_MS)
    server.up(GRACE_MS - 100)
    assert server.keys(QueueStalled(b"q", 5_000)) == []
    assert server.keys(QueueToCancel(b"q", 5_000, 5_000)) == server.keys(QueueOrphaned(b"q", 5_000)) == [b"pending"]
    server.up(100)
    assert server.keys(QueueStalled(b"q", 5_000)) == [b"a"]
    assert server.keys(QueueToCancel(b"q", 5_000, 5_000)) == [b"a", b"pending"]


def test_the_first_start_has_no_grace() -> None:
    server = Server()
    server.do(QueueAdd(b"q:a", b"{}"))
    server.do(QueueRetrieve(b"q:a", 1))
    server.up(2 * SECOND_MS)
    assert server.keys(QueueStalled(b"q", 1_000)) == [b"a"]


# Notes of being up.


def test_a_server_notes_every_two_seconds_that_it_is_up_while_the_queue_holds_anything() -> None:
    server = Server()
    server.do(CacheSet(b"c:a", b"v"))
    server.up(10 * SECOND_MS)
    assert server.row(rows.ALIVE_KEY) is None, "cache entries are not moved"
    server.do(QueueAdd(b"q:a", b"{}"))
    writes = len(server.database.writes)
    server.up(20 * SECOND_MS)
    assert len(server.database.writes) - writes == 10
    noted = server.row(rows.ALIVE_KEY)
    assert noted is not None
    assert server.now_ms - 2_000 <= rows.decode_number(noted) <= server.now_ms
    server.do(QueueAck(b"q:a", b"r"))
    server.up(10 * SECOND_MS)
    assert server.row(rows.ALIVE_KEY) != noted, "a result is moved too"


def test_a_note_keeps_no_answer_waiting() -> None:
    server = claimed()
    server.store._next_alive_ms = 0
    server.store.tick(server.now_ms, 100)
    assert isinstance(server.store.execute(QueueGet(b"q:a"), ANYBODY, None, server.now_ms), Result)


def test_a_clean_stop_notes_the_very_end() -> None:
    server = claimed()
    server.up(1_500)
    server.store.close()
    server.down(HOUR_MS)
    assert server.item == (3_500, 3_500, -56_500)


def test_the_time_since_the_last_note_counts_as_absence() -> None:
    """Up to two seconds in which the server was up, and perhaps not for its clients."""
    server = claimed()
    server.up(1_500)
    server.down(SECOND_MS)
    created_ago_ms, _, _ = server.item
    assert 2_000 <= created_ago_ms <= 3_500


def test_a_clock_that_stepped_back_tells_nothing() -> None:
    server = claimed()
    server.down(-HOUR_MS)
    assert server.item == (2_000 - HOUR_MS, 2_000 - HOUR_MS, -58_000 - HOUR_MS)


def test_notes_that_make_no_sense_are_refused() -> None:
    for key in (rows.ALIVE_KEY, rows.ABSENCES_KEY):
        server = claimed()
        server.database.content[key] = b"\xc1"
        with pytest.raises(JournalError, match="makes no sense"):
            server.down(0)


# The list of absences.


def test_absences_are_bounded_in_number_and_in_age() -> None:
    absences = [(START_MS + number, START_MS + number + 1) for number in range(0, 1_000, 10)]
    newest = with_new(absences, START_MS + 2_000, START_MS + 3_000)
    assert newest == [*absences[1:], (START_MS + 2_000, START_MS + 3_000)]
    a_day_later_ms = START_MS + 3_000 + 24 * HOUR_MS
    assert with_new(newest, None, a_day_later_ms - 1) == newest[-1:]
    assert with_new(newest, None, a_day_later_ms) == []


def test_absences_of_a_journal_without_any() -> None:
    assert decode_absences(None) == []
    assert with_new([], None, START_MS) == []
    assert with_new([], START_MS, START_MS) == []


@pytest.mark.parametrize(
    ("time_ms", "moved_until_ms", "by_ms"),
    [(50, 0, 130), (100, 0, 130), (150, 0, 80), (200, 0, 30), (310, 0, 20), (330, 0, 0), (50, 200, 30), (50, 330, 0)],
)
def test_how_far_a_time_is_moved(time_ms: int, moved_until_ms: int, by_ms: int) -> None:
    moved = Moved([(100, 200), (300, 330)])
    assert moved.by_ms(time_ms, moved_until_ms) == by_ms
    assert moved.until_ms == 330
