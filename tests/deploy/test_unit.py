"""The systemd unit: systemd takes it, its settings are settings, and what it forbids the server does not need."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from cubequeue_server.settings.resolve import load_settings
from tests.cli.running import ENTRY_POINT, Running, run, serving
from tests.deploy.files import DEPLOY
from tests.needed import require, require_program

UNIT: Final = DEPLOY / "systemd/cubequeue.service"
# Ten times what `systemd-analyze security` prints; what is left are the network, and that it runs on the host.
MAX_EXPOSURE: Final = 16
# Python that has the kernel refuse executable memory from now on: prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN).
_REFUSE: Final = "import ctypes, os, sys; refused = ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) == 0"


def values(section: str) -> dict[str, list[str]]:
    """The values of each key of a section, in order: keys of a unit may be repeated."""
    found: dict[str, list[str]] = defaultdict(list)
    current = ""
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        if header := re.fullmatch(r"\[(\w+)\]", line):
            current = header[1]
        elif line and not line.startswith("#") and current == section:
            key, _, value = line.partition("=")
            found[key].append(value)
    return found


SERVICE: Final = values("Service")


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with the server of this checkout: systemd asks whether the command is there."""
    copy = tmp_path / "cubequeue.service"
    (command,) = SERVICE["ExecStart"]
    text = UNIT.read_text(encoding="utf-8")
    copy.write_text(text.replace(command.split()[0], str(ENTRY_POINT)), encoding="utf-8")
    return copy


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    require_program("systemd-analyze")
    command = ["systemd-analyze", "--no-pager", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_systemd_takes_it(unit: Path) -> None:
    done = analyze("verify", unit)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_typing_error_would_be_noticed(unit: Path) -> None:
    unit.write_text(unit.read_text().replace("ProtectHome=yes", "ProtectHomes=yes"))
    assert "ProtectHomes" in analyze("verify", unit).stderr


def test_its_exposure_is_small(unit: Path) -> None:
    done = analyze("security", "--offline=true", f"--threshold={MAX_EXPOSURE}", unit)
    assert done.returncode == 0, done.stdout


def test_every_variable_is_a_setting() -> None:
    given = dict(pair.split("=", 1) for pair in SERVICE["Environment"])
    (state,) = SERVICE["StateDirectory"]
    (credential,) = SERVICE["LoadCredential"]
    assert given["CUBESTORE_DATA_DIR"] == f"%S/{state}"
    assert given["CUBEQUEUE_PASSWORD_FILE"] == f"%d/{credential.split(':')[0]}"
    loaded = load_settings({}, given)
    assert loaded.warnings == ()
    assert {origin.label for origin in loaded.origins.values() if origin.explicit} == set(given)


def test_its_command_is_one() -> None:
    (command,) = SERVICE["ExecStart"]
    program, *arguments = command.split()
    assert Path(program).name == ENTRY_POINT.name
    assert run(*arguments, "--help").returncode == 0


@cache
def system_calls(group: str) -> frozenset[str]:
    """The system calls of a group of systemd's, those of the groups in it included."""
    listed = analyze("syscall-filter", group).stdout.splitlines()
    names = [line.strip() for line in listed if line.startswith("    ") and not line.strip().startswith("#")]
    assert names
    return frozenset[str]().union(
        *(system_calls(name) if name.startswith("@") else frozenset({name}) for name in names)
    )


def use(server: Running) -> None:
    """A bit of everything: a life cycle that is journalled, a SELECT, the metrics, the page."""
    url = "ws://{}:{}".format(*server.ws)
    for statement in ("QUEUE ADD 'q:k' 'x'", "QUEUE RETRIEVE CONCURRENCY 1 'q:k'", "QUEUE ACK 'q:k' 'y'"):
        assert run("sql", "--url", url, statement).returncode == 0
    assert run("sql", "--url", url, "SELECT count(*) FROM system.queue_results").returncode == 0
    assert {server.get(path)[0] for path in ("/livez", "/readyz", "/metrics", "/")} == {200}


def test_the_server_needs_no_system_call_that_is_filtered(tmp_path: Path) -> None:
    require_program("strace")
    allowed, *denied = SERVICE["SystemCallFilter"]
    may_call = set(system_calls(allowed))
    for each in denied:
        may_call -= system_calls(each.removeprefix("~"))
    counts = tmp_path / "counts"
    # strace is told of the system calls of both processes: the server, and the one that syncs.
    command = ["strace", "-f", "-qq", "-c", "-o", counts, ENTRY_POINT]
    with serving("--data-dir", str(tmp_path / "data"), command=command) as server:
        use(server)
        (traced,) = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
        os.kill(int(traced), signal.SIGTERM)
        assert server.process.wait(30) == 0
    called = {line.split()[-1] for line in counts.read_text().splitlines() if re.match(r"\s*\d+\.\d+\s", line)}
    called.discard("total")
    assert {"fdatasync", "accept4", "epoll_wait"} & called
    assert called - may_call == set()


def test_the_server_makes_no_memory_executable(tmp_path: Path) -> None:
    """What MemoryDenyWriteExecute= forbids; newer versions of systemd have the kernel enforce it by the same call."""
    assert SERVICE["MemoryDenyWriteExecute"] == ["yes"]
    probe = subprocess.run([sys.executable, "-c", f"{_REFUSE}; sys.exit(not refused)"], check=False)
    require(probe.returncode == 0, "a kernel with PR_SET_MDWE")
    command = [sys.executable, "-c", f"{_REFUSE}; os.execv(sys.argv[1], sys.argv[1:])", ENTRY_POINT]
    with serving("--data-dir", str(tmp_path / "data"), command=command) as server:
        use(server)
        code, _, errors = server.end(signal.SIGTERM)
    assert (code, errors.count('"level": "error"')) == (0, 0)
