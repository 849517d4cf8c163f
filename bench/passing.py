"""What a statement costs that passes to a CubeStore behind: the processor time of cubequeue alone."""

from __future__ import annotations

from collections.abc import Iterator

from bench import plans, servers
from bench.measure import figures_of, measure
from bench.record import Bench, Line, Target, line

PART = "pass-through"
_SELECT = "SELECT of 300 B that passes"
_QUEUE = "life cycle 2 KB beside an idle CubeStore"


def passing(bench: Bench) -> Iterator[Line]:
    """An echo is the CubeStore: its reply is the message, so a reply has the size of its statement."""
    for name, steps in ((_SELECT, plans.select()), (_QUEUE, plans.life_cycle())):
        plan = bench.folder / "passing"
        plan.write_text(plans.ws_plan(steps, echo=name == _SELECT))
        for connections, depth in bench.shapes_of(((16, 1), (1, 16), (16, 16)), ((16, 1), (1, 16))):
            with servers.echo() as echo, servers.cubequeue(CUBEQUEUE_UPSTREAM=f"ws://127.0.0.1:{echo.port}") as server:
                measured = measure(bench.load, plan, server, (connections, depth), bench.seconds)
            targets = (Target("server_us", "≤", 15),) if name == _SELECT and depth == 16 else ()
            title = f"{name}, {connections} × {depth}"
            yield line(PART, title, figures_of(measured), *targets, errors=measured.errors)
