"""The limits of this process: how many files it may open, and how much memory it may use."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

# Listeners, logs, the process that evaluates SELECTs, certificates that are read again, and some to spare.
_FILES_OF_PROCESS: Final = 64
# The database opens 256 tables at once, and its logs, manifests and folders.
_FILES_OF_JOURNAL: Final = 320
# Sockets whose request has not arrived get a fifth of what clients have, and at most so many.
_MAX_HANDSHAKES: Final = 1024
# cgroup v1 says "no limit" with a number near 2^63, rounded to pages.
_V1_UNLIMITED: Final = 1 << 60


class Sockets(NamedTuple):
    """How many sockets the WebSocket port may have: of clients, and before their request was answered."""

    connections: int
    handshakes: int


def raise_file_limit(
    max_connections: int, *, has_journal: bool, other_sockets: int, of_connection: int = 1
) -> tuple[Sockets, str | None]:
    """Raise the soft limit of open files so that `max_connections` fit, and share it out.

    One connection takes `of_connection` files.

    What the journal and the process itself need is kept free of sockets, and so are `other_sockets`, those of the
    other ports: else silent clients would have writes and probes refused. Returns the share of the WebSocket port, and
    a warning when the hard limit is too low. The usual soft limit of 1024 is for programs that use select().
    """
    reserved = _FILES_OF_PROCESS + other_sockets + (_FILES_OF_JOURNAL if has_journal else 0)
    wanted = reserved + max_connections * of_connection + _MAX_HANDSHAKES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = soft
    if soft != resource.RLIM_INFINITY and soft < wanted:
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed == resource.RLIM_INFINITY or allowed >= wanted:
        return Sockets(max_connections, _MAX_HANDSHAKES), None
    left = max(2, allowed - reserved)
    handshakes = min(_MAX_HANDSHAKES, max(1, left // 5))
    sockets = Sockets(min(max_connections, max(1, (left - handshakes) // of_connection)), handshakes)
    if sockets.connections == max_connections:
        return sockets, None
    return sockets, (
        f"{allowed} files may be open at once (ulimit -n), of which {reserved} are reserved: {sockets.connections}"
        f" connections are accepted instead of the {max_connections} of CUBEQUEUE_MAX_CONNECTIONS"
    )


def open_standard_files() -> None:
    """Open to nothing each of stdin, stdout and stderr that the process was started without.

    Otherwise a socket would get such a number: a message of some library on stderr would reach a client, and libuv
    ends a process that closes such a socket.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number


def memory_limit_bytes(root: Path = Path("/")) -> int | None:
    """The smallest of the machine's memory and the limits of the cgroups; None when there is no such number.

    `root` is the directory of proc and sys.
    """
    limits = [limit for file in _limit_files(root) if (limit := _read_limit(file)) is not None]
    if root == Path("/"):
        with suppress(OSError, ValueError):
            limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min(limits, default=None)


def _limit_files(root: Path) -> Iterator[Path]:
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        hierarchy, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if hierarchy == "0" and not controllers:
            yield from _with_parents(root / "sys/fs/cgroup", group, "memory.max")
        elif "memory" in controllers.split(","):
            yield from _with_parents(root / "sys/fs/cgroup/memory", group, "memory.limit_in_bytes")


def _with_parents(mount: Path, group: str, name: str) -> Iterator[Path]:
    """The file of the group and of each group above it: the limits of all of them hold."""
    parts = [part for part in group.split("/") if part not in {"", ".", ".."}]
    for depth in range(len(parts), -1, -1):
        yield mount.joinpath(*parts[:depth]) / name


def _read_limit(file: Path) -> int | None:
    try:
        limit = int(file.read_text())
    except (OSError, ValueError):  # no such group, or the word `max`
        return None
    return limit if 0 < limit < _V1_UNLIMITED else None
