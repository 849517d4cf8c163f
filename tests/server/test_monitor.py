"""The monitor: it keeps a bounded sample while somebody watches, and nothing else."""

from __future__ import annotations

from cubequeue_server.requests.monitor import MAX_A_WINDOW, MAX_KEPT, Monitor
from protocol.messages import Request
from tests.server.client import connected
from tests.server.harness import serving


async def test_it_keeps_statements_and_errors_while_it_is_on_and_forgets_them() -> None:
    async with serving() as server, connected(server.address) as client:
        await client.ask("CACHE SET 'before' 'v'")
        monitor = server.watch_statements()
        await client.ask("CACHE SET 'a' 'v'")
        await client.ask("CACHE nonsense")
        await client.ask("QUEUE ADD EXCLUSIVE 'q:a' 'x'")
        rows = monitor.after(0, 100)
        assert [(row["command"], row["text"], row["error"] is None) for row in rows] == [
            ("cache set", "CACHE SET 'a' 'v'", True),
            (None, "CACHE nonsense", False),
            ("queue add", "QUEUE ADD EXCLUSIVE 'q:a' 'x'", False),
        ]
        assert monitor.after(rows[0]["number"], 1) == rows[2:], "the newest of those behind a number"
        server.unwatch_statements()
        await client.ask("CACHE SET 'after' 'v'")
        assert (monitor.after(0, 100), monitor.seen) == ([], 0)
        assert server._dispatcher._logged_ns > 0


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now_ns = 10**18

    def __call__(self) -> int:
        return self.now_ns


async def test_its_sample_is_bounded_in_time_and_number() -> None:
    clock = Clock()
    async with serving() as server, connected(server.address) as client:
        await client.settle()
        (known,) = server._clients
        monitor = Monitor(clock)
        monitor.start()
        request = Request(1, None, b"x" * 1_000)
        for _ in range(MAX_A_WINDOW + 1):
            monitor.note(known, request, None, 1, "")
        assert (len(monitor.after(0, 10_000)), monitor.seen) == (MAX_A_WINDOW, MAX_A_WINDOW + 1)
        for _ in range(MAX_KEPT // MAX_A_WINDOW + 1):
            clock.now_ns += 100_000_000
            for _ in range(MAX_A_WINDOW):
                monitor.note(known, request, None, 1, "")
        kept = monitor.after(0, 10_000)
        assert len(kept) == MAX_KEPT
        assert kept[-1]["number"] == monitor.number
        assert len(kept[0]["text"]) < 1_000
