"""What waiters and large answers take in memory (design: performance.md, "Targets")."""

from __future__ import annotations

import asyncio
import tracemalloc

from bench.client import Client
from storage.asking import ANYBODY
from storage.vocabulary import CacheSet
from tests.server.harness import serving, until
from tests.server.test_long_statements import NOW_MS, LastingStore

MIB = 1 << 20


async def test_a_waiter_takes_little_memory() -> None:
    """At 600 bytes each, a hundred thousand fit in 60 MB."""
    count = 4_000

    def wait(client: Client, first: int) -> None:
        for at in range(first, first + count):
            client.send(b"QUEUE RESULT_BLOCKING 60000 'wait:%06d'" % at)
        client.send(b"CACHE GET 'nothing'")
        client.answer()

    store = LastingStore()
    in_thread = asyncio.get_running_loop().run_in_executor
    async with serving(store) as server:
        with await in_thread(None, Client, server.address[1], "waits") as client:
            await in_thread(None, wait, client, 0)  # what the first ones make is made once
            tracemalloc.start()
            try:
                await in_thread(None, wait, client, count)
                taken = tracemalloc.get_traced_memory()[0]
            finally:
                tracemalloc.stop()
            assert store.gauges()["waiters"] == 2 * count
    assert taken / count < 600


async def test_a_large_value_on_its_way_to_many_is_in_memory_once() -> None:
    value, readers = b"v" * (8 * MIB), 12
    store = LastingStore()
    store.execute(CacheSet(b"large", value), ANYBODY, None, NOW_MS)
    in_thread = asyncio.get_running_loop().run_in_executor
    async with serving(store) as server:
        clients = [await in_thread(None, Client, server.address[1], f"reader-{at}") for at in range(readers)]
        tracemalloc.start()
        try:
            for at, client in enumerate(clients):
                client.send(b"CACHE GET 'large'", arrow=at % 2 == 1)
            await until(lambda: server.counters.messages_out == readers)
            taken = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        sizes = [len(await in_thread(None, client.receive)) for client in clients]
        for client in clients:
            client.close()
    assert min(sizes) > len(value)
    assert taken < 2 * MIB, "what was there before it was asked for is not copied"
