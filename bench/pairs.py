"""`python -m bench.pairs CHECKOUT`: this checkout's server and that of another one under the same load, by turns.

Rates of a shared machine drift by a quarter within minutes. Two servers measured one right after the other drift
alike, and the one that goes first changes from round to round: what counts is the ratio of a round, its median over
the rounds, and how far the rounds are apart. `others` is the share of the cores that other processes used, in the
worst measurement: above some percent, rates say little and processor time says more. Of the other checkout nothing is
used but its `cubequeue` command and settings in the environment, so it may be an older commit.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench import plans, servers
from bench.measure import Measured, build_load, measure
from bench.record import number

HERE = Path(__file__).parent.parent
_SECONDS, _ROUNDS = 3.0, 5
_HEAD = (
    f"{'':<40} {'requests a second':^17}   {'processor µs':^15}   "
    f"{'rate, here / other':^20}   {'µs, here / other':^20}   others\n"
    f"{'':<40} {'here':>8} {'other':>8}   {'here':>7} {'other':>7}"
)


@dataclass(frozen=True)
class Compared:
    """One line: a cycle of the bench, connections × depth, and where the server keeps its data."""

    cycle: str
    shape: tuple[int, int]
    mode: str = "memory"

    @property
    def name(self) -> str:
        """As it is printed."""
        mode = "" if self.mode == "memory" else f", {self.mode}"
        return f"{self.cycle}{mode}, {self.shape[0]} × {self.shape[1]}"


LINES = (
    Compared("HEARTBEAT of an active item", (16, 1)),
    Compared("HEARTBEAT of an active item", (16, 16)),
    Compared("HEARTBEAT of an active item", (50, 1)),
    Compared("CACHE GET of 1 KB", (16, 1)),
    Compared("CACHE GET of 1 KB", (16, 16)),
    Compared("life cycle 2 KB", (1, 1)),
    Compared("life cycle 2 KB", (16, 1)),
    Compared("life cycle 2 KB", (16, 16)),
    Compared("life cycle 2 KB", (16, 1), "relaxed"),
    Compared("life cycle 2 KB", (16, 16), "relaxed"),
)


@dataclass(frozen=True)
class Round:
    """One measurement of each server, one right after the other."""

    here: Measured
    other: Measured

    @property
    def rate(self) -> float:
        """Requests a second, as a ratio to the other."""
        return self.here.per_s / self.other.per_s

    @property
    def cost(self) -> float:
        """The server's processor time a request, as a ratio to the other."""
        return self.here.server_us / self.other.server_us


def rounds_of(measured: Callable[[bool], Measured], count: int) -> list[Round]:
    """Measure so many rounds; `measured` is told whether it is this checkout's turn. The first to go alternates."""
    rounds = []
    for at in range(count):
        got = {is_here: measured(is_here) for is_here in ((True, False) if at % 2 == 0 else (False, True))}
        rounds.append(Round(got[True], got[False]))
    return rounds


def summary(name: str, rounds: Sequence[Round]) -> str:
    """A line for people: the medians of both, and of the ratios with their range over the rounds."""
    rates = [
        f"{number(median(rates)):>8}" for rates in zip(*((r.here.per_s, r.other.per_s) for r in rounds), strict=True)
    ]
    costs = [f"{median(us):>7.2f}" for us in zip(*((r.here.server_us, r.other.server_us) for r in rounds), strict=True)]
    ratios = [_ranged([r.rate for r in rounds]), _ranged([r.cost for r in rounds])]
    errors = sum(r.here.errors + r.other.errors for r in rounds)
    others = max(max(r.here.others, r.other.others) for r in rounds)
    columns = [" ".join([f"{name:<40}", *rates]), " ".join(costs), *ratios, f"{others:>6.0%}"]
    return "   ".join(columns) + (f"  {errors} ERRORS" if errors else "")


def _ranged(values: Sequence[float]) -> str:
    return f"{median(values):>6.3f} ({min(values):.3f}–{max(values):.3f})"


def _commit(checkout: Path) -> str:
    """What is checked out there."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(checkout), *words], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    is_changed = bool(git("status", "--porcelain", "--untracked-files=no"))
    return (git("rev-parse", "--short", "HEAD") or "no commit") + (" with changes" if is_changed else "")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.pairs", description=__doc__)
    parser.add_argument("checkout", type=Path, metavar="CHECKOUT", help="another checkout, after `make setup` there")
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help=f"measurements of each (default {_ROUNDS})")
    parser.add_argument("--seconds", type=float, default=_SECONDS, help=f"a measurement (default {_SECONDS:g})")
    parser.add_argument("--only", metavar="TEXT", default="", help="only the lines with this in their name")
    return parser.parse_args()


def main() -> int:
    """Compare, and print a line for each kind of load as soon as it is measured."""
    arguments = _arguments()
    other: Path = arguments.checkout.resolve()
    for checkout in (HERE, other):
        if not (checkout / ".venv" / "bin" / "cubequeue").exists():
            sys.exit(f"{checkout} has no .venv/bin/cubequeue: run `make setup` there")
    lines = [each for each in LINES if arguments.only in each.name]
    if not lines:
        sys.exit(f"no line has {arguments.only!r} in its name; there are: {'; '.join(each.name for each in LINES)}")
    print(f"here {_commit(HERE)}, other {_commit(other)}, load average {os.getloadavg()[0]:.1f}", flush=True)
    print(
        f"{arguments.rounds} rounds of {arguments.seconds:g} s; medians, and the range over the rounds\n{_HEAD}",
        flush=True,
    )
    has_errors = False
    with tempfile.TemporaryDirectory() as name, contextlib.suppress(KeyboardInterrupt):
        folder = Path(name)
        load, plan = build_load(folder), folder / "plan"
        for each in lines:
            plan.write_text(plans.ws_plan(plans.CYCLES[each.cycle]()))

            def measured(is_here: bool, each: Compared = each) -> Measured:
                with servers.durable_cubequeue(each.mode, HERE if is_here else other) as running:
                    return measure(load, plan, running, each.shape, arguments.seconds)

            rounds = rounds_of(measured, arguments.rounds)
            has_errors |= any(r.here.errors or r.other.errors for r in rounds)
            print(summary(each.name, rounds), flush=True)
    return 1 if has_errors else 0


if __name__ == "__main__":
    sys.exit(main())
