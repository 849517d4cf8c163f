"""A sync fails under a real server: it ends with 1, acknowledges nothing more, and the next start recovers."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.cli.running import TIMEOUT_S, Running, serving
from tests.failures.faults import failing, sync_helper_of
from tests.failures.history import History

MODES = pytest.mark.parametrize("mode", ["relaxed", "strict"])


def flags(directory: Path, mode: str) -> list[str]:
    return ["--data-dir", str(directory), "--durability", mode]


def ended(server: Running) -> str:
    """Its stderr, once it has ended with 1."""
    _, errors = server.process.communicate(timeout=TIMEOUT_S)
    assert server.process.returncode == 1
    return errors


def check_after_restart(history: History, directory: Path, mode: str, unknown: int) -> None:
    """All that was acknowledged is there; the item whose answer never came may be, and is once it is sent again."""
    with serving(*flags(directory, mode)) as server, history.on(server):
        listed = {int(row[0] or b"") for row in history.rows("QUEUE PENDING 'q'")}
        assert set(history.acknowledged) <= listed <= {*history.acknowledged, unknown}
        history.refused = {unknown: "its answer never came"}
        history.send_again(server)
        history.check()


@MODES
@pytest.mark.parametrize("calls", ["fdatasync", "fsync"])
def test_a_failed_sync_ends_the_server(calls: str, mode: str, tmp_path: Path) -> None:
    # fsync is for the directory, when a log is new: after 12 MB at the latest, if the first one is synced already.
    history = History(500_000 if calls == "fsync" else 2_000)
    with serving(*flags(tmp_path, mode)) as server, history.on(server):
        helper = sync_helper_of(server.process.pid)
        if calls == "fdatasync":
            for _ in range(10):
                assert history.add()
        with failing(helper, calls, "EIO"):
            while history.add():  # relaxed goes on until the next sync
                signal.sigtimedwait([], 0.05)
            assert not history.refused, "it ends instead"
            errors = ended(server)
        assert "the journal could not be synced to the disk: Input/output error" in errors
        assert "the server ends, so that no more is promised than the disk holds" in errors
    check_after_restart(history, tmp_path, mode, len(history.acknowledged) + 1)


@MODES
def test_the_death_of_the_process_that_syncs_ends_the_server(mode: str, tmp_path: Path) -> None:
    history = History()
    with serving(*flags(tmp_path, mode)) as server, history.on(server):
        for _ in range(10):
            assert history.add()
        os.kill(sync_helper_of(server.process.pid), signal.SIGKILL)
        while history.add():
            pass
        assert "the process that syncs" in ended(server)
    check_after_restart(history, tmp_path, mode, len(history.acknowledged) + 1)


def test_a_failed_sync_at_a_stop_is_no_clean_stop(tmp_path: Path) -> None:
    history = History()
    with serving(*flags(tmp_path, "relaxed")) as server, history.on(server):
        assert history.add()
        with failing(server.process.pid, "fdatasync,fsync", "EIO", tmp_path / "cubequeue"):
            code, _, errors = server.end(signal.SIGTERM)
        assert code == 1
        assert "cannot sync the journal" in errors
    with serving(*flags(tmp_path, "relaxed")) as server, history.on(server):
        history.check()
