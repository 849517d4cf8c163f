"""The disk of a real server refuses writes: what is acknowledged, read and kept meanwhile, and after."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest

from tests.cli.running import serving
from tests.failures.faults import WRITES, failing, fill, small_disk
from tests.failures.history import History, until_ready

MODES = pytest.mark.parametrize("mode", ["relaxed", "strict"])
MIB = 1 << 20


def flags(directory: Path, mode: str) -> list[str]:
    return ["--data-dir", str(directory), "--durability", mode]


@MODES
def test_a_full_disk_refuses_writes_until_there_is_room(mode: str, tmp_path: Path) -> None:
    history = History()
    with small_disk(tmp_path / "disk", 24) as disk:
        with serving(*flags(disk, mode)) as server, history.on(server):
            for _ in range(50):
                assert history.add()
            assert history.count()
            filler = fill(disk)
            text = history.until_refused()
            assert text.startswith("refused: cannot write to the journal in ")
            assert "No space left on device" in text
            assert server.get("/readyz")[0] == 500
            assert server.get("/livez")[0] == 200
            assert not history.count()
            history.check()
            filler.unlink()
            assert history.until_added() < 5
            assert server.get("/readyz")[0] == 200
            history.send_again(server)
            assert history.count()
            history.check()
            server.end(signal.SIGKILL)
        with serving(*flags(disk, mode)) as server, history.on(server):
            history.check()
            history.send_again(server)


@MODES
def test_a_disk_that_its_own_rows_fill(mode: str, tmp_path: Path) -> None:
    history = History(size_bytes=100_000)
    # A start writes into tables what the logs hold: all of it, if none was written yet.
    with small_disk(tmp_path / "disk", 48) as disk:
        (disk / "ballast").write_bytes(bytes(24 * MIB))
        with serving(*flags(disk, mode)) as server, history.on(server):
            history.until_refused()
            history.check()
            server.end(signal.SIGKILL)
        (disk / "ballast").unlink()
        with serving(*flags(disk, mode)) as server, history.on(server):
            history.check()
            history.send_again(server)
            history.check()


def test_large_texts_on_a_full_disk(tmp_path: Path) -> None:
    history = History(size_bytes=3 * MIB)
    with small_disk(tmp_path / "disk", 40) as disk, serving(*flags(disk, "relaxed")) as server, history.on(server):
        assert history.add()
        filler = fill(disk, keep_bytes=2 * MIB)
        assert "No space left on device" in history.until_refused()
        history.check()
        filler.unlink()
        until_ready(server)  # each try would be 3 MB more to send again
        history.send_again(server)
        history.check()
        used = sum(file.stat().st_size for file in (disk / "cubequeue").iterdir())
        assert used < 30 * MIB, "chunks of failed tries are not kept"


@MODES
@pytest.mark.parametrize("error", ["EIO", "EROFS", "EDQUOT"])
def test_a_disk_with_errors_refuses_writes_until_they_end(error: str, mode: str, tmp_path: Path) -> None:
    history = History()
    with serving(*flags(tmp_path, mode)) as server, history.on(server):
        for _ in range(20):
            assert history.add()
        with failing(server.process.pid, WRITES, error, tmp_path / "cubequeue"):
            text = history.until_refused(1)
            assert os.strerror(getattr(errno, error)) in text
            assert server.get("/readyz")[0] == 500
            assert not history.count()
            history.check()
            signal.sigtimedwait([], 2.5)  # it tries again meanwhile
            assert server.get("/readyz")[0] == 500
            history.check()
        until_ready(server)
        assert history.add()
        history.send_again(server)
        history.check()
        server.end(signal.SIGKILL)
    with serving(*flags(tmp_path, mode)) as server, history.on(server):
        history.check()
        history.send_again(server)


def test_a_server_that_cannot_write_stops_in_time_and_loses_nothing(tmp_path: Path) -> None:
    history = History()
    with serving(*flags(tmp_path, "strict")) as server, history.on(server):
        assert history.add()
        with failing(server.process.pid, WRITES, "EIO", tmp_path / "cubequeue"):
            history.until_refused(1)
            _, seconds, _ = server.end(signal.SIGTERM)
            assert seconds < 6
    with serving(*flags(tmp_path, "strict")) as server, history.on(server):
        history.check()
        history.send_again(server)
