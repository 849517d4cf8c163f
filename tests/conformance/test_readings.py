"""What people can look at: tables, figures and totals, which an engine may tell later (commands.md §7)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, TypeVar, cast

import pytest

from storage.asking import Later
from storage.engine import Store
from storage.system_tables import SYSTEM_COLUMNS, SystemTable
from storage.vocabulary import QueueClear, Result
from tests.asking import Told, rows_of, run
from tests.conformance.conftest import Opener
from tests.conformance.engines import ENGINES, JOURNALED, Candidate, Limits
from tests.conformance.script import MINUTE_MS, Session, id_of
from tests.conformance.words import (
    ack,
    add,
    cache_get,
    cache_set,
    cancel,
    heartbeat,
    merge_extra,
    result,
    result_blocking,
    retrieve,
)

T = TypeVar("T")


class Looking:
    """A session, and whoever looks into its store."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.store = cast(Store, session.store)

    def all(self, slices: AsyncIterator[list[T]]) -> list[T]:
        return run(rows_of(slices), self.session.client.settle)

    def table(self, table: SystemTable) -> list[dict[str, Any]]:
        """Its rows, with the ids of the script."""
        names = SYSTEM_COLUMNS[table].names
        rows = [dict(zip(names, row, strict=True)) for row in self.all(self.store.read_table(table))]
        for row in rows:
            if isinstance(row["id"], int):
                row["id"] = self.session.client.ids.to_script(row["id"])
        return rows


@pytest.fixture(params=[engine for engine in ENGINES if engine.is_store], ids=str)
def way(request: pytest.FixtureRequest) -> tuple[Candidate, bool]:
    return request.param, False


@pytest.fixture
def looking(open_session: Opener) -> Looking:
    return Looking(open_session(Limits()))


def test_the_rows_of_system_queue(looking: Looking) -> None:
    session = looking.session
    begun_ms = session.now_ms
    session.rows(add("a:b:k", "1", priority=-3, orphaned_s=60))
    session.rows(merge_extra("a:b:k", "{}"))
    session.rows(add("bare", "2", exclusive=True, external_id="e"), process="one")
    session.now_ms += 5
    session.rows(retrieve("bare"), process="one")
    pending, active = looking.table(SystemTable.QUEUE)
    assert active["number"] > pending["number"]
    assert pending == {
        "id": b"k",
        "prefix": b"a:b",
        "created": begun_ms,
        "status": b"Pending",
        "priority": -3,
        "heartbeat": None,
        "orphaned": begun_ms + MINUTE_MS,
        "value": b"1",
        "extra": b"{}",
        "process_id": None,
        "exclusive": False,
        "external_id": None,
        "claimed_by": None,
        "claimed_peer": None,
        "number": pending["number"],
        "claimed": None,
        "added_peer": None,
    }
    changed = {
        "id": b"bare",
        "prefix": None,
        "status": b"Active",
        "priority": 0,
        "heartbeat": begun_ms + 5,
        "orphaned": None,
        "value": b"2",
        "extra": None,
        "process_id": b"one",
        "exclusive": True,
        "external_id": b"e",
        "claimed_by": b"one",
        "number": active["number"],
        "claimed": begun_ms + 5 if session.engine.keeps_claims else None,
    }
    assert active == pending | changed


def test_the_rows_of_system_queue_results(looking: Looking) -> None:
    session = looking.session
    for path, external_id in (("p:1", None), ("p:2", "e")):
        session.rows(add(path, external_id=external_id))
        session.rows(ack(path, "r"))
    session.rows(result("p:1"))
    expire_ms = session.now_ms + MINUTE_MS
    assert [tuple(row.values()) for row in looking.table(SystemTable.RESULTS)] == [
        (id_of(1), b"p:1", expire_ms, True, b"r", None),
        (id_of(2), b"p:2", expire_ms, False, b"r", b"e"),
    ]


def test_the_rows_of_system_cache(looking: Looking) -> None:
    session = looking.session
    session.rows(cache_set("bare", "v"))
    session.rows(cache_set("p:k", "w", ttl_s=10))
    assert [tuple(row.values()) for row in looking.table(SystemTable.CACHE)] == [
        (b"bare", None, None, b"v"),
        (b"k", b"p", session.now_ms + 10_000, b"w"),
    ]


def test_a_long_table_is_read_whole_and_in_order(looking: Looking) -> None:
    for number in range(300):
        looking.session.rows(add(f"p:{number}"))
        looking.session.rows(cache_set(f"c:{number}", "v"))
    for table in (SystemTable.QUEUE, SystemTable.CACHE):
        assert [row["id"] for row in looking.table(table)] == [b"%d" % number for number in range(300)]
    looking.session.rows(QueueClear())
    assert looking.table(SystemTable.QUEUE) == []


def test_the_figures_of_each_queue(looking: Looking) -> None:
    session = looking.session
    for path in ("p:a", "p:b", "p:c", "q:a"):
        session.rows(add(path))
        session.now_ms += 100
    session.rows(retrieve("p:b", 9))
    session.now_ms += 50
    session.rows(heartbeat("p:b"))
    session.now_ms += 7
    figures = {each.prefix: each for each in looking.all(looking.store.queue_figures(session.now_ms))}
    shown = {
        prefix: (each.pending, each.active, each.oldest_pending_ms, each.oldest_heartbeat_ms)
        for prefix, each in figures.items()
    }
    assert shown == {b"p": (2, 1, 457, 7), b"q": (1, 0, 157, None)}


def test_what_happened_in_each_queue(way: tuple[Candidate, bool], looking: Looking) -> None:
    if way[0] is JOURNALED:
        pytest.skip("it counts from the last start, which is ahead of every statement")
    session = looking.session
    for path in ("p:a", "p:b"):
        session.rows(add(path))
    session.now_ms += 30
    session.rows(retrieve("p:a"))
    session.rows(ack("p:a", "r"))
    session.rows(cancel("p:b"))
    stats = run(looking.store.queue_stats(), session.client.settle).named[b"p"]
    assert (stats.added, stats.claimed, stats.waits[0], stats.acknowledged, stats.manual) == (2, 1, 30, 1, 1)


def test_for_which_items_somebody_waits(looking: Looking) -> None:
    session = looking.session
    session.rows(add("p:a"))
    keys: list[int | str] = [id_of(1), "p:a", "q:b", id_of(9)]
    for number, wanted in enumerate(keys):
        session.wait(str(number), result_blocking(wanted))
    paths = looking.all(looking.store.waited_paths())
    assert sorted(paths, key=str) == [None, b"p:a", b"p:a", b"q:b"]
    session.give_up("2")
    session.client.settle()
    assert sorted(looking.all(looking.store.waited_paths()), key=str) == [None, b"p:a", b"p:a"]


def test_what_cache_get_found(looking: Looking) -> None:
    session = looking.session
    session.rows(cache_set("p:k", "v"))
    for path in ("p:k", "p:k", "p:other", "q"):
        session.rows(cache_get(path))
    totals = run(looking.store.cache_totals(), session.client.settle)
    assert {prefix: (each.hits, each.misses) for prefix, each in totals.named.items()} == {b"p": (2, 1), b"": (0, 1)}


def test_a_reading_ends_when_what_it_read_is_durable(looking: Looking) -> None:
    looking.session.rows(add("p:a"))
    losses = looking.store.losses
    assert len(looking.table(SystemTable.QUEUE)) == 1
    later: Later | None = looking.store.settled(losses)
    if later is not None:
        assert isinstance(later, Told)
        assert later.timeout_ms is None
        looking.session.client.settle()
        assert isinstance(later.outcome, Result)
    assert looking.store.losses == losses
