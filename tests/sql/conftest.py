from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cubequeue_server.engines.sql.engine import SqlEngine
from tests.sql.running import Execute, Running


@pytest.fixture(scope="session")
def running() -> Iterator[Running]:
    running = Running()
    yield running
    running.close()


@pytest.fixture
def make() -> Iterator[Callable[..., Running]]:
    """Makes some with settings of their own."""
    made: list[Running] = []

    def make_one(**settings: Any) -> Running:
        made.append(Running(**settings))
        return made[-1]

    yield make_one
    for running in made:
        running.close()


@pytest.fixture
def engine(running: Running) -> SqlEngine:
    return running.engine


@pytest.fixture
def execute(running: Running) -> Execute:
    running.empty()
    return running.execute
