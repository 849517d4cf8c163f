"""Requests a second: each cycle at each shape, beside the bare echo of the same library and Redis doing the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager

from bench import plans, servers
from bench.measure import Measured, figures_of, measure
from bench.record import Bench, Line, Target, line

PART = "throughput"
FULL = ((1, 1), (16, 1), (50, 1), (128, 1), (1000, 1), (1, 16), (16, 16), (128, 16))
QUICK = ((16, 1), (16, 16))
_LIFE_CYCLE, _SMALL, _SMALLEST = "life cycle 2 KB", "HEARTBEAT of an active item", "HEARTBEAT of an absent item"
QUICK_MORE = {_SMALL: ((50, 1),), _SMALLEST: ((50, 1),), _LIFE_CYCLE: ((1, 1), (1000, 1))}
LARGE = ((1, 1), (16, 1))
CACHE_MIB = 1024  # what large values may take: fresh keys would fill any memory in a moment

TARGETS: dict[tuple[str, tuple[int, int]], tuple[Target, ...]] = {
    (_LIFE_CYCLE, (16, 1)): (Target("of_redis", "≥", 0.5), Target("p50_ms", "≤", 0.45), Target("p99_ms", "≤", 1)),
    (_LIFE_CYCLE, (16, 16)): (Target("of_redis", "≥", 0.8),),
    (_SMALL, (50, 1)): (Target("of_echo", "≥", 0.6),),
    (_SMALLEST, (50, 1)): (Target("of_echo", "≥", 0.6),),
}


def run_cycle(bench: Bench, name: str) -> Iterator[Line]:
    """All shapes of one cycle: the three servers one after the other, so that drift hits them alike."""
    steps = plans.CYCLES[name]()
    texts = {
        "cubequeue": plans.ws_plan(steps),
        "echo": plans.ws_plan(steps, echo=True),
        "redis": plans.resp_plan(steps),
    }
    for server, text in texts.items():
        (bench.folder / server).write_text(text)
    is_large = max(len(plans.ws_message(step)) for step in steps) > 50_000
    for shape in bench.shapes_of(*((LARGE, LARGE) if is_large else (FULL, (*QUICK, *QUICK_MORE.get(name, ()))))):
        got: dict[str, Measured] = {}
        for server in texts:
            with _started(server, CACHE_MIB if is_large else 0) as running:
                got[server] = measure(bench.load, bench.folder / server, running, shape, bench.seconds)
        mine = got["cubequeue"]
        figures = figures_of(mine)
        for other in ("echo", "redis"):
            figures |= {f"of_{other}": mine.per_s / got[other].per_s, f"{other}_per_s": got[other].per_s}
            figures[f"{other}_us"] = got[other].server_us
        errors = sum(each.errors for each in got.values())
        yield line(PART, f"{name}, {shape[0]} × {shape[1]}", figures, *TARGETS.get((name, shape), ()), errors=errors)


def _started(server: str, max_mib: int) -> AbstractContextManager[servers.Running]:
    if server == "echo":
        return servers.echo()
    if server == "redis":
        return servers.redis(max_mib=max_mib)
    return servers.cubequeue(**({"CUBESTORE_CACHE_MAX_SIZE": str(max_mib << 20)} if max_mib else {}))


def ceiling(bench: Bench) -> Iterator[Line]:
    """What the load generator reaches against an echo in C: no server can look faster."""
    plan = bench.folder / "sink"
    plan.write_text(plans.ws_plan(plans.life_cycle(), echo=True))
    for shape in bench.shapes_of(((1, 1), (16, 1), (16, 16), (1000, 1)), ((16, 1), (16, 16))):
        with servers.sink(bench.load) as running:
            m = measure(bench.load, plan, running, shape, bench.seconds)
        yield line("ceiling", f"load generator, life cycle, {shape[0]} × {shape[1]}", figures_of(m), errors=m.errors)
