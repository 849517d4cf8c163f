"""`make bench`: cubequeue beside a bare echo and beside Redis, in one run, as ratios.

Server and load generator have a core each. Absolute rates on shared machines mean little: the ratios count, and the
server's processor time a request. Every row also says how busy the load generator was: near 100 % it is the limit.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench import plans, servers

LOAD_SOURCE = Path(__file__).parent / "load.c"
SHAPES = [(1, 1), (16, 1), (128, 1), (1, 16), (16, 16), (128, 16)]


@dataclass(frozen=True)
class Measured:
    """One run of the load generator against one server."""

    per_s: float
    p50_us: float
    p99_us: float
    server_us: float
    generator_busy: float
    errors: int
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
    before = server.cpu_seconds()
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
    requests = line["per_s"] * (seconds + warmup_s)
    return Measured(
        line["per_s"],
        line["p50_us"],
        line["p99_us"],
        cpu / requests * 1e6,
        line["generator_cpu"],
        line["errors"],
        line["steps"],
    )


def header() -> str:
    """The machine, as far as it bears on the figures."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    redis = subprocess.run(["redis-server", "--version"], capture_output=True, text=True, check=False).stdout
    version = redis.split("v=")[1].split()[0] if "v=" in redis else "absent"
    return f"{model}, {os.cpu_count()} cores, CPython {platform.python_version()}, Redis {version}"


COLUMNS = (
    f"{'conns × depth':>13} {'server':>10} {'req/s':>9} {'p50 ms':>8} {'p99 ms':>8} {'µs/req':>7} {'load':>5}  ratio"
)


def print_row(shape: tuple[int, int], name: str, m: Measured, ratio: str) -> None:
    """One server at one shape."""
    print(
        f"{shape[0]:>6} × {shape[1]:<4} {name:>10} {m.per_s:>9,.0f} {m.p50_us / 1000:>8.3f} {m.p99_us / 1000:>8.3f} "
        f"{m.server_us:>7.1f} {m.generator_busy:>4.0%}  {ratio}" + (f"  {m.errors} ERRORS" if m.errors else ""),
        flush=True,
    )


def run_cycle(
    name: str, load: Path, folder: Path, shapes: list[tuple[int, int]], seconds: float
) -> list[dict[str, object]]:
    """All shapes of one cycle: the three servers one after the other, so that drift hits them alike."""
    steps = plans.CYCLES[name]()
    files = {
        "cubequeue": plans.ws_plan(steps),
        "echo": plans.ws_plan(steps, echo=True),
        "redis": plans.resp_plan(steps),
    }
    for server, text in files.items():
        (folder / server).write_text(text)
    print(f"\n{name}: {', '.join(step.name for step in steps)}\n{COLUMNS}")
    rows: list[dict[str, object]] = []
    for shape in shapes:
        got: dict[str, Measured] = {}
        for server in ("echo", "redis", "cubequeue"):
            with getattr(servers, server)() as running:
                got[server] = measure(load, folder / server, running, shape, seconds)
        mine = got["cubequeue"]
        print_row(shape, "echo", got["echo"], "")
        print_row(shape, "redis", got["redis"], "")
        ratios = {f"of_{other}": mine.per_s / got[other].per_s for other in ("echo", "redis")}
        print_row(shape, "cubequeue", mine, f"{ratios['of_echo']:.2f} × echo, {ratios['of_redis']:.2f} × Redis")
        rows.append({"cycle": name, "connections": shape[0], "depth": shape[1], **ratios, **vars(mine)})
    return rows


def print_ceiling(load: Path, folder: Path, seconds: float) -> None:
    """What the load generator reaches against an echo in C."""
    steps = plans.CYCLES["life cycle 2 KB"]()
    (folder / "sink").write_text(plans.ws_plan(steps, echo=True))
    for shape in ((16, 1), (16, 16)):
        with servers.sink(load) as running:
            m = measure(load, folder / "sink", running, shape, seconds)
        print(f"ceiling of the load generator, life cycle, {shape[0]} × {shape[1]}: {m.per_s:,.0f} requests/s")


def main() -> int:
    """Run what was asked for and print it."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="measured seconds a run (default 3)")
    parser.add_argument("--cycle", choices=sorted(plans.CYCLES), action="append", help="only this cycle")
    parser.add_argument("--shape", action="append", help="only this shape, e.g. 16x1")
    parser.add_argument("--json", type=Path, help="write the rows to this file as well")
    arguments = parser.parse_args()
    shapes = [(int(c), int(d)) for c, d in (s.split("x") for s in arguments.shape)] if arguments.shape else SHAPES
    if len(servers.CORES) < 2:
        print("one core only: server and load generator share it, the ratios suffer", file=sys.stderr)
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as name, contextlib.suppress(KeyboardInterrupt):
        folder = Path(name)
        load = build_load(folder)
        print(header())
        print_ceiling(load, folder, arguments.seconds)
        for cycle in arguments.cycle or plans.CYCLES:
            rows += run_cycle(cycle, load, folder, shapes, arguments.seconds)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 1 if any(row["errors"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
