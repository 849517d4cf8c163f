"""A load as a small Cube deployment makes it, and more: many connections, life cycles, large results, a full cache."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from cubequeue_server.commands.client import Connection, connected
from protocol.client_codec import ErrorReply, Reply, Rows

MIB: Final = 1 << 20
_PAYLOAD: Final = "SELECT " + "x" * 2041  # 2 KB
_RESULT: Final = "r" * (5 * 1000 * 1000)
_LANES: Final = 16
_AT_ONCE: Final = 1_500
_PER_SECOND: Final = 140


@dataclass(frozen=True)
class Amounts:
    """How much of each: connections held open, life cycles, results of 5 MB, MiB of cache values."""

    connections: int
    life_cycles: int
    large_results: int
    cache_mib: int


@asynccontextmanager
async def many_connections(url: str, count: int) -> AsyncIterator[list[Connection]]:
    """Open connections, some at a time."""
    async with AsyncExitStack() as stack:
        opened: list[Connection] = []
        while len(opened) < count:
            some = min(25, count - len(opened))
            opened += await asyncio.gather(*(stack.enter_async_context(connected(url)) for _ in range(some)))
        yield opened


async def life_cycles(connections: list[Connection], count: int) -> None:
    """Items of 2 KB, each added, claimed, ended and read, several at a time, on all connections in turn.

    No faster than the profile's bound of results allows, which are kept for a minute.
    """
    start_s = time.monotonic()

    async def lane(number: int) -> None:
        for cycle in range(number, count, _LANES):
            await asyncio.sleep(max(0.0, start_s + (cycle - _AT_ONCE) / _PER_SECOND - time.monotonic()))
            connection = connections[cycle % len(connections)]
            key = f"'small{number}:{cycle}'"
            _one(await connection.ask(f"QUEUE ADD PRIORITY 1 {key} '{_PAYLOAD}'"))
            _one(await connection.ask(f"QUEUE RETRIEVE CONCURRENCY 1 {key}"))
            _one(await connection.ask(f"QUEUE ACK {key} '{_PAYLOAD}'"))
            assert _one(await connection.ask(f"QUEUE RESULT {key}"))[0] == _PAYLOAD.encode()

    await asyncio.gather(*map(lane, range(_LANES)))


async def large_results(connections: list[Connection], count: int) -> None:
    """Results of 5 MB, three at a time, each awaited by another connection, as Cube does."""

    async def lane(number: int) -> None:
        worker, waiter = connections[number], connections[-1 - number]
        for each in range(number, count, 3):
            key = f"'large{number}:{each}'"
            _one(await worker.ask(f"QUEUE ADD PRIORITY 1 {key} '{_PAYLOAD}'"))
            _one(await worker.ask(f"QUEUE RETRIEVE CONCURRENCY 1 {key}"))
            waiting = waiter.begin(f"QUEUE RESULT_BLOCKING 60000 {key}")
            _one(await worker.ask(f"QUEUE ACK {key} '{_RESULT}'"))
            assert len(_one(await waiting)[0] or b"") == len(_RESULT)

    await asyncio.gather(*map(lane, range(3)))


async def fill_cache(connections: list[Connection], mib: int) -> None:
    """Values of 2 KB to 1 MB, as many bytes of each size."""

    async def fill(connection: Connection, size: int) -> None:
        value = "c" * size
        for number in range(mib * MIB // 4 // size):
            _one(await connection.ask(f"CACHE SET TTL 3600 'cache{size}:{number}' '{value}'"))

    await asyncio.gather(*map(fill, connections, (2_000, 20_000, 200_000, 1_000_000)))


async def run_load(url: str, amounts: Amounts) -> dict[str, bytes]:
    """All of it; in the end each connection answers still. Gives SYS CACHESTORE INFO as it is then."""
    async with many_connections(url, amounts.connections) as connections:
        await fill_cache(connections, amounts.cache_mib)
        await life_cycles(connections, amounts.life_cycles)
        await large_results(connections, amounts.large_results)
        # What an operator asks for while all that is held.
        await connections[0].rows("SELECT prefix, count(*) FROM system.cache GROUP BY prefix")
        await connections[0].rows("SELECT id, path, expire, deleted FROM system.queue_results")
        for start in range(0, len(connections), 100):
            some = connections[start : start + 100]
            replies = await asyncio.gather(*(each.ask("SELECT 1") for each in some))
            assert all(isinstance(reply, Rows) for reply in replies)
        info = await connections[0].rows("SYS CACHESTORE INFO")
    return {(row[0] or b"").decode(): row[1] or b"" for row in info.rows}


def _one(reply: Reply) -> tuple[bytes | None, ...]:
    """The only row of a reply."""
    assert not isinstance(reply, ErrorReply), reply.text
    assert isinstance(reply, Rows)
    assert len(reply.rows) <= 1
    return reply.rows[0] if reply.rows else ()
