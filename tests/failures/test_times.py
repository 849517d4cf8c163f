"""What the journal may cost: a start's time to recover, and the loop's time for values of 5 MB."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.recovery import make_journal, recover
from bench.turns import journal_turns

MAX_TURN_S = 0.005
RUNS = 3


@pytest.fixture
def _no_collections() -> Iterator[None]:
    """As in a server that starts."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_collections")
@pytest.mark.parametrize(("items", "most_s"), [(10_000, 0.3), pytest.param(100_000, 2.0, marks=pytest.mark.soak)])
def test_recovery(items: int, most_s: float, tmp_path: Path) -> None:
    """By the processor's time: of the clock's, other processes take their part."""
    make_journal(tmp_path / "journal", items)
    took = []
    for _ in range(RUNS):
        recovery = recover(tmp_path / "journal")
        assert recovery.items == items
        took.append(recovery)
        if recovery.cpu_s < most_s:
            return
    pytest.fail(f"recovery took {took}")


@pytest.mark.parametrize("mode", ["relaxed", "strict"])
def test_the_journal_never_holds_the_loop_up(mode: str, tmp_path: Path) -> None:
    seen = []
    for run in range(RUNS):
        turns = journal_turns(tmp_path / str(run), mode, 2)
        assert turns.count - turns.disturbed > 20, "too little of it was measured"
        seen.append([round(seconds * 1000, 1) for seconds in turns.longest[:3]])
        if turns.longest[0] <= MAX_TURN_S:
            return
    pytest.fail(f"the longest turns, in ms: {seen}")
