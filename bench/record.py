"""What a run of the bench leaves: a line a measurement, with its figures and the verdict against its target."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import timeit
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from operator import ge, le
from pathlib import Path
from typing import TypeAlias

from bench import servers

PACKAGES = ("picows", "uvloop", "rocksdict")
_COMPARE = {"≤": le, "≥": ge}


@dataclass(frozen=True)
class Target:
    """What one figure of a line has to be (design: performance.md, "Targets", as corrected by the decisions)."""

    figure: str
    comparison: str
    bound: float

    def is_met(self, figures: Mapping[str, float]) -> bool:
        """Whether the figure is on the right side."""
        return bool(_COMPARE[self.comparison](figures[self.figure], self.bound))

    def __str__(self) -> str:
        return f"{self.figure} {self.comparison} {self.bound:g}"


@dataclass
class Line:
    """One measurement. The names of figures end in their unit; `of_…` are ratios within the run."""

    part: str
    name: str
    figures: dict[str, float]
    targets: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    errors: int = 0


def line(part: str, name: str, figures: Mapping[str, float], *targets: Target, errors: int = 0) -> Line:
    """A line, judged."""
    missed = [str(target) for target in targets if not target.is_met(figures)]
    return Line(part, name, dict(figures), [str(target) for target in targets], missed, errors)


@dataclass(frozen=True)
class Bench:
    """What every part is given: the load generator, a folder for files, and how long to measure."""

    load: Path
    folder: Path
    seconds: float
    is_quick: bool
    shapes: tuple[tuple[int, int], ...] | None = None  # only these

    def scaled(self, full: int, quick: int) -> int:
        """A size of a measurement."""
        return quick if self.is_quick else full

    def shapes_of(self, full: Iterable[tuple[int, int]], quick: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        """Connections × depth to measure at."""
        return list(self.shapes or (quick if self.is_quick else full))


Part: TypeAlias = Callable[[Bench], Iterator[Line]]


def machine() -> dict[str, str]:
    """The machine and the versions, as far as they bear on the figures. No names and no paths."""
    info = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((each.split(":", 1)[1].strip() for each in info if "model name" in each), platform.machine())
    redis = subprocess.run(["redis-server", "--version"], capture_output=True, text=True, check=False).stdout
    memory_kib = int(Path("/proc/meminfo").read_text().split()[1])
    return {
        "processor": model,
        "cores": str(len(servers.CORES)),
        "memory": f"{memory_kib / (1 << 20):.0f} GiB",
        "kernel": platform.release().split("-")[0],
        "CPython": platform.python_version(),
        "python_call_ns": f"{_call_ns():.0f}",
        "Redis": redis.split("v=")[1].split()[0] if "v=" in redis else "absent",
        **{package: version(package) for package in PACKAGES},
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
        ).stdout.strip(),
        "load_average": f"{os.getloadavg()[0]:.1f}",
    }


def _call_ns() -> float:
    """A call of a method that adds: how fast processor and interpreter are together."""

    class Counter:
        def __init__(self) -> None:
            self.count = 0

        def add(self, by: int) -> None:
            self.count += by

    calls = 100_000
    return min(timeit.repeat("add(3)", globals={"add": Counter().add}, number=calls, repeat=20)) / calls * 1e9


def show(each: Line) -> str:
    """A line for people."""
    figures = "  ".join(f"{name} {number(value)}" for name, value in each.figures.items())
    verdict = f"  MISSED {', '.join(each.missed)}" if each.missed else "  met" if each.targets else ""
    return f"{each.name:<44} {figures}{verdict}" + (f"  {each.errors} ERRORS" if each.errors else "")


def number(value: float) -> str:
    """Three digits, or the whole number."""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def write(path: Path, head: Mapping[str, str], lines: Iterable[Line]) -> None:
    """The record, machine-readable."""
    path.write_text(json.dumps({"machine": head, "lines": [asdict(each) for each in lines]}, indent=1) + "\n")


def read(path: Path) -> tuple[dict[str, str], list[Line]]:
    """A record that `write` wrote."""
    record = json.loads(path.read_text())
    return record["machine"], [Line(**each) for each in record["lines"]]
