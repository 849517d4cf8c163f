"""What the life cycle costs beside deep queues, many prefixes, many who wait: as ratios to a shallow queue."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bench import plans, servers
from bench.growth import Waiting
from bench.measure import Measured, figures_of, measure, run_steps
from bench.record import Bench, Line, Target, line

SHAPE = (16, 1)
_SMALL_ENOUGH = 100_000  # pending items of more than these are given small payloads


def depth(bench: Bench) -> Iterator[Line]:
    """The baseline is the life cycle beside 1 000 pending items in the same queue."""
    plan = bench.folder / "depth"
    plan.write_text(plans.ws_plan(plans.life_cycle()))
    depths = (1_000, 10_000, 100_000, 1_000_000) if not bench.is_quick else (1_000, 100_000)
    base: Measured | None = None
    for items in depths:
        with _with_pending(bench, plans.add_only(2048 if items <= _SMALL_ENOUGH else 100), items) as server:
            m = measure(bench.load, plan, server, SHAPE, bench.seconds)
        base = base or m
        yield _line(f"life cycle beside {items:,} pending", m, base)
    prefixes = bench.scaled(10_000, 2_000)
    with _with_pending(bench, plans.prefix_only(), prefixes) as server:
        m = measure(bench.load, plan, server, SHAPE, bench.seconds)
    assert base is not None
    yield _line(f"life cycle beside {prefixes:,} prefixes", m, base)
    waiters = bench.scaled(10_000, 5_000)
    with servers.cubequeue() as server, Waiting(server.port, waiters):
        m = measure(bench.load, plan, server, SHAPE, bench.seconds)
    yield _line(f"life cycle beside {waiters:,} waiters", m, base)


@contextmanager
def _with_pending(bench: Bench, steps: list[plans.Step], items: int) -> Iterator[servers.Running]:
    """A server with so many items."""
    plan = bench.folder / "fill"
    plan.write_text(plans.ws_plan(steps))
    with servers.cubequeue(CUBEQUEUE_QUEUE_MAX_ITEMS="2000000") as server:
        run_steps(bench.load, plan, server, items)
        yield server


def _line(name: str, m: Measured, base: Measured) -> Line:
    steps = {f"{step}_p50_us": m.steps[step]["p50_us"] for step in ("add", "retrieve", "ack")}
    figures = {**figures_of(m), "cost_of_shallow": m.server_us / base.server_us, **steps}
    return line("depth", name, figures, Target("cost_of_shallow", "≤", 1.2), errors=m.errors)
