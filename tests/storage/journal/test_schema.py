"""Journals of every schema that a release wrote are read by this one; newer ones and foreign ones are refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.journal import rows
from storage.journal.backup import restore
from storage.journal.database import Database
from storage.journal.errors import JournalError
from storage.journal.schema import MIGRATIONS, bring_up_to_date, stored_schema
from tests.storage.journal.restarting import RowsEngine, Turns, everything
from tests.storage.journal.samples.make import FOLDER, open_on, run_on


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
        assert everything(open_on(stored, Turns())) == everything(run_on(database))
    finally:
        stored.close()


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
