"""What it costs that nothing is lost: in memory, `relaxed` and `strict`, beside Redis's own modes."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import dataclass

from bench import plans, servers
from bench.measure import Measured, figures_of, measure
from bench.record import Bench, Line, Target, line
from bench.recovery import make_journal, recover
from bench.turns import journal_turns

LIFE_CYCLE = "life cycle 2 KB"
MODES = (("relaxed", "everysec"), ("strict", "always"))
QUICK = ((16, 1), (16, 16))
TARGETS = {
    (LIFE_CYCLE, "relaxed", (16, 1)): Target("of_memory", "≥", 0.75),
    (LIFE_CYCLE, "relaxed", (16, 16)): Target("of_memory", "≥", 0.6),
}


@dataclass(frozen=True)
class _Measured:
    """A cycle, in which modes it is measured, and at which shapes in a full record."""

    cycle: str
    modes: tuple[tuple[str, str], ...]
    full: tuple[tuple[int, int], ...]


MEASURED = (
    _Measured(LIFE_CYCLE, MODES, ((1, 1), (16, 1), (16, 16), (128, 1))),
    _Measured("HEARTBEAT of an active item", MODES[:1], ((1, 1), (16, 1), (16, 16), (50, 1))),
    _Measured("CACHE GET of 1 KB", MODES[:1], ((1, 1), (16, 1), (16, 16), (50, 1))),
)


def durable(bench: Bench) -> Iterator[Line]:
    """Each cycle, then the turns of the loop and the recovery of a journal."""
    for each in MEASURED:
        for shape in bench.shapes_of(each.full, QUICK):
            yield from _in_modes(bench, each, shape)
    yield from _turns(bench)
    yield _recovery(bench)


def _in_modes(bench: Bench, each: _Measured, shape: tuple[int, int]) -> Iterator[Line]:
    """Each server of a shape one after the other; ratios are to the memory mode and to Redis in this run."""
    steps = plans.CYCLES[each.cycle]()
    mine, theirs = bench.folder / "durable", bench.folder / "durable-redis"
    mine.write_text(plans.ws_plan(steps))
    theirs.write_text(plans.resp_plan(steps))
    got: dict[str, Measured] = {}
    with servers.cubequeue() as running:
        got["memory"] = measure(bench.load, mine, running, shape, bench.seconds)
    for mode, appendfsync in each.modes:
        with servers.durable_cubequeue(mode) as running:
            got[mode] = measure(bench.load, mine, running, shape, bench.seconds)
        with servers.redis(appendfsync) as running:
            got[appendfsync] = measure(bench.load, theirs, running, shape, bench.seconds)
    for mode, appendfsync in each.modes:
        figures = {
            **figures_of(got[mode]),
            "of_memory": got[mode].per_s / got["memory"].per_s,
            "of_redis": got[mode].per_s / got[appendfsync].per_s,
            "p99_of_memory": got[mode].p99_us / got["memory"].p99_us,
        }
        target = TARGETS.get((each.cycle, mode, shape))
        errors = sum(got[server].errors for server in ("memory", mode, appendfsync))
        name = f"{each.cycle}, {mode}, {shape[0]} × {shape[1]}"
        yield line("durability", name, figures, *([target] if target else []), errors=errors)


def _turns(bench: Bench) -> Iterator[Line]:
    """The longest turns of the loop for the journal, with values of 5 MB from four connections at once."""
    for mode, _ in MODES:
        turns = journal_turns(bench.folder / f"turns-{mode}", mode, bench.scaled(10, 2))
        figures = {
            "longest_ms": turns.longest[0] * 1000,
            "second_ms": turns.longest[1] * 1000,
            "turns": float(turns.count),
            "waited": float(turns.waited),
            "interrupted": float(turns.disturbed),
        }
        yield line("durability", f"the loop held up by values of 5 MB, {mode}", figures, Target("longest_ms", "≤", 5))


def _recovery(bench: Bench) -> Line:
    """A start on a journal of many items with payloads of 2 KB."""
    make_journal(bench.folder / "recovery", 100_000)
    gc.disable()  # as a start does
    best = min((recover(bench.folder / "recovery") for _ in range(3)), key=lambda recovery: recovery.cpu_s)
    gc.enable()
    figures = {"wall_s": best.wall_s, "cpu_s": best.cpu_s}
    return line("durability", f"recovery of {best.items} items of 2 KB", figures, Target("cpu_s", "≤", 2))
