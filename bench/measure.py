"""One run of the load generator against one server, and how it is printed."""

from __future__ import annotations

import json
import resource
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from bench import servers

LOAD_SOURCE = Path(__file__).parent / "load.c"


@dataclass(frozen=True)
class Measured:
    """One run of the load generator against one server."""

    per_s: float
    p50_us: float
    p99_us: float
    server_us: float
    generator_busy: float
    errors: int
    stolen: float  # the share of the cores' time that the host gave to others
    others: float  # and the share that processes used which have no part in this
    steps: dict[str, dict[str, float]]


def build_load(folder: Path) -> Path:
    """Compile the load generator."""
    binary = folder / "load"
    subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-o", str(binary), str(LOAD_SOURCE)], check=True)
    return binary


def measure(load: Path, plan: Path, server: servers.Running, shape: tuple[int, int], seconds: float) -> Measured:
    """Drive one server with one plan; its processor time is taken over the whole run, warm-up included."""
    connections, depth = shape
    warmup_s = seconds / 4
    server.settle()
    before, start, cores = server.cpu_seconds(), time.monotonic(), servers.cores()
    load_before = _children_seconds()
    target = f"127.0.0.1:{server.port}"
    command = [str(load), str(plan), target, str(connections), str(depth), str(warmup_s), str(seconds)]
    done = subprocess.run(
        servers.pinned(servers.LOAD_CORE, command),
        stdout=subprocess.PIPE,
        text=True,
        timeout=seconds * 3 + 30,
        check=False,  # a run with error replies ends with 3 and prints its figures all the same
    )
    if not done.stdout:
        raise RuntimeError(f"the load generator failed against {server.name}")
    line = json.loads(done.stdout)
    cpu = server.cpu_seconds() - before
    took, now = (time.monotonic() - start) * len(servers.CORES), servers.cores()
    others = now.used - cores.used - cpu - (_children_seconds() - load_before)
    if not line["requests"]:
        raise RuntimeError(f"{server.name} answered nothing in {seconds:g} s: measure for longer")
    return Measured(
        line["per_s"],
        line["p50_us"],
        line["p99_us"],
        cpu / line["requests_in_all"] * 1e6,
        line["generator_cpu"],
        line["errors"],
        (now.stolen - cores.stolen) / took,
        max(0.0, others / took),
        line["steps"],
    )


def _children_seconds() -> float:
    """The processor time of all processes that this one started and that have ended, the load generator's above all."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run_steps(load: Path, plan: Path, server: servers.Running, requests: int, depth: int = 64) -> None:
    """Send so many requests in all and wait for their answers."""
    command = [str(load), str(plan), f"127.0.0.1:{server.port}", "1", str(depth), "0", "0", str(requests)]
    subprocess.run(servers.pinned(servers.LOAD_CORE, command), stdout=subprocess.DEVNULL, check=True, timeout=600)


def figures_of(m: Measured) -> dict[str, float]:
    """What a line tells of a run: rates, times, processor time a request, how busy the load generator was,
    and the shares of the processors' time that the host took and that other processes used: above some percent the
    rates say little."""
    return {
        "per_s": m.per_s,
        "p50_ms": m.p50_us / 1000,
        "p99_ms": m.p99_us / 1000,
        "server_us": m.server_us,
        "load_busy": m.generator_busy,
        "stolen": m.stolen,
        "others": m.others,
    }
