"""How long a small statement takes while the server does something else: HEARTBEAT on a connection of its own.

One is sent every two milliseconds. While one is late others would have been, too: they are counted in, each as late as
it would have been, so that a pause of 50 ms is 25 late ones and not one.

On a busy machine other processes take the processor away for as long as that. So each is told twice: by the clock,
and bounded by the processor time that the server has used meanwhile, which no other process adds to.
"""

from __future__ import annotations

import contextlib
import json
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from bench import servers
from bench.client import Client

INTERVAL_S = 0.002
KEY = b"bench-probe:item"


@dataclass
class Probed:
    """Milliseconds; those of `server` are bounded by the server's own processor time."""

    count: int = 0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    max_ms: float = 0.0
    server_p99_ms: float = 0.0
    server_max_ms: float = 0.0
    errors: list[str] = field(default_factory=list)


@contextlib.contextmanager
def probing(server: servers.Running) -> Iterator[Probed]:
    """Probe while the block runs, from a process of its own; the figures are filled in at its end."""
    probed = Probed()
    command = [sys.executable, "-m", "bench.prober", str(server.port), str(server.pid)]
    process = subprocess.Popen(
        servers.pinned(servers.LOAD_CORE, command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        process.stdout.readline()  # it has begun
        yield probed
        out, _ = process.communicate("stop\n", timeout=60)
        for name, value in json.loads(out).items():
            setattr(probed, name, value)
    finally:
        process.kill()
        process.wait()


def cpu_clock_of(pid: int) -> int:
    """The clock of all processor time that a process has used, as `clock_getcpuclockid` makes it."""
    return ~pid << 3 | 2


def probe(port: int, pid: int) -> dict[str, float]:
    """Send heartbeats until something comes on the standard input."""
    clock = cpu_clock_of(pid)
    late: list[float] = []
    of_server: list[float] = []
    with Client(port, "prober") as client:
        client.ask(b"QUEUE ADD PRIORITY 0 '" + KEY + b"' '{}'")
        print("begun", flush=True)
        while not select.select([sys.stdin], [], [], INTERVAL_S)[0]:
            sent_s, used_s = time.perf_counter(), time.clock_gettime(clock)
            client.send(b"QUEUE HEARTBEAT '" + KEY + b"'")
            client.receive()
            used_s, late_s = time.clock_gettime(clock) - used_s, time.perf_counter() - sent_s
            late += with_missed(late_s)
            of_server += with_missed(min(late_s, used_s))
    return {
        "count": len(late),
        "p50_ms": percentile(late, 0.5) * 1e3,
        "p99_ms": percentile(late, 0.99) * 1e3,
        "max_ms": max(late) * 1e3,
        "server_p99_ms": percentile(of_server, 0.99) * 1e3,
        "server_max_ms": max(of_server) * 1e3,
    }


def with_missed(late_s: float) -> list[float]:
    """One that was late, and those that would have been due meanwhile."""
    return [late_s - missed * INTERVAL_S for missed in range(int(late_s / INTERVAL_S) + 1)]


def percentile(values: list[float], share: float) -> float:
    """The value that this share of all does not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


if __name__ == "__main__":
    print(json.dumps(probe(int(sys.argv[1]), int(sys.argv[2]))))
