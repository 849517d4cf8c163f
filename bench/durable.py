"""What it costs that nothing is lost: the life cycle in memory, `relaxed` and `strict`, beside Redis's own modes."""

from __future__ import annotations

from pathlib import Path

from bench import plans, servers
from bench.measure import COLUMNS, Measured, measure, print_row

SHAPES = [(16, 1), (16, 16)]
CYCLE = "life cycle 2 KB"


def run_durable(load: Path, folder: Path, seconds: float) -> list[dict[str, object]]:
    """Both shapes, each server of a shape one after the other; the ratio is to the memory mode of this run."""
    steps = plans.CYCLES[CYCLE]()
    mine, theirs = folder / "durable", folder / "durable-redis"
    mine.write_text(plans.ws_plan(steps))
    theirs.write_text(plans.resp_plan(steps))
    print(f"\n{CYCLE}, by what an answer survives\n{COLUMNS}")
    rows: list[dict[str, object]] = []
    for shape in SHAPES:
        got: dict[str, Measured] = {}
        with servers.cubequeue() as running:
            got["memory"] = measure(load, mine, running, shape, seconds)
        for mode, appendfsync in (("relaxed", "everysec"), ("strict", "always")):
            with servers.durable_cubequeue(mode) as running:
                got[mode] = measure(load, mine, running, shape, seconds)
            with servers.redis(appendfsync) as running:
                got[appendfsync] = measure(load, theirs, running, shape, seconds)
        print_row(shape, "memory", got["memory"], "")
        for mode, appendfsync in (("relaxed", "everysec"), ("strict", "always")):
            print_row(shape, appendfsync, got[appendfsync], "Redis")
            ratios = {
                "of_memory": got[mode].per_s / got["memory"].per_s,
                "of_redis": got[mode].per_s / got[appendfsync].per_s,
                "p99_of_memory": got[mode].p99_us / got["memory"].p99_us,
            }
            text = "{of_memory:.2f} × memory, {of_redis:.2f} × Redis, p99 {p99_of_memory:.1f} × memory".format(**ratios)
            print_row(shape, mode, got[mode], text)
            rows.append({"cycle": mode, "connections": shape[0], "depth": shape[1], **ratios, **vars(got[mode])})
    return rows
