"""From the start of the process to its first answer, and what it holds when idle."""

from __future__ import annotations

import statistics
import time

from websockets.sync.client import connect

from bench import servers
from bench.depth import expect_answer
from protocol.client_codec import encode_query

RUNS = 5
_IDLE_S = 2.0


def print_start() -> None:
    """The median of a few starts; the memory after a moment in which late imports have settled."""
    times_ms: list[float] = []
    for _ in range(RUNS):
        begin = time.perf_counter()
        with servers.cubequeue() as server:
            with connect(f"ws://127.0.0.1:{server.port}/ws", compression=None) as connection:
                connection.send(encode_query(1, "QUEUE ADD 'bench:start' '{}'"))
                expect_answer(connection)
            times_ms.append((time.perf_counter() - begin) * 1000)
    with servers.cubequeue() as server:
        time.sleep(_IDLE_S)
        resident = server.resident_mib()
    start_ms = statistics.median(times_ms)
    print(f"start to first answer: median {start_ms:.0f} ms of {RUNS} starts; idle: {resident:.0f} MiB resident")
