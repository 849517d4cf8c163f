"""Directories on which a real server must not start: one clear line, exit code 1, and not a byte is changed."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from rocksdict import Options, Rdict

from storage.journal import rows
from storage.journal.database import Database
from tests.cli.running import run, serving
from tests.failures.faults import read_only, small_disk
from tests.failures.history import History

PORTS = ("--http-bind", "127.0.0.1:auto", "--status-bind", "127.0.0.1:0")


def digest(directory: Path) -> dict[str, str]:
    """Of every file but those in which RocksDB tells what it did, and locks."""
    files = (path for path in directory.rglob("*") if path.is_file() and not path.name.startswith("LOG"))
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def refused(data_dir: Path, *expected: str) -> None:
    """The start on it is, with these words, and changes nothing."""
    before = digest(data_dir)
    done: subprocess.CompletedProcess[str] = run("serve", *PORTS, "--data-dir", str(data_dir))
    assert done.returncode == 1, done
    assert done.stdout == ""
    assert done.stderr.startswith("cubequeue: ")
    assert done.stderr.count("\n") == 1, done.stderr
    for words in (str(data_dir), *expected):
        assert words in done.stderr
    assert digest(data_dir) == before


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with tables and a log, as a kill leaves it."""
    directory = tmp_path_factory.mktemp("used") / "data"
    history = History()
    for _ in range(2):
        with serving("--data-dir", str(directory)) as server, history.on(server):
            for _ in range(30):
                assert history.add()
            server.process.kill()
            server.process.wait()
    return directory


def copy_of(used: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(used, tmp_path / "data"))


def test_other_files(tmp_path: Path) -> None:
    (tmp_path / "cubequeue").mkdir()
    (tmp_path / "cubequeue" / "notes.txt").write_text("mine")
    refused(tmp_path, "holds files that are not cubequeue's journal, such as notes.txt")


def test_a_file_where_the_directory_would_be(tmp_path: Path) -> None:
    (tmp_path / "cubequeue").write_text("mine")
    refused(tmp_path, "Not a directory")


@pytest.mark.parametrize("is_raw", [True, False])
def test_a_database_of_someone_else(is_raw: bool, tmp_path: Path) -> None:
    options = Options(raw_mode=is_raw)
    options.create_if_missing(True)
    database = Rdict(str(tmp_path / "cubequeue"), options)
    for number in range(100):
        if is_raw:
            database[b"key %d" % number] = b"value"
        else:
            database[number] = "value"
    database.close()
    refused(tmp_path, "not cubequeue's journal")


def test_a_database_with_other_column_families(tmp_path: Path) -> None:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    database = Rdict(str(tmp_path / "cubequeue"), options)
    database.create_column_family("theirs", Options(raw_mode=True))[b"key"] = b"value"
    database.close()
    refused(tmp_path)


def test_a_newer_schema(tmp_path: Path) -> None:
    database = Database(tmp_path / "cubequeue")
    database.put(rows.SCHEMA_KEY, rows.encode(rows.SCHEMA + 1))
    database.put(b"x" + bytes(8), b"of a table that this version does not know")
    database.close()
    refused(tmp_path, "which a newer cubequeue wrote", f"this one knows {rows.SCHEMA} at most")


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0x10
    path.write_bytes(content)


def damage_current(journal: Path) -> None:
    (journal / "CURRENT").write_bytes(b"MANIFEST-0000")


def remove_current(journal: Path) -> None:
    (journal / "CURRENT").unlink()


def empty_current(journal: Path) -> None:
    (journal / "CURRENT").write_bytes(b"")


def damage_manifest(journal: Path) -> None:
    (manifest,) = journal.glob("MANIFEST-*")
    flip(manifest, 30)


def remove_manifest(journal: Path) -> None:
    for manifest in journal.glob("MANIFEST-*"):
        manifest.unlink()


def a_table(journal: Path) -> Path:
    return max(journal.glob("*.sst"), key=lambda path: path.stat().st_size)


def damage_rows_of_a_table(journal: Path) -> None:
    flip(a_table(journal), 2_000)


def damage_end_of_a_table(journal: Path) -> None:
    flip(a_table(journal), a_table(journal).stat().st_size - 20)


def cut_a_table(journal: Path) -> None:
    content = a_table(journal).read_bytes()
    a_table(journal).write_bytes(content[: len(content) // 2])


def remove_a_table(journal: Path) -> None:
    a_table(journal).unlink()


DAMAGES = [
    damage_current,
    remove_current,
    empty_current,
    damage_manifest,
    remove_manifest,
    damage_rows_of_a_table,
    damage_end_of_a_table,
    cut_a_table,
    remove_a_table,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=[damage.__name__ for damage in DAMAGES])
def test_damage(damage: Callable[[Path], None], used: Path, tmp_path: Path) -> None:
    data_dir = copy_of(used, tmp_path)
    damage(data_dir / "cubequeue")
    refused(data_dir)


def test_a_directory_in_which_nothing_can_be_written(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 24) as disk:
        with serving("--data-dir", str(disk)) as server:
            server.process.kill()
            server.process.wait()
        with read_only(disk):
            refused(disk, "Read-only file system")
        with serving("--data-dir", str(disk)):
            pass


def test_a_new_directory_that_cannot_be_made(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1) as disk, read_only(disk):
        refused(disk, "Read-only file system")


def test_two_servers_at_once(used: Path, tmp_path: Path) -> None:
    data_dir = copy_of(used, tmp_path)
    with serving("--data-dir", str(data_dir)):
        refused(data_dir, "another process has it open")
