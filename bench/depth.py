"""What a statement costs in a deep queue, as a ratio to a shallow one."""

from __future__ import annotations

from pathlib import Path

from websockets.sync.client import ClientConnection, connect

from bench import plans, servers
from bench.measure import Measured, measure
from protocol.client_codec import ErrorReply, QueryEncoder, decode_reply

DEPTHS = (1_000, 100_000)
SHAPE = (16, 1)
_WINDOW = 64


def fill(port: int, items: int) -> None:
    """Put pending items of 2 KB into the queue of the life cycle, at a lower priority than its own."""
    encoder = QueryEncoder("bench-fill")
    work = plans.sqlstring(plans.payload(2048))
    with connect(f"ws://127.0.0.1:{port}/ws", compression=None, max_size=None) as connection:
        for number in range(items):
            path = plans.sqlstring(plans.PREFIX + b":fill-%d" % number)
            connection.send(encoder.encode(number + 1, b"QUEUE ADD PRIORITY 0 " + path + b" " + work))
            if number >= _WINDOW:
                expect_answer(connection)
        for _ in range(min(items, _WINDOW)):
            expect_answer(connection)


def expect_answer(connection: ClientConnection) -> None:
    """Read one reply, which has to be a result."""
    reply = decode_reply(bytes(connection.recv(timeout=30)))  # type: ignore[arg-type]
    if isinstance(reply, ErrorReply):
        raise RuntimeError(reply.text)


def print_depth(load: Path, folder: Path, seconds: float) -> None:
    """The life cycle beside 1 000 and beside 100 000 pending items, and what an item takes in memory."""
    plan = folder / "depth"
    plan.write_text(plans.ws_plan(plans.life_cycle()))
    got: dict[int, Measured] = {}
    print(f"\nlife cycle beside pending items of 2 KB in the same queue, {SHAPE[0]} × {SHAPE[1]}")
    for items in DEPTHS:
        with servers.cubequeue() as server:
            before = server.resident_mib()
            fill(server.port, items)
            per_item = (server.resident_mib() - before) * (1 << 20) / items
            got[items] = m = measure(load, plan, server, SHAPE, seconds)
        steps = ", ".join(f"{name} {m.steps[name]['p50_us']:.0f} µs" for name in ("add", "retrieve", "ack"))
        line = f"{items:>8,} items: {m.server_us:.1f} µs of server time a request, p50 {steps}"
        print(f"{line}; {per_item:,.0f} bytes an item, its kept answer included", flush=True)
    shallow, deep = (got[items] for items in DEPTHS)
    ratios = [f"server time {deep.server_us / shallow.server_us:.2f}"]
    ratios += [
        f"{name} {deep.steps[name]['p50_us'] / shallow.steps[name]['p50_us']:.2f}"
        for name in ("add", "retrieve", "ack")
    ]
    print(f"   ratio: {', '.join(ratios)}")
