"""The shell over an engine that answers later, in any order, some with ready messages, and over links that are lost.

It is what a shared store or a pass-through is to the shell (`tests/conformance/example_engine.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

from cubequeue_server.engines.sql.engine import SqlEngine
from cubequeue_server.requests.ask import Ask
from cubequeue_server.server import Server
from protocol.client_codec import ErrorReply, Rows
from storage.limits import AnswerLimits, CacheLimits, QueueLimits
from storage.vocabulary import RequestKey
from tests.conformance.example_engine import UNKNOWN, ExampleEngine, Remote
from tests.server.client import DRIVER, Client, connected
from tests.server.harness import serving, until

COUNT = 60


class Engine(ExampleEngine):
    """Notes what it is told about the arrival of answers, and loses its link when the test says so."""

    def __init__(self, remote: Remote) -> None:
        self.share_of_losses = 0.0
        self.confirmed: list[RequestKey] = []
        self.undelivered: list[RequestKey] = []
        random = Random(3)
        call_soon = asyncio.get_running_loop().call_soon
        super().__init__(remote, call_soon, Ask, random, lambda _: random.random() < self.share_of_losses)

    def confirm_delivered(self, request_keys: list[RequestKey]) -> None:
        self.confirmed += request_keys
        super().confirm_delivered(request_keys)

    def mark_undelivered(self, request_key: RequestKey) -> None:
        self.undelivered.append(request_key)
        super().mark_undelivered(request_key)


def new_remote(queue: QueueLimits | None = None) -> Remote:
    return Remote(queue or QueueLimits(), CacheLimits(), AnswerLimits(), 1_000, Random(5))


@asynccontextmanager
async def serving_remote(remote: Remote | None = None, **options: Any) -> AsyncIterator[tuple[Server, Engine]]:
    engine = Engine(remote or new_remote())
    async with serving(engine, SqlEngine(Ask, engine), **options) as server:
        yield server, engine


async def value(client: Client, query: str) -> int:
    [(text,)] = await client.rows(query)
    return int(text or 0)


async def test_each_message_gets_the_answer_that_is_its_own() -> None:
    """In the order of the statements, whatever the order of the answers; a third of them are ready messages."""
    async with serving_remote() as (server, _), connected(server.address) as client:
        sent = [await client.send("CACHE INCR 'n'") for _ in range(COUNT)]
        replies = [await client.reply(message_id) for message_id in sent]
        assert [reply.rows for reply in replies if isinstance(reply, Rows)] == [
            [(b"%d" % number,)] for number in range(1, COUNT + 1)
        ]
        assert all(len(client.replies[message_id]) == 1 for message_id in sent)
        assert server.in_flight == 0


async def test_a_client_sees_latency_and_no_error_when_links_are_lost() -> None:
    async with serving_remote() as (server, engine), connected(server.address) as client:
        engine.share_of_losses = 0.05
        sent = [await client.send("CACHE INCR 'n'") for _ in range(COUNT)]
        replies = [await client.reply(message_id) for message_id in sent]
        engine.share_of_losses = 0
        assert engine.links > 1
        values = [int(reply.rows[0][0] or 0) for reply in replies if isinstance(reply, Rows)]
        assert sorted(values) == list(range(1, COUNT + 1)), "each was executed once"
        assert await value(client, "CACHE GET 'n'") == COUNT


async def test_a_client_that_names_no_connection_is_told_what_nobody_knows() -> None:
    async with serving_remote() as (server, engine), connected(server.address, driver=None) as client:
        await client.ask("CACHE INCR 'n'")
        engine.share_of_losses = 1
        message_id = await client.send("CACHE INCR 'n'")
        await until(lambda: engine.links > 1)
        engine.share_of_losses = 0
        reply = await client.reply(message_id)
        assert isinstance(reply, ErrorReply)
        assert reply.text == UNKNOWN
        assert await value(client, "CACHE GET 'n'") in (1, 2)


async def test_a_wait_ends_with_the_result_or_with_its_time() -> None:
    async with (
        serving_remote() as (server, engine),
        connected(server.address, "caller") as caller,
        connected(server.address, "worker") as worker,
    ):
        [(id_, _, _)] = await caller.rows("QUEUE ADD 'q:a' 'p'")
        assert await caller.rows(f"QUEUE RESULT_BLOCKING 50 {int(id_ or 0)}") == []
        waiting = await caller.send("QUEUE RESULT_BLOCKING 60000 'q:a'")
        await caller.settle()
        engine.link.lose()
        await caller.settle()
        assert await worker.rows("QUEUE ACK 'q:a' 'done'") == [(b"true",)]
        reply = await caller.reply(waiting)
        assert isinstance(reply, Rows)
        assert reply.rows == [(b"done", b"success", id_, None)]
        assert server.in_flight == 0


async def test_two_servers_on_one_store() -> None:
    remote = new_remote()
    async with (
        serving_remote(remote) as (one, _),
        serving_remote(remote) as (other, _),
        connected(one.address, "caller") as caller,
        connected(other.address, "worker") as worker,
    ):
        [(id_, _, _)] = await caller.rows("QUEUE ADD 'q:a' 'p'")
        waiting = await caller.send(f"QUEUE RESULT_BLOCKING 60000 {int(id_ or 0)}")
        await caller.settle()
        assert await worker.rows("QUEUE RETRIEVE CONCURRENCY 1 'q:a'") == [(b"p", None, b"0", b"a", id_)]
        await worker.rows(f"QUEUE ACK {int(id_ or 0)} 'done'")
        reply = await caller.reply(waiting)
        assert isinstance(reply, Rows)
        assert reply.rows[0][0] == b"done"


async def test_what_was_answered_by_one_server_is_answered_again_by_another() -> None:
    remote = new_remote()
    async with serving_remote(remote) as (one, _), serving_remote(remote) as (other, _):
        async with connected(one.address) as client:
            first = await client.ask("CACHE INCR 'n'", message_id=7)
        async with connected(other.address) as client:
            assert await client.ask("CACHE INCR 'n'", message_id=7) == first
            assert await value(client, "CACHE GET 'n'") == 1


async def test_a_request_that_is_sent_again_while_it_is_on_its_way_is_joined() -> None:
    async with (
        serving_remote() as (server, engine),
        connected(server.address) as first,
        connected(server.address) as second,
    ):
        engine.link.lose()
        await first.send("CACHE INCR 'n'", message_id=1)
        await second.send("CACHE INCR 'n'", message_id=1)
        assert await first.reply(1) == await second.reply(1)
        assert await value(second, "CACHE GET 'n'") == 1


async def test_ready_messages_are_proved_to_have_arrived_like_others() -> None:
    async with serving_remote(ping_interval_s=3600, proof_interval_s=0.05) as (server, engine):
        async with connected(server.address) as client:
            for number in range(1, COUNT + 1):
                await client.ask("CACHE INCR 'n'", message_id=number)
            await until(lambda: len(engine.confirmed) == COUNT)
        assert sorted(engine.confirmed) == [(b"", DRIVER.encode(), number) for number in range(1, COUNT + 1)]


async def test_ready_messages_that_found_nobody_are_marked_like_others() -> None:
    async with serving_remote() as (server, engine):
        async with connected(server.address) as client:
            waits = [await client.send(f"QUEUE RESULT_BLOCKING 60000 'q:{number}'") for number in range(COUNT)]
            for number in range(COUNT):
                await client.rows(f"QUEUE ADD 'q:{number}' 'p'")
            client.drop()
        await until(lambda: server.counters.connections == 0)
        async with connected(server.address, "worker") as worker:
            for number in range(COUNT):
                await worker.rows(f"QUEUE ACK 'q:{number}' 'done'")
        await until(lambda: len(engine.undelivered) == COUNT)
        assert sorted(engine.undelivered) == [(b"", DRIVER.encode(), message_id) for message_id in waits]
        async with connected(server.address) as client:
            reply = await client.ask("QUEUE RESULT_BLOCKING 60000 'q:0'", message_id=waits[0])
            assert isinstance(reply, Rows)
            assert reply.rows[0][0] == b"done"


async def test_a_select_reads_tables_that_are_told_later() -> None:
    async with serving_remote() as (server, engine), connected(server.address) as client:
        for number in range(150):
            await client.send(f"QUEUE ADD 'q:{number}' 'p'")
        await client.settle()
        message_id = await client.send("SELECT count(*) FROM system.queue WHERE status = 'Pending'")
        engine.link.lose()
        reply = await client.reply(message_id)
        assert isinstance(reply, Rows)
        assert reply.rows == [(b"150",)]


async def test_an_ack_without_room_ends_its_item_when_the_far_end_refuses_it() -> None:
    remote = new_remote(QueueLimits(max_bytes=2_000))
    async with serving_remote(remote) as (server, _), connected(server.address) as client:
        await client.rows("QUEUE ADD 'q:a' 'p'")
        refused = await client.ask(f"QUEUE ACK 'q:a' '{'r' * 3_000}'")
        assert isinstance(refused, ErrorReply)
        [(value, *_)] = await client.rows("QUEUE RESULT 'q:a'")
        assert refused.text in (value or b"").decode()


async def test_a_stop_ends_waits_at_the_far_end() -> None:
    remote = new_remote()
    async with serving_remote(remote) as (server, _), connected(server.address) as client:
        waiting = await client.send("QUEUE RESULT_BLOCKING 60000 'q:a'")
        await client.settle()
        assert remote.store.gauges()["waiters"] == 1
        await server.stop()
        reply = await client.reply(waiting)
        assert isinstance(reply, Rows)
        assert reply.rows == []
        assert remote.store.gauges()["waiters"] == 0
