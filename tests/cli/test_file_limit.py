"""The limit of open files follows the limit of connections."""

from __future__ import annotations

import subprocess
import sys

_TRY = """
import resource, sys
from cubequeue_server.process_limits import raise_file_limit
soft, hard, connections, has_journal, of_connection = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
sockets, warning = raise_file_limit(
    connections, has_journal=bool(has_journal), other_sockets=100, of_connection=of_connection
)
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0], *sockets, warning)
"""


def _raised(soft: int, hard: int, connections: int, *, has_journal: bool = False, of_connection: int = 1) -> str:
    """The soft limit afterwards, the connections, the handshakes, the warning; limits are those of a process."""
    arguments = [sys.executable, "-c", _TRY, *map(str, (soft, hard, connections, int(has_journal), of_connection))]
    return subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=30).stdout.strip()


def test_the_soft_limit_is_raised_as_far_as_connections_need() -> None:
    assert _raised(100, 3000, 300) == f"{300 + 1024 + 164} 300 1024 None"
    assert _raised(100, 3000, 300, has_journal=True) == f"{300 + 1024 + 484} 300 1024 None"


def test_a_soft_limit_that_is_high_enough_stays() -> None:
    assert _raised(2000, 3000, 300) == "2000 300 1024 None"


def test_handshakes_give_way_to_connections() -> None:
    assert _raised(100, 664, 400) == "664 400 100 None"


def test_a_low_hard_limit_is_a_warning() -> None:
    assert _raised(100, 664, 401) == (
        "664 400 100 664 files may be open at once (ulimit -n), of which 164 are reserved: 400 connections are accepted"
        " instead of the 401 of CUBEQUEUE_MAX_CONNECTIONS"
    )
    assert _raised(100, 1024, 10_000, has_journal=True).startswith("1024 432 108 ")


def test_a_connection_may_take_two_files() -> None:
    assert _raised(100, 3000, 300, of_connection=2) == f"{600 + 1024 + 164} 300 1024 None"
    assert _raised(100, 664, 200, of_connection=2) == "664 200 100 None"
    assert _raised(100, 664, 201, of_connection=2).startswith("664 200 100 664 files may be open")
    assert _raised(100, 100, 10, of_connection=2).startswith("100 1 1 ")


def test_a_limit_that_is_much_too_low_leaves_one_connection() -> None:
    assert _raised(100, 100, 10).startswith("100 1 1 ")
