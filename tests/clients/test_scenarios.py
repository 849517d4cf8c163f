"""Six generations of the real client's drivers and QueryQueue on one server (clients.md §2, §3, §6)."""

from __future__ import annotations

import pytest

from tests.clients.conftest import RunScenarios
from tests.clients.processes import Cubequeue

pytestmark = pytest.mark.node


@pytest.mark.parametrize("scenarios", ["queue-driver", "cache-driver", "query-queue", "hostile", "lost-answers"])
def test_the_client_gets_what_it_expects(cubequeue: Cubequeue, run_scenarios: RunScenarios, scenarios: str) -> None:
    run_scenarios(cubequeue, scenarios)
