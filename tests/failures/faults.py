"""Disks that fail, for a real server: small ones, and system calls that return errors while `strace` holds on."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.needed import require, require_program

TIMEOUT_S = 30.0
# What RocksDB writes to its logs and tables with, and what may write on other systems.
WRITES = "write,pwrite64,writev,pwritev"
# More files than a test makes: a journal that is opened anew writes to new ones.
_MAX_FILE_NUMBER = 120


@contextmanager
def small_disk(directory: Path, megabytes: int) -> Iterator[Path]:
    """A file system of this size at a new directory."""
    require(os.geteuid() == 0 and shutil.which("mount"), "the right to mount")
    directory.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", str(directory)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    require(done.returncode == 0, f"the right to mount: {done.stderr}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


@contextmanager
def read_only(directory: Path) -> Iterator[None]:
    """A mounted directory in which nothing may be written, not by root either."""
    subprocess.run(["mount", "-o", "remount,ro", str(directory)], check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(directory)], check=True)


def fill(disk: Path, keep_bytes: int = 0) -> Path:
    """A file that leaves so little room."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file:
        status = os.statvfs(disk)
        left = status.f_bavail * status.f_frsize - keep_bytes
        try:
            while left > 0:
                left -= file.write(bytes(min(left, 1 << 16)))
        except OSError:
            return filler
    return filler


@contextmanager
def failing(pid: int, calls: str, error: str, journal: Path | None = None) -> Iterator[None]:
    """These system calls of a process fail: those on files of a journal, or all."""
    require_program("strace")
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}", "-e", f"inject={calls}:error={error}"]
    if journal is not None:
        names = [f"{number:06d}.{kind}" for number in range(_MAX_FILE_NUMBER) for kind in ("log", "sst")]
        names += [f"MANIFEST-{number:06d}" for number in range(_MAX_FILE_NUMBER)]
        command += [word for name in names for word in ("-P", str(journal / name))]
    # With -qq it does not tell that it has attached: the process's status does.
    tracer = subprocess.Popen([*command, "-p", str(pid)], stderr=subprocess.PIPE, text=True)
    try:
        _until_traced(pid, tracer)
        yield
    finally:
        if tracer.poll() is None:
            tracer.send_signal(signal.SIGINT)
            tracer.communicate(timeout=TIMEOUT_S)


def _until_traced(pid: int, tracer: subprocess.Popen[str]) -> None:
    """Wait until all threads of a process are traced, or it has ended of a call that failed already."""
    deadline = time.monotonic() + TIMEOUT_S
    tasks = Path(f"/proc/{pid}/task")
    while time.monotonic() < deadline:
        if tracer.poll() is not None:
            complaint = tracer.communicate()[1]
            require(not complaint, f"the right to trace: {complaint}")
            return
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread has ended, or all have
            statuses = [(task / "status").read_text() for task in tasks.iterdir()]
            if all(f"TracerPid:\t{tracer.pid}\n" in status for status in statuses):
                return
        time.sleep(0.02)
    raise AssertionError("strace does not attach")


def sync_helper_of(pid: int) -> int:
    """The process that syncs the journal of a server."""
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)
