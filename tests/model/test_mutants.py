"""The machine can fail: it finds every planted fault, quickly (mutants.py)."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.conformance.engines import Candidate, Opened
from tests.model.machine import StoreMachine
from tests.model.mutants import MUTANTS, Mutant

# Several times what the best hidden of them ever needed. The shortest example is not looked for.
HUNT = settings(
    max_examples=6_000,
    stateful_step_count=50,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_machine_finds_a_planted_fault(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    class Hunt(StoreMachine):
        engine = Candidate(mutant.name, lambda limits: Opened(mutant.open(limits)))

    if mutant.plant:
        mutant.plant(monkeypatch)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(Hunt, settings=HUNT)
