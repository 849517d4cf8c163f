"""From the start of the process to its first answer, and what it holds when idle."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

from bench import servers
from bench.client import Client
from bench.record import Bench, Line, Target, line

_IDLE_S = 2.0
_IDLE_MIB = {"memory": 45, "relaxed": 70}


def start(bench: Bench) -> Iterator[Line]:
    """The median of a few starts; the memory after a moment in which late imports have settled."""
    for mode, bound_mib in _IDLE_MIB.items():
        with servers.durable_cubequeue(mode) as server:
            server.settle()  # the first start of all writes byte code
        times_ms: list[float] = []
        for _ in range(bench.scaled(9, 5)):
            begin = time.perf_counter()
            with servers.durable_cubequeue(mode) as server, Client(server.port, "first") as client:
                client.ask(b"QUEUE ADD 'bench:start' '{}'")
                times_ms.append((time.perf_counter() - begin) * 1000)
        with servers.durable_cubequeue(mode) as server:
            time.sleep(_IDLE_S)
            server.settle()
            resident = server.resident_mib()
        figures = {"median_ms": statistics.median(times_ms), "best_ms": min(times_ms), "idle_mib": resident}
        targets = Target("median_ms", "≤", 250), Target("idle_mib", "≤", bound_mib)
        yield line("start", f"start to first answer, idle, {mode}", figures, *targets)
