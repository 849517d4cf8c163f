"""Journals of every schema that a release wrote are read by this one; newer ones and foreign ones are refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from storage.asking import ANYBODY, Caller
from storage.journal import rows
from storage.journal.backup import restore
from storage.journal.database import Database
from storage.journal.errors import JournalError
from storage.journal.schema import MIGRATIONS, bring_up_to_date, stored_schema
from storage.vocabulary import EMPTY_RESULT, QueueHeartbeat, QueueRetrieve
from tests.storage.journal.restarting import RowsEngine, Turns, everything
from tests.storage.journal.samples.make import FOLDER, START_MS, STATEMENTS, open_on, run_on
from tests.storage.journal.test_store import World, add


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "fresh")
    yield database
    database.close()


def test_there_is_a_sample_of_every_schema_and_a_way_from_each() -> None:
    assert sorted(path.name for path in FOLDER.glob("*.sqlite")) == [
        f"schema-{version}.sqlite" for version in range(1, rows.SCHEMA + 1)
    ]
    assert sorted(MIGRATIONS) == list(range(1, rows.SCHEMA))


@pytest.mark.parametrize("version", range(1, rows.SCHEMA + 1))
def test_a_stored_journal_becomes_what_the_same_statements_make_today(
    version: int, database: Database, tmp_path: Path
) -> None:
    restore(FOLDER / f"schema-{version}.sqlite", tmp_path / "stored")
    stored = Database(tmp_path / "stored")
    try:
        bring_up_to_date(stored)
        assert stored_schema(stored) == rows.SCHEMA
        assert everything(open_on(stored, Turns())) == as_the_first_release_kept_it(everything(run_on(database)))
    finally:
        stored.close()


def as_the_first_release_kept_it(held: dict[str, Any]) -> dict[str, Any]:
    """It kept answers to HEARTBEAT, and did not note who claimed an item."""
    for item in held["items"]:
        item[:] = [(name, repr(ANYBODY) if name == "claimed_by" and value != "None" else value) for name, value in item]
    for number, (statement, _) in enumerate(STATEMENTS):
        if isinstance(statement, QueueHeartbeat):
            held["answers"].append(((b"", b"sample", number), repr(EMPTY_RESULT), START_MS + number * 10))
    held["answers"].sort()
    return held


def test_rows_without_the_fields_that_came_later_are_loaded() -> None:
    adder, claimer = Caller(b"adder", "10.0.0.1:5", 7), Caller(b"claimer", "10.0.0.2:6", 8)
    world = World()
    world.do(add("a"), caller=adder)
    world.do(add("b"), caller=adder)
    world.do(QueueRetrieve(b"q:a", 1), caller=claimer)
    content = world.engine.content
    for kind, fields in ((rows.ITEM, 8), (rows.STATE, 3)):
        for key, value in world.engine.rows(kind):
            row = msgspec.msgpack.decode(value)
            assert len(row) > fields
            content[key] = rows.encode(row[:fields])
    items = world.after_a_kill().store._memory.queue.items.by_path
    claimed, pending = items[b"q:a"], items[b"q:b"]
    assert (claimed.active, pending.active) == (True, False)
    assert claimed.added_by == pending.added_by == Caller(b"adder")
    assert (claimed.claimed_by, pending.claimed_by) == (ANYBODY, None)


def test_each_migration_runs_once_and_in_order() -> None:
    database = RowsEngine({rows.SCHEMA_KEY: rows.encode(rows.SCHEMA - 3), b"m": b""})
    ran: list[int] = []
    steps = {
        version: (lambda _, version=version: ran.append(version)) for version in range(rows.SCHEMA - 3, rows.SCHEMA)
    }
    bring_up_to_date(database, steps)  # type: ignore[arg-type]
    assert ran == [rows.SCHEMA - 3, rows.SCHEMA - 2, rows.SCHEMA - 1]
    bring_up_to_date(database, steps)  # type: ignore[arg-type]
    assert len(ran) == 3


def test_a_migration_that_was_stopped_runs_again() -> None:
    database = RowsEngine({rows.SCHEMA_KEY: rows.encode(rows.SCHEMA - 1)})

    def stopped(_database: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bring_up_to_date(database, {rows.SCHEMA - 1: stopped})  # type: ignore[arg-type]
    assert stored_schema(database) == rows.SCHEMA - 1  # type: ignore[arg-type]


def test_a_newer_schema_is_refused(database: Database) -> None:
    database.put(rows.SCHEMA_KEY, rows.encode(rows.SCHEMA + 1))
    with pytest.raises(JournalError, match="which a newer cubequeue wrote"):
        bring_up_to_date(database)
    assert database.get(rows.SCHEMA_KEY) == rows.encode(rows.SCHEMA + 1)


def test_another_database_is_refused(database: Database) -> None:
    database.put(b"theirs", b"value")
    with pytest.raises(JournalError, match="is not cubequeue's journal"):
        bring_up_to_date(database)
    assert dict(database.rows(b"")) == {b"theirs": b"value"}
