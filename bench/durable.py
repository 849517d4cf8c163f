"""What it costs that nothing is lost: the life cycle in memory, `relaxed` and `strict`, beside Redis's own modes."""

from __future__ import annotations

from collections.abc import Iterator

from bench import plans, servers
from bench.measure import Measured, figures_of, measure
from bench.record import Bench, Line, Target, line

CYCLE = "life cycle 2 KB"
MODES = (("relaxed", "everysec"), ("strict", "always"))


def durable(bench: Bench) -> Iterator[Line]:
    """Each server of a shape one after the other; ratios are to the memory mode and to Redis in this run."""
    steps = plans.CYCLES[CYCLE]()
    mine, theirs = bench.folder / "durable", bench.folder / "durable-redis"
    mine.write_text(plans.ws_plan(steps))
    theirs.write_text(plans.resp_plan(steps))
    for shape in bench.shapes_of(((1, 1), (16, 1), (16, 16), (128, 1)), ((16, 1), (16, 16))):
        got: dict[str, Measured] = {}
        with servers.cubequeue() as running:
            got["memory"] = measure(bench.load, mine, running, shape, bench.seconds)
        for mode, appendfsync in MODES:
            with servers.durable_cubequeue(mode) as running:
                got[mode] = measure(bench.load, mine, running, shape, bench.seconds)
            with servers.redis(appendfsync) as running:
                got[appendfsync] = measure(bench.load, theirs, running, shape, bench.seconds)
        for mode, appendfsync in MODES:
            figures = {
                **figures_of(got[mode]),
                "of_memory": got[mode].per_s / got["memory"].per_s,
                "of_redis": got[mode].per_s / got[appendfsync].per_s,
                "p99_of_memory": got[mode].p99_us / got["memory"].p99_us,
            }
            targets = [Target("of_memory", "≥", 0.6)] if mode == "relaxed" and shape in {(16, 1), (16, 16)} else []
            name = f"{CYCLE}, {mode}, {shape[0]} × {shape[1]}"
            yield line("durability", name, figures, *targets, errors=got[mode].errors + got[appendfsync].errors)
