"""The limit of open files follows the limit of connections."""

from __future__ import annotations

import subprocess
import sys

_TRY = """
import resource, sys
from cubequeue_server.process_limits import raise_file_limit
soft, hard, connections = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
warning = raise_file_limit(connections)
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0], warning)
"""


def _raised(soft: int, hard: int, connections: int) -> str:
    """The soft limit afterwards, and the warning; in a process of its own, because limits are a process's."""
    arguments = [sys.executable, "-c", _TRY, str(soft), str(hard), str(connections)]
    return subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=30).stdout.strip()


def test_the_soft_limit_is_raised_as_far_as_connections_need() -> None:
    assert _raised(100, 500, 300) == "364 None"


def test_a_soft_limit_that_is_high_enough_stays() -> None:
    assert _raised(400, 500, 300) == "400 None"


def test_a_low_hard_limit_is_a_warning() -> None:
    assert _raised(100, 500, 10_000) == (
        "500 500 files may be open at once (ulimit -n), so fewer connections than the 10000 of "
        "CUBEQUEUE_MAX_CONNECTIONS can be accepted"
    )
