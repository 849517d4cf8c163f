"""A backup is the journal at one moment, taken beside whoever writes it, and makes the same journal again."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from storage.asking import ANYBODY
from storage.journal import rows
from storage.journal.backup import backup, restore
from storage.journal.database import RESTORE_NAME, Database
from storage.journal.errors import JournalError
from storage.journal.recorder import Group
from storage.journal.schema import bring_up_to_date
from storage.journal.store import Durability, JournaledStore
from storage.limits import AnswerLimits, CacheLimits, QueueLimits
from storage.vocabulary import CacheSet, QueueAdd, QueueRetrieve
from tests.storage.journal.restarting import Turns, everything, host

NOW_MS = 1_764_000_000_000


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "journal")
    bring_up_to_date(database)
    yield database
    database.close()


def store_on(database: Database, turns: Turns) -> JournaledStore:
    def fail(reason: str) -> None:
        raise AssertionError(reason)

    def in_thread(work: Callable[[], None], then: Callable[[], None]) -> None:
        work()
        turns.call_soon(then)

    limits = (QueueLimits(), CacheLimits(), AnswerLimits())
    return JournaledStore(database, *limits, host(turns, in_thread, fail), None, Durability.RELAXED, Durability.RELAXED)


def test_a_restored_journal_holds_the_same(database: Database, tmp_path: Path) -> None:
    turns = Turns()
    store = store_on(database, turns)
    for number in range(100):
        path = b"q:%d" % number
        store.execute(QueueAdd(path, b"p" * (number * 50)), ANYBODY, (b"", b"c", number), NOW_MS)
        store.execute(QueueRetrieve(path, 50), ANYBODY, (b"", b"c", 1000 + number), NOW_MS)
        store.execute(CacheSet(b"c:%d" % number, b"v" * (number * 5000)), ANYBODY, None, NOW_MS)
    turns.all()
    file = tmp_path / "backup"
    assert backup(database.directory, file) == restore(file, tmp_path / "restored")
    again = Database(tmp_path / "restored")
    try:
        assert dict(again.rows(b"")) == dict(database.rows(b""))
        assert everything(store_on(again, Turns())) == everything(store)
    finally:
        again.close()


def test_it_is_one_moment_between_two_groups(database: Database, tmp_path: Path) -> None:
    """Each group puts the same number into two rows, far apart: no backup may see them differ."""
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            value = rows.encode(number)
            puts = [(rows.META + b"one", value), (rows.BLOB + b"two", value + bytes(50_000))]
            database.write(Group(number, [], [], puts, []))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(5):
            file = tmp_path / f"backup{number}"
            backup(database.directory, file)
            held = dict(sqlite3.connect(file).execute("SELECT key, value FROM journal"))
            assert held[rows.META + b"one"] == held[rows.BLOB + b"two"][:-50_000]
    finally:
        stop.set()
        writer.join()


def test_it_replaces_nothing(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    backup(database.directory, file)
    before = file.read_bytes()
    with pytest.raises(JournalError, match="exists: a backup replaces no file"):
        backup(database.directory, file)
    with pytest.raises(JournalError, match="is not empty: a restore replaces no journal"):
        restore(file, database.directory)
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["backup"]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "is not a backup of cubequeue"),
        (b"not a database, but long enough to be looked at" * 100, "file is not a database"),
        (None, "there is no file"),
    ],
)
def test_what_is_no_backup_is_refused(content: bytes | None, text: str, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(JournalError, match=text):
        restore(file, tmp_path / "restored")
    assert not (tmp_path / "restored").exists()


def test_a_damaged_backup_is_refused(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    database.put(rows.BLOB + b"x", bytes(100_000))
    backup(database.directory, file)
    content = bytearray(file.read_bytes())
    content[8192:12288] = bytes(range(256)) * 16
    file.write_bytes(content)
    with pytest.raises(JournalError, match=r"is damaged|malformed"):
        restore(file, tmp_path / "restored")


def test_there_must_be_a_journal(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="there is no journal in"):
        backup(tmp_path / "nothing", tmp_path / "backup")
    assert list(tmp_path.iterdir()) == []


_KILLED = """
import os, pathlib, sys
from storage.journal import backup
from storage.journal.database import RESTORE_NAME, Database

stage, file, directory = sys.argv[1:]
owner = {"_opened": backup, "_fill": backup}.get(stage, Database)
setattr(owner, stage, lambda *_, **__: os._exit(9))
backup.restore(pathlib.Path(file), pathlib.Path(directory))
"""


@pytest.mark.parametrize("stage", ["_opened", "__init__", "wait_when_busy", "_fill", "put", "sync", "close"])
def test_a_restore_that_was_killed_is_refused_however_early_that_was(
    stage: str, database: Database, tmp_path: Path
) -> None:
    """Killed ahead of its first row, it left what a server took for a first start: everything was gone silently."""
    database.put(b"key", b"value")
    backup(database.directory, tmp_path / "backup")
    directory = tmp_path / "data" / "restored"
    command = [sys.executable, "-c", _KILLED, stage, str(tmp_path / "backup"), str(directory)]
    assert subprocess.run(command, check=False, timeout=30).returncode == 9
    before = sorted(path.name for path in directory.iterdir())
    with pytest.raises(JournalError, match="was not finished: delete what is in it and restore again"):
        Database(directory, look_first=True)
    with pytest.raises(JournalError, match="is not empty"):
        restore(tmp_path / "backup", directory)
    assert sorted(path.name for path in directory.iterdir()) == before


def test_a_restore_of_what_is_no_backup_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "backup").write_bytes(b"nothing of the kind")
    (tmp_path / "restored").mkdir()
    with pytest.raises(JournalError):
        restore(tmp_path / "backup", tmp_path / "restored")
    assert list((tmp_path / "restored").iterdir()) == []


def test_a_finished_restore_has_no_mark(database: Database, tmp_path: Path) -> None:
    backup(database.directory, tmp_path / "backup")
    restore(tmp_path / "backup", tmp_path / "restored")
    assert not (tmp_path / "restored" / RESTORE_NAME).exists()
