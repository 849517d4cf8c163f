"""Engines that must not be used, that are full, that are away: what the start and clients are told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from cubequeue_server.engines.shared_store.errors import CannotUseError
from protocol.client_codec import ErrorReply
from storage.limits import AnswerLimits
from tests.needed import require
from tests.server.client import Client, connected
from tests.server.harness import until
from tests.shared_store import nodes
from tests.shared_store.nodes import EngineProcess, Product, running
from tests.shared_store.servers import is_linked, running_server, running_servers

MIB = 1 << 20


@pytest.fixture(params=nodes.PRODUCTS, ids=str)
def product(request: pytest.FixtureRequest) -> Product:
    require(request.param.program, f"{request.param}-server")
    assert isinstance(request.param, Product)
    return request.param


@pytest.fixture
def engine(product: Product) -> Iterator[EngineProcess]:
    with running(product) as process:
        yield process


async def refusal(url: str, **options: object) -> str:
    with pytest.raises(CannotUseError) as raised:
        async with running_server(url, **options):  # type: ignore[arg-type]
            raise AssertionError("it started")
    return str(raised.value)


# The start refuses.


async def test_an_engine_that_evicts_queue_rows(product: Product) -> None:
    with running(product, "--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru") as engine:
        assert await refusal(engine.url) == (
            "it evicts with allkeys-lru, which loses queue rows: set maxmemory-policy to noeviction or volatile-ttl"
        )


async def test_another_number_of_shards(engine: EngineProcess) -> None:
    async with running_server(engine.url, shards=16):
        pass
    assert await refusal(engine.url) == "it was set up with 16 shards, not 64"
    async with running_server(engine.url, shards=64, name="other"):
        pass


async def test_a_newer_schema(engine: EngineProcess) -> None:
    async with running_server(engine.url):
        pass
    with engine.client as client:
        client.hset("{cq:5}m", "schema", "2")
    assert await refusal(engine.url) == "it has schema 2, which a newer cubequeue wrote"


async def test_a_node_of_a_cluster(product: Product) -> None:
    with running(product, "--cluster-enabled", "yes") as engine:
        assert await refusal(engine.url) == "it is a node of a cluster: use valkey+cluster://"


async def test_one_that_is_no_cluster(engine: EngineProcess) -> None:
    assert await refusal(engine.url.replace("valkey", "valkey+cluster")) == "it is no cluster"


async def test_replicated_without_replicas(engine: EngineProcess) -> None:
    assert "CUBEQUEUE_STORE_DURABILITY=replicated forbids: set min-replicas-to-write to 1" in await refusal(
        engine.url, replicas=1
    )


# Credentials.


async def test_credentials(product: Product) -> None:
    with running(product, "--requirepass", "right", password="right") as engine:
        async with running_server(engine.url, password=lambda: "right") as running_:
            assert is_linked(running_.store) or running_.store.failure is None
        async with running_server(engine.url, password=lambda: "wrong") as running_:
            assert "it refuses the credentials: WRONGPASS" in (running_.store.failure or "")


# A full engine.


async def fill(client: Client) -> int:
    """Add until it is refused; the number of items."""
    for number in range(10_000):
        reply = await client.ask(f"QUEUE ADD 'q:{number}' '{'x' * 30_000}'")
        if isinstance(reply, ErrorReply):
            assert reply.text == "refused: the store is out of memory"
            return number
    raise AssertionError("it takes everything")


@pytest.mark.parametrize("policy", ["noeviction", "volatile-lru"])
async def test_a_full_engine_loses_nothing_and_what_frees_it_goes_on(product: Product, policy: str) -> None:
    arguments = ("--maxmemory", "24mb", "--maxmemory-policy", policy)
    with running(product, *arguments) as engine:
        async with running_server(engine.url) as running_, connected(running_.address, "client") as client:
            await client.rows("CACHE SET 'c:k' 'v'")
            count = await fill(client)
            assert count > 100
            reply = await client.ask(f"CACHE SET 'c:k2' '{'x' * 60_000}'")
            assert isinstance(reply, ErrorReply)
            assert reply.text == "refused: the store is out of memory"
            assert len(await client.rows("QUEUE PENDING 'q'")) == count, "nothing was evicted"
            await client.rows("QUEUE RETRIEVE CONCURRENCY 1 'q:0'")
            await client.rows("QUEUE HEARTBEAT 'q:0'")
            assert await client.rows("QUEUE ACK 'q:0' 'done'") == [(b"true",)]
            assert [row[0] for row in await client.rows("QUEUE RESULT 'q:0'")] == [b"done"]
            for number in range(1, count // 2):
                assert len(await client.rows(f"QUEUE CANCEL 'q:{number}'")) == 1
            assert await client.rows("CACHE GET 'c:k'") == [(b"v",)]
            await client.rows("CACHE REMOVE 'c:k'")
            await client.rows("QUEUE CLEAR")
            assert await client.rows("QUEUE PENDING 'q'") == []
        with engine.client as looking:
            assert looking.info("stats")["evicted_keys"] == 0


async def test_kept_answers_survive_a_full_engine(product: Product) -> None:
    with running(product, "--maxmemory", "24mb", "--maxmemory-policy", "volatile-lru") as engine:
        async with running_servers(engine.url, 2) as (one, two), connected(one.address, "client") as client:
            await client.send("CACHE INCR 'n'", message_id=1_000_000)
            first = await client.reply(1_000_000)
            await fill(client)
            with engine.client as other:
                other.config_set("maxmemory", "1mb")  # so that not even the smallest is taken
            refused = await client.ask("CACHE INCR 'n'")
            assert isinstance(refused, ErrorReply)
            async with connected(two.address, "client") as again:
                await again.send("CACHE INCR 'n'", message_id=1_000_000)
                assert await again.reply(1_000_000) == first


# An engine that is away.


async def test_a_start_without_an_engine_goes_on_when_it_comes(product: Product) -> None:
    port = nodes.free_port()
    async with running_server(f"valkey://127.0.0.1:{port}", timeout_s=20) as running_:
        assert running_.store.failure == f"the store cannot be reached: 127.0.0.1:{port}: connection refused"
        async with connected(running_.address) as client:
            waiting = await client.send("QUEUE ADD 'q:a' 'p'")
            await asyncio.sleep(0.1)
            assert not client.replies[waiting]
            with running(product, port=port):
                assert not isinstance(await client.reply(waiting), ErrorReply)
                assert running_.store.failure is None


async def test_a_statement_waits_no_longer_than_the_timeout(product: Product) -> None:
    port = nodes.free_port()
    async with (
        running_server(f"valkey://127.0.0.1:{port}", timeout_s=0.3) as running_,
        connected(running_.address) as client,
    ):
        reply = await client.ask("QUEUE ADD 'q:a' 'p'")
        assert isinstance(reply, ErrorReply)
        assert reply.text.startswith("refused: the store cannot be reached: ")


async def test_scripts_are_brought_again_after_they_were_forgotten(engine: EngineProcess) -> None:
    """As after a failover to a replica that never ran them."""
    async with running_server(engine.url) as running_, connected(running_.address) as client:
        with engine.client as other:
            other.script_flush()
        assert await client.rows("CACHE INCR 'n'") == [(b"1",)]
        assert await client.rows("CACHE INCR 'n'") == [(b"2",)]


async def test_an_engine_that_restarts_is_used_again(product: Product) -> None:
    """It has lost everything; statements on their way are asked again, and their clients see no error."""
    engine = nodes.start(product)
    async with running_server(engine.url) as running_, connected(running_.address, "client") as client:
        await client.rows("CACHE INCR 'n'")
        engine.stop()
        waiting = [await client.send("CACHE INCR 'n'") for _ in range(10)]
        with running(product, port=engine.port):
            values = [getattr(await client.reply(each), "rows", None) for each in waiting]
            assert sorted(int(rows[0][0]) for rows in values if rows) == list(range(1, 11))
            await until(lambda: is_linked(running_.store))


# Memory of one connection.


async def test_one_connection_with_many_statements_takes_bounded_memory(engine: EngineProcess) -> None:
    limits = AnswerLimits(keep_ms=300, keep_undelivered_ms=600)
    async with running_server(engine.url, answers=limits) as running_, connected(running_.address, "c") as client:
        used = []
        with engine.client as looking:
            for _ in range(4):
                for _ in range(20):
                    sent = [await client.send("CACHE INCR 'n'") for _ in range(100)]
                    for message_id in sent:
                        await client.reply(message_id)
                await asyncio.sleep(0.4)
                used.append(looking.info("memory")["used_memory"])
        assert used[-1] < used[0] + MIB // 2, used
