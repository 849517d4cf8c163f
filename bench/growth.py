"""What things take in memory, and that nothing grows for ever."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from bench import payloads, plans, servers
from bench.client import Client
from bench.measure import measure, run_steps
from bench.prober import cpu_clock_of, percentile, probing
from bench.record import Bench, Line, Target, line

PART = "growth"
PAYLOAD_BYTES = 2048
_RESULT_BYTES = 5 << 20
_BYTES = 1 << 20


def items(bench: Bench) -> Iterator[Line]:
    """Bytes of a pending item over its payload, and of an answer that is kept for it: the difference that a
    connection id makes.

    What is measured are as many again: what the first ones made the engine of the journal take for its buffers, at
    most 64 MiB, is not theirs.
    """
    count = bench.scaled(150_000, 40_000)
    plan = bench.folder / "items"
    for mode in ("memory", "relaxed"):
        took: dict[bool, float] = {}
        for is_kept in (False, True):
            steps = [replace(step, has_connection_id=is_kept) for step in plans.add_only(PAYLOAD_BYTES)]
            plan.write_text(plans.ws_plan(steps))
            with servers.durable_cubequeue(mode, CUBEQUEUE_ANSWERS_MAX_SIZE=str(1 << 30)) as server:
                run_steps(bench.load, plan, server, count)
                server.settle()
                before = server.resident_mib()
                run_steps(bench.load, plan, server, count)
                server.settle()
                took[is_kept] = (server.resident_mib() - before) * _BYTES / count - len(payloads.payload(PAYLOAD_BYTES))
        figures = {"items": count, "bytes_over_payload": took[False], "bytes_of_kept_answer": took[True] - took[False]}
        yield line(PART, f"pending items of 2 KB, {mode}", figures, Target("bytes_over_payload", "≤", 800))


class Waiting:
    """So many RESULT_BLOCKING that wait, over connections of a thousand each; `wake` ends one and tells how soon."""

    def __init__(self, port: int, count: int) -> None:
        self.count = count
        self._port = port
        self._clients: list[Client] = []

    def __enter__(self) -> Waiting:
        for first in range(0, self.count, 1_000):
            client = Client(self._port, f"waits-{first}")
            self._clients.append(client)
            for at in range(first, min(first + 1_000, self.count)):
                client.send(b"QUEUE RESULT_BLOCKING 3000000 'wait:%d'" % at)
            client.send(b"CACHE GET 'nothing'")
            client.answer()  # all before it are waiting now
        return self

    def __exit__(self, *error: object) -> None:
        for client in self._clients:
            client.close()

    def wake(self, worker: Client, at: int) -> float:
        """Seconds from the ACK that is sent to the answer that a waiter has."""
        path = b"'wait:%d'" % at
        worker.ask(b"QUEUE ADD PRIORITY 10 " + path + b" '{}'")
        started = time.perf_counter()
        worker.send(b"QUEUE ACK " + path + b" '{\"result\":1}'")
        self._clients[at // 1_000].answer()
        taken = time.perf_counter() - started
        worker.answer()
        return taken


def waiters(bench: Bench) -> Iterator[Line]:
    """Memory of blocked waiters, and how soon one wakes."""
    count = bench.scaled(100_000, 20_000)
    with servers.cubequeue() as server, Client(server.port, "worker") as worker:
        server.settle()
        before = server.resident_mib()
        clock = cpu_clock_of(server.pid)
        with Waiting(server.port, count) as waiting:
            took = server.resident_mib() - before
            late, of_server = [], []
            for at in range(0, count, max(1, count // 500)):
                used = time.clock_gettime(clock)
                late.append(waiting.wake(worker, at))
                of_server.append(time.clock_gettime(clock) - used)
    figures = {
        "waiters": count,
        "mib_of_100000": took * 100_000 / count,
        "wake_p50_ms": percentile(late, 0.5) * 1e3,
        "wake_p99_ms": percentile(late, 0.99) * 1e3,
        "wake_server_p99_ms": percentile(of_server, 0.99) * 1e3,
    }
    targets = Target("mib_of_100000", "≤", 60), Target("wake_p99_ms", "≤", 2)
    yield line(PART, f"{count:,} blocked waiters", figures, *targets)


def churn(bench: Bench) -> Iterator[Line]:
    """The life cycle for minutes: the most that the server holds in the last quarter over that in the second.

    What is kept for a time is kept for a short one here, and the first quarter is long enough to fill it. Peaks,
    because RocksDB gathers up to 64 MB in memory before it writes files.
    """
    seconds = bench.scaled(240, 24)
    settings = {
        "CUBEQUEUE_ANSWERS_MAX_SIZE": str(32 << 20),
        "CUBESTORE_QUEUE_RESULTS_EXPIRE": str(bench.scaled(5, 1)),
    }
    plan = bench.folder / "churn"
    plan.write_text(plans.ws_plan(plans.full_life_cycle()))
    for mode in ("memory", "relaxed"):
        with servers.durable_cubequeue(mode, **settings) as server:
            peaks = []
            for _ in range(4):
                server.reset_peak()
                m = measure(bench.load, plan, server, (4, 16), seconds / 4)
                peaks.append(server.peak_mib())
            _, first, _, last = peaks
        figures = {"seconds": seconds, "per_s": m.per_s, "first_mib": first, "last_mib": last, "growth": last / first}
        yield line(PART, f"churn of life cycles, {mode}", figures, Target("growth", "≤", 1.1), errors=m.errors)


def large_results(bench: Bench) -> Iterator[Line]:
    """Results of 5 MB on their way from worker to waiter: copies that they take at most, and what others wait for."""
    count = bench.scaled(16, 6)
    value = b'{"result":"' + b"v" * (_RESULT_BYTES - 13) + b'"}'
    for mode in ("memory", "relaxed"):
        for is_arrow in (False, True):
            with servers.durable_cubequeue(mode) as server:
                yield _pass_results(server, mode, value, count, is_arrow)


def _pass_results(server: servers.Running, mode: str, value: bytes, count: int, is_arrow: bool) -> Line:
    """All results are on their way at once: no waiter reads until all workers have acknowledged."""
    workers = [Client(server.port, f"worker-{at}") for at in range(count)]
    askers = [Client(server.port, f"asker-{at}") for at in range(count)]
    for at in range(count):
        workers[at].ask(b"QUEUE ADD PRIORITY 10 'large:%d' '{}'" % at)
        askers[at].send(b"QUEUE RESULT_BLOCKING 60000 'large:%d'" % at, arrow=is_arrow)
        askers[at].send(b"CACHE GET 'nothing'")
        askers[at].answer()
    server.settle()
    server.reset_peak()
    before = server.resident_mib()
    with probing(server) as probed:
        for at in range(count):
            workers[at].send(b"QUEUE ACK 'large:%d' ?" % at, parameters=(value,))
            workers[at].answer()
        peak = server.peak_mib()
        sizes = [len(asker.receive()) for asker in askers]
    for client in (*workers, *askers):
        client.close()
    assert min(sizes) > _RESULT_BYTES
    figures = {
        "results": count,
        "copies": (peak - before) * _BYTES / (count * len(value)),
        "heartbeat_p99_ms": probed.p99_ms,
        "heartbeat_max_ms": probed.max_ms,
        "heartbeat_server_max_ms": probed.server_max_ms,
    }
    targets = Target("copies", "≤", 3), Target("heartbeat_max_ms", "≤", 10)
    return line(PART, f"results of 5 MB, {mode}, {'Arrow' if is_arrow else 'legacy'}", figures, *targets)


PARTS: dict[str, Callable[[Bench], Iterator[Line]]] = {
    "items": items,
    "waiters": waiters,
    "churn": churn,
    "5 MB results": large_results,
}
