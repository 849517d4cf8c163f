"""`cubequeue backup` and `restore`: who can read what they write, pipes, progress, and what is refused."""

from __future__ import annotations

import gzip
import json
import os
import signal
import sqlite3
import stat
import subprocess
from pathlib import Path

import pytest

from tests.cli.running import ENTRY_POINT, TIMEOUT_S, clean_environment, run, serving
from tests.cli.terminal import on_terminal


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with 3 000 cache entries and nobody on it."""
    directory = tmp_path_factory.mktemp("data")
    with serving("--data-dir", str(directory)) as server:
        statements = "\n".join(f"CACHE SET 'c:{number}' 'value {number}'" for number in range(3_000))
        subprocess.run(
            [ENTRY_POINT, "sql", "--url={}:{}".format(*server.ws)], env=clean_environment(), input=statements,
            text=True, check=True, capture_output=True, timeout=TIMEOUT_S,
        )  # fmt: skip
        assert server.end(signal.SIGTERM)[0] == 0
    return directory


def keys_in(directory: Path) -> int:
    with serving("--data-dir", str(directory)) as server:
        done = run("sql", "--url={}:{}".format(*server.ws), "--json", "SELECT COUNT(*) AS n FROM system.cache")
        count: int = json.loads(done.stdout)[0]["n"]
        return count


def test_the_journal_is_for_its_user_alone(data: Path) -> None:
    assert stat.S_IMODE((data / "cubequeue").stat().st_mode) == 0o700


def test_a_backup_is_compressed_for_its_user_alone_and_restores(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    done = subprocess.run(
        ["bash", "-c", f"umask 000; exec {ENTRY_POINT} backup {file} --data-dir {data} --json"],
        env=clean_environment(), check=True, capture_output=True, text=True, timeout=TIMEOUT_S,
    )  # fmt: skip
    told = json.loads(done.stdout)
    assert (told["file"], told["bytes"]) == (str(file), file.stat().st_size)
    assert told["rows"] > 3_000
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    plain = tmp_path / "plain.sqlite"
    plain.write_bytes(gzip.decompress(file.read_bytes()))
    assert file.stat().st_size < plain.stat().st_size / 2
    with sqlite3.connect(plain) as database:
        assert database.execute("SELECT COUNT(*) FROM journal").fetchone() == (told["rows"],)
    for name in (file, plain):  # what was made before backups were compressed is read as well
        restored = tmp_path / f"restored-{name.name}"
        assert run("restore", str(name), "--data-dir", str(restored)).returncode == 0
        assert keys_in(restored) == 3_000
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["backup", "plain.sqlite"]


def test_a_backup_goes_through_a_pipe(data: Path, tmp_path: Path) -> None:
    command = f"{ENTRY_POINT} backup - --data-dir {data} | {ENTRY_POINT} restore - --data-dir {tmp_path / 'restored'}"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], env=clean_environment(), capture_output=True, text=True,
        timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert keys_in(tmp_path / "restored") == 3_000
    assert not list(tmp_path.glob("**/.cubequeue-*"))


def test_a_terminal_is_told_the_progress_and_gets_no_backup(data: Path, tmp_path: Path) -> None:
    with on_terminal("backup", "-", "--data-dir", str(data)) as terminal:
        assert terminal.read_to_the_end() == 1
    assert "not for a terminal" in terminal.text
    with on_terminal("backup", str(tmp_path / "backup"), "--data-dir", str(data)) as terminal:
        assert terminal.read_to_the_end() == 0
    assert b"\r\x1b[K" in terminal.output


@pytest.mark.parametrize(
    "content",
    [
        b"\x1f\x8b",
        b"\x1f\x8b" + bytes(100),
        gzip.compress(b"no database", mtime=0),
        gzip.compress(os.urandom(9_000))[:500],
    ],
)
def test_what_is_no_backup_is_one_line(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    file.write_bytes(content)
    done = run("restore", str(file), "--data-dir", str(tmp_path / "restored"))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert not list(tmp_path.glob("**/.cubequeue-*"))


def test_a_reader_that_goes_ends_it_without_an_error(data: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{ENTRY_POINT} backup - --data-dir {data} | head -c 10 | wc -c"], env=clean_environment(),
        capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "10"
    assert "Traceback" not in done.stderr
