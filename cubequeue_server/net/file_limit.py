"""How many files this process may have open: each connection is one."""

from __future__ import annotations

import os
import resource
from typing import Final

# Listeners, logs, what the loop and a few probes need.
_FILES_BESIDE_CONNECTIONS: Final = 64


def raise_file_limit(max_connections: int) -> str | None:
    """Raise the soft limit so that `max_connections` fit; a warning when the hard limit does not allow it.

    The usual soft limit is 1024, kept low for programs that use select(); past it connections would silently wait
    to be accepted.
    """
    wanted = max_connections + _FILES_BESIDE_CONNECTIONS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return None
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed == wanted:
        return None
    return (
        f"{allowed} files may be open at once (ulimit -n), so fewer connections than the {max_connections} of "
        "CUBEQUEUE_MAX_CONNECTIONS can be accepted"
    )


def open_standard_files() -> None:
    """Open what the process was started without of stdin, stdout and stderr, to nothing.

    A socket would take their numbers else: what some library says on stderr would reach a client, and libuv ends a
    process that closes such a socket.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest that is free
