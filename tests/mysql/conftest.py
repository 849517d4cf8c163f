"""A server with a MySQL port, as a process of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cli.running import Running, serving


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    """Tests share it and use prefixes of their own; it has nothing to complain of."""
    with serving("--mysql-bind", "127.0.0.1:auto") as running:
        yield running
        code, _, errors = running.end(15)
    assert code == 0
    assert '"level": "error"' not in errors
    assert "Traceback" not in errors
    assert "never retrieved" not in errors
