"""A journal as one file, and back: a SQLite database with its rows.

A backup is taken beside a running server, from the files on its disk: it is what the journal held at one moment,
between two groups. Nothing is asked of the server, so it works while that is busy, or dead.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, TypeAlias

from storage.journal import rows
from storage.journal.database import RESTORE_NAME, Database
from storage.journal.errors import JournalError
from storage.journal.schema import stored_schema

_APPLICATION_ID: Final = 0x63756265  # "cube": tells a backup from any other SQLite file
_TRIES: Final = 5
_TOLD_ROWS: Final = 1_000
Tell: TypeAlias = Callable[[int], None]


def _tell_nobody(_count: int) -> None:
    """Nobody follows."""


def backup(directory: Path, file: Path, tell: Tell = _tell_nobody) -> int:
    """Write the rows of the journal in `directory` to a new file; returns how many. Raises `JournalError`.

    The file is for its user alone, and appears under its name when it is whole and on the disk. O(rows).
    """
    with new_file(file) as partial:
        return write(directory, partial, tell)


@contextlib.contextmanager
def new_file(file: Path) -> Iterator[Path]:
    """A file to write, for its user alone; at the end it is synced and gets its name. Raises `JournalError`."""
    partial = file.with_name(f".{file.name}.partial")
    with _errors(file):
        if file.exists():
            raise JournalError(f"{file} exists: a backup replaces no file")
        partial.unlink(missing_ok=True)
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        yield partial
        with _errors(file):
            _sync(partial)
            os.link(partial, file)  # unlike a rename it replaces nothing
            _sync(file.parent)
    finally:
        partial.unlink(missing_ok=True)


def write(directory: Path, file: Path, tell: Tell = _tell_nobody) -> int:
    """Write the rows to an empty file; `tell` gets their number so far, every 1 000. Raises `JournalError`."""
    if not directory.is_dir():
        raise JournalError(f"there is no journal in {directory}")
    # A running server may delete a file between our look at the list and our opening it: then look again.
    for attempt in range(_TRIES):
        with _errors(file), contextlib.closing(_created(file)) as database:
            try:
                return _copy(directory, database, tell)
            except JournalError:
                if attempt == _TRIES - 1:
                    raise
        with _errors(file):
            os.truncate(file, 0)
    raise AssertionError("unreachable")


def _created(file: Path) -> sqlite3.Connection:
    database = sqlite3.connect(file)
    database.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    database.execute("CREATE TABLE journal (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID")
    return database


def _copy(directory: Path, database: sqlite3.Connection, tell: Tell) -> int:
    journal = Database(directory, read_only=True)
    try:
        if stored_schema(journal) is None:
            raise JournalError(f"the journal in {directory} is empty")
        count = database.executemany("INSERT INTO journal VALUES (?, ?)", _told(_kept(journal), tell)).rowcount
        database.commit()
    finally:
        journal.close()
    return count


def _kept(journal: Database) -> Iterator[tuple[bytes, bytes]]:
    """All rows but what is of the log files of this directory alone."""
    return (row for row in journal.rows(b"") if row[0] != rows.SYNCED_KEY)


def _told(rows_: Iterable[tuple[bytes, bytes]], tell: Tell) -> Iterator[tuple[bytes, bytes]]:
    for count, row in enumerate(rows_, 1):
        if count % _TOLD_ROWS == 0:
            tell(count)
        yield row


def restore(file: Path, directory: Path, tell: Tell = _tell_nobody) -> int:
    """Make a journal in `directory`, which must hold none, from a backup; returns its rows. Raises `JournalError`.

    A restore that was interrupted, however early, leaves a directory that a server refuses. O(rows).
    """
    with _errors(file):
        if directory.exists() and any(directory.iterdir()):
            raise JournalError(f"{directory} is not empty: a restore replaces no journal")
        is_new = not directory.exists()
        mark = _marked(directory)
    try:
        with _errors(file):
            backup_file = _opened(file)
    except JournalError:
        mark.unlink()
        if is_new:
            directory.rmdir()
        raise
    with _errors(file), contextlib.closing(backup_file) as database:
        journal = Database(directory, is_restore=True)
        try:
            journal.wait_when_busy()
            count = _fill(journal, database, tell)
        finally:
            journal.close()
        mark.unlink()
        _sync(directory)
    return count


def _marked(directory: Path) -> Path:
    """Make the directory with the file in it that says that a restore was begun; both are on the disk."""
    directory.mkdir(parents=True, exist_ok=True)
    mark = directory / RESTORE_NAME
    mark.touch()
    for path in (mark, directory, directory.parent):
        _sync(path)
    return mark


def _fill(journal: Database, database: sqlite3.Connection, tell: Tell) -> int:
    """The schema version last: until then it is no journal."""
    count = 0
    schema: bytes | None = None
    for key, value in _told(database.execute("SELECT key, value FROM journal"), tell):
        count += 1
        if key == rows.SCHEMA_KEY:
            schema = value
        else:
            journal.put(key, value)
    if schema is None:
        raise JournalError("the backup has no schema version: it is not whole")
    journal.put(rows.SCHEMA_KEY, schema)
    journal.sync()
    return count


def _opened(file: Path) -> sqlite3.Connection:
    if not file.is_file():
        raise JournalError(f"there is no file {file}")
    database = sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)
    if database.execute("PRAGMA application_id").fetchone() != (_APPLICATION_ID,):
        database.close()
        raise JournalError(f"{file} is not a backup of cubequeue")
    if database.execute("PRAGMA integrity_check").fetchone() != ("ok",):
        database.close()
        raise JournalError(f"{file} is damaged")
    return database


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _errors(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise JournalError(f"cannot use {file}: {error.strerror}") from error
    except sqlite3.Error as error:
        raise JournalError(f"cannot use {file}: {error}") from error
