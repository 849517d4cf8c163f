"""system.queue, system.queue_results and system.cache (commands.md §7), read in slices between other statements."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest

from protocol.commands import parse_statement
from storage.asking import Caller
from storage.journal.recorder import Recorder
from storage.limits import AnswerLimits, CacheLimits, QueueLimits
from storage.memory import MemoryStore
from storage.minutes import MINUTE_MS
from storage.system_tables import SYSTEM_COLUMNS, SystemTable
from storage.vocabulary import CacheSet, Result, Row
from tests.asking import Told, rows_of
from tests.asking import run as finish
from tests.audit import audit

NOW_MS = 1_700_000_000_000
FIRST_ID = 100
MANY = 200  # some slices
QUEUE, RESULTS, CACHE = SystemTable.QUEUE, SystemTable.RESULTS, SystemTable.CACHE


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(QueueLimits(), CacheLimits(), AnswerLimits(), FIRST_ID, random.Random(7).random, Told)


def run(store: MemoryStore, *texts: str, caller: Caller = Caller(), now_ms: int = NOW_MS) -> None:  # noqa: B008
    for text in texts:
        assert isinstance(store.execute(parse_statement(text.encode(), ()), caller, None, now_ms), Result)


def rest(reading: AsyncIterator[list[Row]]) -> list[Row]:
    return finish(rows_of(reading))


async def _next(reading: AsyncIterator[list[Row]]) -> list[Row]:
    return await anext(reading)


def first_slice(reading: AsyncIterator[list[Row]]) -> list[Row]:
    return finish(_next(reading))


@pytest.mark.parametrize("table", SystemTable)
def test_an_empty_table_is_read_at_once(store: MemoryStore, table: SystemTable) -> None:
    with pytest.raises(StopAsyncIteration):
        first_slice(store.read_table(table))


def test_a_pending_and_an_active_item(store: MemoryStore) -> None:
    run(store, "QUEUE ADD PRIORITY -3 ORPHANED 60 'a:b:k' 'payload'", "QUEUE MERGE_EXTRA 'a:b:k' '{}'")
    run(store, "QUEUE ADD EXCLUSIVE EXTERNAL_ID 'e' 'bare' 'x'", caller=Caller(b"p1"))
    run(store, "QUEUE RETRIEVE 'bare'", caller=Caller(b"p1"), now_ms=NOW_MS + 5)
    pending = (b"k", b"a:b", NOW_MS, b"Pending", -3, None, NOW_MS + 60_000, b"payload", b"{}", None, False, None)
    active = (b"bare", None, NOW_MS, b"Active", 0, NOW_MS + 5, None, b"x", None, b"p1", True, b"e")
    assert rest(store.read_table(QUEUE)) == [
        (*pending, None, None, FIRST_ID, None, None),
        (*active, b"p1", None, FIRST_ID + 1, NOW_MS + 5, None),
    ]


def test_who_claimed_an_item(store: MemoryStore) -> None:
    adder, claimer = Caller(b"adder", "10.0.0.1:5", 7), Caller(b"claimer", "10.0.0.2:6", 8)
    run(store, "QUEUE ADD 'p:1' 'x'", "QUEUE ADD 'p:2' 'x'", caller=adder)
    run(store, "QUEUE RETRIEVE 'p:1'", caller=claimer)
    run(store, "QUEUE RETRIEVE CONCURRENCY 9 'p:2'", caller=Caller(None, "10.0.0.3:7", 9))
    columns = SYSTEM_COLUMNS[QUEUE].names
    rows = [dict(zip(columns, row, strict=True)) for row in rest(store.read_table(QUEUE))]
    shown = [(row["added_peer"], row["claimed_by"], row["claimed_peer"]) for row in rows]
    assert shown == [(b"10.0.0.1:5", b"claimer", b"10.0.0.2:6"), (b"10.0.0.1:5", None, b"10.0.0.3:7")]
    assert [row["process_id"] for row in rows] == [b"adder", b"adder"]


def test_results_before_and_after_they_were_taken(store: MemoryStore) -> None:
    run(store, "QUEUE ADD 'p:1' 'x'", "QUEUE ADD EXTERNAL_ID 'e' 'p:2' 'x'")
    run(store, "QUEUE ACK 'p:1' 'one'", "QUEUE ACK 'p:2' 'two'", "QUEUE RESULT 'p:1'")
    assert rest(store.read_table(RESULTS)) == [
        (FIRST_ID, b"p:1", NOW_MS + 60_000, True, b"one", None),
        (FIRST_ID + 1, b"p:2", NOW_MS + 60_000, False, b"two", b"e"),
    ]


def test_cache_rows_with_and_without_a_deadline_the_expired_ones_too(store: MemoryStore) -> None:
    run(store, "CACHE SET 'bare' 'v'", "CACHE SET TTL 10 'p:k' 'w'", "CACHE SET TTL 0 'p:' 'dead'")
    assert rest(store.read_table(CACHE)) == [
        (b"bare", None, None, b"v"),
        (b"k", b"p", NOW_MS + 10_000, b"w"),
        (b"", b"p", NOW_MS, b"dead"),
    ]


@pytest.mark.parametrize("table", SystemTable)
def test_a_row_has_a_cell_for_each_column(store: MemoryStore, table: SystemTable) -> None:
    run(store, "QUEUE ADD 'p:1' 'x'", "QUEUE ACK 'p:1' 'y'", "QUEUE ADD 'p:2' 'x'", "CACHE SET 'k' 'v'")
    for later_ms in (0, MINUTE_MS - 10_000):  # a minute ends
        store.tick(NOW_MS + later_ms, 1_000)
    assert [len(row) for row in rest(store.read_table(table))] == [len(SYSTEM_COLUMNS[table])]


def test_values_are_given_by_reference(store: MemoryStore) -> None:
    statement = parse_statement(b"CACHE SET 'k' 'a value that nobody copies'", ())
    assert isinstance(statement, CacheSet)
    store.execute(statement, Caller(), None, NOW_MS)
    (row,) = rest(store.read_table(CACHE))
    assert row[3] is statement.value


def test_rows_that_go_are_left_out_and_rows_that_come_are_not_seen(store: MemoryStore) -> None:
    run(store, *(f"QUEUE ADD 'p:{number}' 'x'" for number in range(MANY)))
    reading = store.read_table(QUEUE)
    first = first_slice(reading)
    assert 0 < len(first) < MANY - 4
    gone, back, claimed = (str(MANY - number) for number in (1, 2, 3))
    run(store, "QUEUE CANCEL 'p:0'", f"QUEUE CANCEL 'p:{gone}'", f"QUEUE CANCEL 'p:{back}'")
    run(store, f"QUEUE ADD 'p:{back}' 'again'", f"QUEUE RETRIEVE 'p:{claimed}'", "QUEUE ADD 'p:new' 'x'")
    later = rest(reading)
    assert [row[0] for row in first + later] == [b"%d" % number for number in range(MANY - 2)]
    assert [row[0] for row in later if row[3] == b"Active"] == [claimed.encode()]


@pytest.mark.parametrize(("table", "clear"), [(QUEUE, "QUEUE CLEAR"), (RESULTS, "QUEUE CLEAR"), (CACHE, "CACHE CLEAR")])
def test_clear_ends_a_reading_early(store: MemoryStore, table: SystemTable, clear: str) -> None:
    for number in range(MANY):
        run(store, f"QUEUE ADD 'p:{number}' 'x'", f"QUEUE ACK 'p:{number}' 'y'", f"CACHE SET '{number}' 'v'")
        run(store, f"QUEUE ADD 'q:{number}' 'x'")
    reading = store.read_table(table)
    assert 0 < len(first_slice(reading)) < MANY
    run(store, clear)
    store.tick(NOW_MS, 2)
    assert rest(reading) == []
    assert rest(store.read_table(table)) == []


def test_a_reading_changes_nothing() -> None:
    recorder = Recorder()
    store = MemoryStore(
        QueueLimits(), CacheLimits(), AnswerLimits(), FIRST_ID, random.Random(7).random, Told, recorder, recorder
    )
    run(store, "CACHE SET 'k' 'v'", "QUEUE ADD 'p:1' 'x'")
    before = recorder.seq, store.gauges()
    for table in SystemTable:
        rest(store.read_table(table))
    assert (recorder.seq, store.gauges()) == before
    audit(store)
