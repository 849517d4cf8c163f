"""The end: answered what runs, nobody kept waiting, all closed with 1012, in time."""

from __future__ import annotations

import asyncio

import pytest

from protocol.client_codec import Rows, encode_query
from tests.server.client import BINARY, connected, frame, raw
from tests.server.harness import WatchedStore, serving


async def test_waiters_get_no_rows_and_the_close() -> None:
    async with serving() as server, connected(server.address) as client:
        waiters = [await client.send("QUEUE RESULT_BLOCKING 60000 5") for _ in range(100)]
        await client.settle()
        started = asyncio.get_running_loop().time()
        await server.stop()
        assert asyncio.get_running_loop().time() - started < 1
        for waiter in waiters:
            assert await client.reply(waiter) == Rows(waiter, ("payload", "type", "id", "external_id"), [])
        assert await client.closed() == (1012, "cubequeue is stopping")


async def test_nobody_is_admitted_any_more() -> None:
    async with serving() as server:
        address = server.address
        await server.stop()
        with pytest.raises(ConnectionError):
            await asyncio.open_connection(*address)


async def test_a_handshake_that_is_not_done_is_ended() -> None:
    async with serving(stop_timeout_s=1) as server, raw(server.address) as client:
        await client.send(b"GET /ws")
        await asyncio.sleep(0.02)
        started = asyncio.get_running_loop().time()
        await server.stop()
        assert asyncio.get_running_loop().time() - started < 0.5
        assert await client.read_to_end() == b""


async def test_a_peer_that_does_not_close_is_dropped_in_time() -> None:
    async with serving(stop_timeout_s=0.4) as server, raw(server.address) as client:
        await client.upgrade()
        started = asyncio.get_running_loop().time()
        stopping = asyncio.create_task(server.stop())
        assert (await client.read_close())[0] == 1012
        await stopping
        assert asyncio.get_running_loop().time() - started < 0.45
        assert server.counters.connections == 0


async def test_a_peer_that_does_not_read_is_dropped_in_time() -> None:
    async with serving(stop_timeout_s=0.4) as server, raw(server.address) as client:
        await client.upgrade()
        await client.send(frame(BINARY, encode_query(0, "CACHE SET 'a' ?", [b"x" * 1_000_000])))
        client.writer.write(frame(BINARY, encode_query(1, "CACHE GET 'a'")) * 50)
        await asyncio.sleep(0.1)
        started = asyncio.get_running_loop().time()
        await server.stop()
        assert asyncio.get_running_loop().time() - started < 0.5


async def test_who_begins_to_wait_during_the_stop_does_not() -> None:
    store = WatchedStore()
    async with serving(store) as server, connected(server.address) as client:
        server._dispatcher.stop_waiting()
        assert await client.rows("QUEUE RESULT_BLOCKING 60000 5") == []


async def test_a_second_stop_does_nothing() -> None:
    async with serving() as server:
        await server.stop()
        await server.stop()
