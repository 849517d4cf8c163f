"""`make bench`: the record of what cubequeue does, beside a bare echo and beside Redis in one run, as ratios.

Server and load generator have a core each. Absolute rates on shared machines mean little: the ratios count, and the
server's processor time a request. Every line also says how busy the load generator was: near 1 it is the limit.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench import growth, plans, servers
from bench.depth import depth
from bench.durable import durable
from bench.layers import layers
from bench.measure import build_load
from bench.passing import passing
from bench.record import Bench, Line, Part, machine, read, show, write
from bench.report import write_report
from bench.stalls import stalls
from bench.start import start
from bench.throughput import ceiling, run_cycle

PARTS: dict[str, Part] = {
    "start": start,
    "ceiling": ceiling,
    **{name: partial(run_cycle, name=name) for name in plans.CYCLES},
    "layers": layers,
    "durability": durable,
    "depth": depth,
    **growth.PARTS,
    "pass-through": passing,
    "stalls": stalls,
}
_SECONDS, _QUICK_SECONDS = 5.0, 1.0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="the whole record in some minutes: short runs, fewer shapes"
    )
    parser.add_argument("--seconds", type=float, help=f"measured seconds a run (default {_SECONDS:g})")
    parser.add_argument("--only", metavar="PART", choices=PARTS, action="append", help="only this part; see --list")
    parser.add_argument("--shape", action="append", help="only this many connections and depth, e.g. 16x1")
    parser.add_argument("--json", type=Path, help="write the record to this file")
    parser.add_argument("--report", nargs=2, type=Path, metavar=("RECORD", "PAGE"), help="put a record into a page")
    parser.add_argument("--list", action="store_true", help="name the parts")
    return parser.parse_args()


def _run(bench: Bench, names: list[str]) -> Iterator[Line]:
    for name in names:
        print(f"\n{name}", flush=True)
        for each in PARTS[name](bench):
            print(f"  {show(each)}", flush=True)
            yield each


def main() -> int:
    """Run what was asked for and print it."""
    arguments = _arguments()
    if arguments.list:
        print("\n".join(PARTS))
        return 0
    if arguments.report:
        record, page = arguments.report
        write_report(page, *read(record))
        return 0
    if len(servers.CORES) < 2:
        print("one core only: server and load generator share it, the ratios suffer", file=sys.stderr)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    shapes = tuple((int(c), int(d)) for c, d in (s.split("x") for s in arguments.shape)) if arguments.shape else None
    seconds = arguments.seconds or (_QUICK_SECONDS if arguments.quick else _SECONDS)
    head, lines = machine(), []
    with tempfile.TemporaryDirectory() as name, contextlib.suppress(KeyboardInterrupt):
        folder = Path(name)
        bench = Bench(build_load(folder), folder, seconds, arguments.quick, shapes)
        print(", ".join(f"{key} {value}" for key, value in head.items()))
        for each in _run(bench, arguments.only or list(PARTS)):
            lines.append(each)
            if arguments.json:
                write(arguments.json, head, lines)  # after each line: what was measured stays if a later one fails
    missed = [each.name for each in lines if each.missed]
    print(f"\n{sum(bool(each.targets) for each in lines)} lines with a target, missed: {', '.join(missed) or 'none'}")
    return 1 if any(each.errors for each in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
