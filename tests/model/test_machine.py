"""The engine against the naive model: quick in every run, long as `make soak`."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.conformance.engines import EXAMPLE, MEMORY, REDIS, THREE_SERVERS, VALKEY, Candidate
from tests.model.machine import StoreMachine

ENGINES = pytest.mark.parametrize(
    ("engine", "share"), [(MEMORY, 1), (EXAMPLE, 0.2), (REDIS, 0.03), (VALKEY, 0.03), (THREE_SERVERS, 0.03)], ids=str
)
QUICK = settings(
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


def run_machine(engine_: Candidate, max_examples: int, stateful_step_count: int) -> None:
    class Machine(StoreMachine):
        engine = engine_

    steps = settings(QUICK, max_examples=max_examples, stateful_step_count=stateful_step_count)
    run_state_machine_as_test(Machine, settings=steps)


@ENGINES
def test_the_engine_does_what_the_model_does(engine: Candidate, share: float) -> None:
    run_machine(engine, int(200 * share), 40)


@pytest.mark.soak
@pytest.mark.timeout(3_600)
@ENGINES
def test_the_engine_does_what_the_model_does_at_length(engine: Candidate, share: float) -> None:
    run_machine(engine, int(4_000 * share), 120)
