"""The machine of the model, with a restart from the journal between any two statements."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from storage.interface import StateMachine
from tests.conformance.engines import FIRST_ID, Limits
from tests.model.machine import StoreMachine
from tests.storage.journal.restarting import RestartingStore


class JournaledMachine(StoreMachine):
    """Restarted all the time."""

    def open_store(self, limits: Limits) -> StateMachine:
        return RestartingStore(limits.queue, limits.cache, limits.answers, FIRST_ID, every=7)


QUICK = settings(max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))


def test_a_restart_changes_nothing() -> None:
    run_state_machine_as_test(JournaledMachine, settings=QUICK)


@pytest.mark.soak
@pytest.mark.timeout(3_600)
def test_a_restart_changes_nothing_at_length() -> None:
    run_state_machine_as_test(JournaledMachine, settings=settings(QUICK, max_examples=2_000, stateful_step_count=80))
