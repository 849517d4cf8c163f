"""Two checkouts by turns: what is measured, in which order, and what is made of it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench import pairs, plans, servers
from bench.measure import Measured


def measured(per_s: float, server_us: float, errors: int = 0, others: float = 0.0) -> Measured:
    return Measured(per_s, 100.0, 200.0, server_us, 0.5, errors, 0.0, others, {})


def test_lines_are_cycles_of_the_bench_in_memory_and_relaxed() -> None:
    assert {each.cycle for each in pairs.LINES} <= plans.CYCLES.keys()
    assert {each.mode for each in pairs.LINES} == {"memory", "relaxed"}
    assert len({each.name for each in pairs.LINES}) == len(pairs.LINES)


def test_the_first_to_go_alternates() -> None:
    order: list[bool] = []

    def run(is_here: bool) -> Measured:
        order.append(is_here)
        return measured(200.0 if is_here else 100.0, 5.0 if is_here else 20.0)

    rounds = pairs.rounds_of(run, 3)
    assert order == [True, False, False, True, True, False]
    assert [(each.rate, each.cost) for each in rounds] == [(2.0, 0.25)] * 3


def test_a_summary_has_the_medians_of_both_and_the_range_of_the_ratios() -> None:
    """The median of the ratios is not the ratio of the medians: the machine may drift between the rounds."""
    rounds = [
        pairs.Round(measured(1_000, 10), measured(1_000, 10)),
        pairs.Round(measured(3_000, 30), measured(2_000, 20, others=0.125)),
        pairs.Round(measured(4_000, 45), measured(4_000, 50)),
    ]
    text = pairs.summary("some line", rounds)
    assert text.split() == [
        "some",
        "line",
        "3,000",
        "2,000",
        "30.00",
        "20.00",
        *["1.000", "(1.000–1.500)", "1.000", "(0.900–1.500)"],
        "12%",
    ]
    failed = pairs.summary("some line", [*rounds, pairs.Round(measured(1, 1, errors=2), measured(1, 1, errors=3))])
    assert failed.endswith("5 ERRORS")


def test_a_checkout_compared_with_itself(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    line = next(each for each in pairs.LINES if each.mode == "relaxed")
    monkeypatch.setattr(
        sys, "argv", ["pairs", str(pairs.HERE), "--rounds", "1", "--seconds", "0.2", "--only", line.name]
    )
    assert pairs.main() == 0
    assert line.name in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "text"),
    [(["/nowhere"], "run `make setup` there"), ([str(pairs.HERE), "--only", "no such"], "no line has")],
)
def test_what_cannot_be_compared_is_said(words: list[str], text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["pairs", *words])
    with pytest.raises(SystemExit, match=text):
        pairs.main()


def test_a_server_runs_the_code_of_its_own_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules that the environment puts in front would be those of this checkout for both servers."""
    (tmp_path / "cubequeue_server.py").write_text("raise SystemExit('another checkout')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with servers.cubequeue(pairs.HERE) as running:
        assert running.port
