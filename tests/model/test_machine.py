"""The engine against the naive model: quick in every run, long as `make soak`."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.machine import StoreMachine

QUICK = settings(
    max_examples=200,
    stateful_step_count=40,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


def test_the_engine_does_what_the_model_does() -> None:
    run_state_machine_as_test(StoreMachine, settings=QUICK)


@pytest.mark.soak
@pytest.mark.timeout(3_600)
def test_the_engine_does_what_the_model_does_at_length() -> None:
    soak = settings(QUICK, max_examples=4_000, stateful_step_count=120)
    run_state_machine_as_test(StoreMachine, settings=soak)
