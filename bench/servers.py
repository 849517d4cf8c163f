"""Starts the servers that the bench compares, each alone on the first core; the load has the second."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.plans import LUA

HERE = Path(__file__).parent
CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, LOAD_CORE = CORES[0], CORES[-1]
START_TIMEOUT_S = 10.0
# An installed server has its byte code beside it; the first start from a source tree writes it. And a server of another
# checkout runs that checkout's code, wherever modules of this one may be found.
_NOT_INHERITED = {"PYTHONDONTWRITEBYTECODE", "PYTHONPATH"}
IDLE_S = 0.3


@dataclass(frozen=True)
class Running:
    """A server under test."""

    name: str
    pid: int
    port: int

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def settle(self) -> None:
        """Wait until it idles: what a start does in the background is measured by `bench.start`, not here."""
        deadline = time.monotonic() + START_TIMEOUT_S
        used, before = self.cpu_seconds(), -1.0
        while used > before and time.monotonic() < deadline:
            time.sleep(IDLE_S)
            used, before = self.cpu_seconds(), used

    def resident_mib(self) -> float:
        """Resident memory now."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)

    def reset_peak(self) -> None:
        """Forget how much memory it has had."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def peak_mib(self) -> float:
        """The most resident memory since then."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024


@dataclass(frozen=True)
class Cores:
    """Seconds of all cores together so far: used by processes, and given to other machines by the host."""

    used: float
    stolen: float


def cores() -> Cores:
    """As the kernel tells of them now."""
    user, nice, system, *_, stolen = map(int, Path("/proc/stat").read_text().split(maxsplit=9)[1:9])
    return Cores(*(ticks / os.sysconf("SC_CLK_TCK") for ticks in (user + nice + system, stolen)))


def pinned(core: int, command: list[str]) -> list[str]:
    """The command, bound to one core."""
    return ["taskset", "--cpu-list", str(core), *command]


@contextlib.contextmanager
def started(
    name: str, command: list[str], pattern: str, environment: dict[str, str] | None = None
) -> Iterator[Running]:
    """Run a server until its first line names a port; end it by its process id."""
    inherited = {name: text for name, text in os.environ.items() if name not in _NOT_INHERITED}
    process = subprocess.Popen(
        pinned(SERVER_CORE, command),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**inherited, **(environment or {})},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        match = re.search(pattern, line)
        if match is None:
            raise RuntimeError(f"{name} did not start: {line!r}")
        yield Running(name, process.pid, int(match.group(1)))
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def cubequeue(checkout: Path | None = None, /, **settings: str) -> contextlib.AbstractContextManager[Running]:
    """The server itself, on a free port: that of this environment, or of another checkout that is set up."""
    binaries = checkout / ".venv" / "bin" if checkout else Path(sys.executable).parent
    environment = {
        "CUBESTORE_HTTP_PORT": "auto",
        "CUBESTORE_STATUS_PORT": "0",
        "CUBESTORE_PORT": "0",
        "CUBESTORE_LOG_LEVEL": "error",
    }
    return started(
        "cubequeue",
        [str(binaries / "cubequeue"), "serve"],
        r"ws=\S*:(\d+)",
        {**environment, **settings},
    )


def echo() -> contextlib.AbstractContextManager[Running]:
    """The bare echo of the same WebSocket library."""
    return started("echo", [sys.executable, str(HERE / "echo.py"), "0"], r"listening (\d+)")


def sink(load: Path) -> contextlib.AbstractContextManager[Running]:
    """A bare echo in C: what the load generator itself can reach."""
    return started("sink", [str(load), "sink", "0"], r"listening (\d+)")


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def redis_call(port: int, *words: bytes) -> bytes:
    """One command and the first line of its answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))
        return connection.recv(4096)


@contextlib.contextmanager
def durable_cubequeue(mode: str, checkout: Path | None = None, /, **settings: str) -> Iterator[Running]:
    """The server with a journal in a directory of its own; none in the mode `memory`."""
    with tempfile.TemporaryDirectory() as folder:
        journal = {} if mode == "memory" else {"CUBESTORE_DATA_DIR": folder, "CUBEQUEUE_DURABILITY": mode}
        with cubequeue(checkout, **journal, **settings) as running:
            yield running


@contextlib.contextmanager
def redis(appendfsync: str | None = None, max_mib: int = 0) -> Iterator[Running]:
    """Redis with the scripts loaded: in memory, or with an append-only file synced so; within `max_mib` if given."""
    binary = shutil.which("redis-server")
    if binary is None:
        raise RuntimeError("redis-server is not installed: it is one of the two references of the bench")
    port = free_port()
    folder = tempfile.mkdtemp()
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
    command += ["--appendonly", "no"] if appendfsync is None else ["--appendonly", "yes", "--appendfsync", appendfsync]
    if max_mib:
        command += ["--maxmemory", f"{max_mib}mb", "--maxmemory-policy", "allkeys-lru"]
    process = subprocess.Popen(pinned(SERVER_CORE, command), stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            with contextlib.suppress(OSError):
                if redis_call(port, b"PING").startswith(b"+PONG"):
                    break
            if time.monotonic() > deadline:
                raise RuntimeError("redis did not start")
            time.sleep(0.05)
        for script in sorted(LUA.glob("*.lua")):
            redis_call(port, b"SCRIPT", b"LOAD", script.read_bytes())
        yield Running("redis", process.pid, port)
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)
