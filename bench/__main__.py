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
from pathlib import Path

from bench import plans, servers
from bench.depth import print_depth
from bench.durable import run_durable
from bench.measure import COLUMNS, Measured, build_load, measure, print_row
from bench.start import print_start

SHAPES = [(1, 1), (16, 1), (128, 1), (1, 16), (16, 16), (128, 16)]


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
    parser.add_argument("--durable", action="store_true", help="only the durable modes")
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
        if arguments.durable:
            rows += run_durable(load, folder, arguments.seconds)
            return 0
        print_start()
        print_ceiling(load, folder, arguments.seconds)
        for cycle in arguments.cycle or plans.CYCLES:
            rows += run_cycle(cycle, load, folder, shapes, arguments.seconds)
        if not arguments.cycle:
            rows += run_durable(load, folder, arguments.seconds)
            print_depth(load, folder, arguments.seconds)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 1 if any(row["errors"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
