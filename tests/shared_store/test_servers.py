"""Several servers over one store: each statement may go to any of them."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random

import pytest

from protocol.client_codec import Rows
from tests.needed import require
from tests.server.client import DRIVER, Client, connected
from tests.server.harness import until
from tests.shared_store import nodes
from tests.shared_store.driven import empty
from tests.shared_store.nodes import shared
from tests.shared_store.servers import Running, running_servers

MS = 1_000


@pytest.fixture(params=nodes.PRODUCTS, ids=str)
def url(request: pytest.FixtureRequest) -> str:
    require(request.param.program, f"{request.param}-server")
    engine = shared(request.param)
    empty(engine.masters)
    return engine.url


@asynccontextmanager
async def clients(url: str, count: int = 2) -> AsyncIterator[tuple[list[Running], list[Client]]]:
    """So many servers, and a client at each."""
    async with running_servers(url, count) as servers, AsyncExitStack() as stack:
        yield (
            servers,
            [
                await stack.enter_async_context(connected(each.address, f"client {number}"))
                for number, each in enumerate(servers)
            ],
        )


async def test_what_one_server_adds_another_gives_out(url: str) -> None:
    async with clients(url, 3) as (_, (one, two, three)):
        [(id_, _, pending)] = await one.rows("QUEUE ADD PRIORITY 5 'q:a' 'payload'")
        assert pending == b"1"
        assert await two.rows("QUEUE RETRIEVE EXTENDED CONCURRENCY 1 'q:a'") == [
            (b"payload", None, b"0", b"a", id_),
        ]
        assert await three.rows("QUEUE ACTIVE 'q'") == [(b"a", id_, b"active", None)]
        assert await three.rows(f"QUEUE ACK {int(id_ or 0)} 'done'") == [(b"true",)]
        assert await one.rows(f"QUEUE RESULT {int(id_ or 0)}") == [(b"done", b"success", id_, None)]


@pytest.mark.parametrize("by", ["id", "path"])
@pytest.mark.parametrize("value", ["'done'", "NULL"])
async def test_an_ack_at_one_server_answers_who_waits_at_another(url: str, by: str, value: str) -> None:
    async with clients(url) as (_, (waiter, worker)):
        [(id_, _, _)] = await waiter.rows("QUEUE ADD 'q:a' 'p'")
        key = f"{int(id_ or 0)}" if by == "id" else "'q:a'"
        waiting = await waiter.send(f"QUEUE RESULT_BLOCKING 60000 {key}")
        await worker.rows("QUEUE RETRIEVE CONCURRENCY 1 'q:a'")
        await asyncio.sleep(0.05)
        assert not waiter.replies[waiting]
        assert await worker.rows(f"QUEUE ACK 'q:a' {value}") == [(b"true",)]
        reply = await asyncio.wait_for(waiter.reply(waiting), 20)
        assert isinstance(reply, Rows)
        assert reply.rows == [(b"done" if value != "NULL" else None, b"success", id_, None)]


async def test_the_wait_over_two_servers_is_short(url: str) -> None:
    """From the answer to the ACK to that of the wait; the median, for others use this machine too."""
    gaps_s = []
    async with clients(url) as (_, (waiter, worker)):
        loop = asyncio.get_running_loop()
        for number in range(50):
            await waiter.rows(f"QUEUE ADD 'q:{number}' 'p'")
            waiting = await waiter.send(f"QUEUE RESULT_BLOCKING 60000 'q:{number}'")
            await asyncio.sleep(0.002)
            begun_s = loop.time()
            await worker.rows(f"QUEUE ACK 'q:{number}' 'r'")
            await waiter.reply(waiting)
            gaps_s.append(loop.time() - begun_s)
    print(f"median {statistics.median(gaps_s) * MS:.1f} ms, longest {max(gaps_s) * MS:.1f} ms")
    assert statistics.median(gaps_s) < 0.1


async def test_no_wake_up_is_lost_with_the_connection_that_brings_it(url: str) -> None:
    async with clients(url) as (servers, (waiter, worker)):
        loop = asyncio.get_running_loop()
        for number in range(10):
            await worker.rows(f"QUEUE ADD 'q:{number}' 'p'")
            waiting = await waiter.send(f"QUEUE RESULT_BLOCKING 60000 'q:{number}'")
            await asyncio.sleep(0.01)
            begun_s = loop.time()
            [node] = servers[0].store.links.nodes
            assert node._subscriber is not None
            node._subscriber.cut("killed by a test")
            await worker.rows(f"QUEUE ACK 'q:{number}' 'r'")
            reply = await asyncio.wait_for(waiter.reply(waiting), 20)
            assert isinstance(reply, Rows)
            assert reply.rows[0][0] == b"r"
            assert loop.time() - begun_s < 6


async def test_many_wait_at_three_servers_for_one_result(url: str) -> None:
    count = 300
    async with clients(url, 3) as (servers, each):
        await each[0].rows("QUEUE ADD 'q:a' 'p'")
        sent = [
            (client, await client.send("QUEUE RESULT_BLOCKING 60000 'q:a'")) for client in each for _ in range(count)
        ]
        await until(lambda: sum(server.store.gauges()["waiters"] for server in servers) == 3 * count)
        await until(lambda: not any(server.store.is_busy for server in servers))
        await each[1].rows("QUEUE ACK 'q:a' 'r'")
        for client, message_id in sent:
            reply = await asyncio.wait_for(client.reply(message_id), 30)
            assert isinstance(reply, Rows)
            assert reply.rows[0][0] == b"r"
        assert await each[2].rows("QUEUE RESULT 'q:a'") == []


async def test_a_wait_that_is_over_leaves_nothing_behind(url: str) -> None:
    async with clients(url) as (servers, (one, two)):
        await one.rows("QUEUE ADD 'q:a' 'p'")
        assert await one.rows("QUEUE RESULT_BLOCKING 30 'q:a'") == []
        assert await two.rows("QUEUE RESULT_BLOCKING 30 'q:a'") == []
        assert await one.rows("QUEUE ACK 'q:a' 'r'") == [(b"true",)]
        assert [row[0] for row in await two.rows("QUEUE RESULT 'q:a'")] == [b"r"]
        assert all(server.store.gauges()["waiters"] == 0 for server in servers)


REPEATED = {
    "ADD": "QUEUE ADD 'q:{n}' 'p'",
    "ADD_AND_RETRIEVE": "QUEUE ADD_AND_RETRIEVE 'q:{n}' 'p' 1000000",
    "RETRIEVE": "QUEUE RETRIEVE EXTENDED CONCURRENCY 1000000 'r:{n}'",
    "ACK": "QUEUE ACK 'a:{n}' 'v'",
    "CANCEL": "QUEUE CANCEL 'c:{n}'",
    "RESULT": "QUEUE RESULT 's:{n}'",
    "MERGE_EXTRA": "QUEUE MERGE_EXTRA 'm:{n}' '{{\"k\": {n}}}'",
    "INCR": "CACHE INCR 'n:x'",
    "SET NX": "CACHE SET NX 'l:{n}' 'v'",
    "REMOVE": "CACHE REMOVE 'k:{n}'",
}


@pytest.mark.parametrize("kind", REPEATED)
async def test_a_message_sent_again_to_another_server_is_not_executed_again(url: str, kind: str) -> None:
    """Its first answer may be on its way, or have been read."""
    count = 100
    random = Random(kind)
    async with running_servers(url, 2) as servers, AsyncExitStack() as stack:
        preparing = await stack.enter_async_context(connected(servers[0].address, "another"))
        for number in range(count):
            for prefix in "racsm":
                await preparing.rows(f"QUEUE ADD '{prefix}:{number}' 'p'")
            await preparing.rows(f"QUEUE ACK 's:{number}' 'v'")
        one, two = [await stack.enter_async_context(connected(each.address, DRIVER)) for each in servers]
        queries = [REPEATED[kind].format(n=number) for number in range(count)]
        again = []
        for number, query in enumerate(queries):
            first, second = (one, two) if random.random() < 0.5 else (two, one)
            await first.send(query, message_id=1_000 + number)
            if random.random() < 0.5:
                await first.reply(1_000 + number)
            await second.send(query, message_id=1_000 + number)
            again.append((first, second))
        answers = []
        for number, both in enumerate(again):
            one_reply, other_reply = [await client.reply(1_000 + number) for client in both]
            assert isinstance(one_reply, Rows), one_reply
            assert one_reply == other_reply, queries[number]
            answers.append(one_reply.rows)
        if kind == "INCR":
            assert sorted(int(rows[0][0] or 0) for rows in answers) == list(range(1, count + 1))
        elif kind in ("ADD", "ADD_AND_RETRIEVE", "SET NX", "ACK"):
            assert all(b"true" in rows[0] for rows in answers)
        elif kind in ("RETRIEVE", "CANCEL", "RESULT"):
            assert all(rows[0][0] for rows in answers)
