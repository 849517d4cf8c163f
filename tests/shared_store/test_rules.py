"""The rules that keep promises, each with a mutant without it: the same scene must go wrong then."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack

import pytest

from cubequeue_server.engines.shared_store import scripts, waits
from cubequeue_server.engines.shared_store.connection import Reply
from cubequeue_server.engines.shared_store.engine import SharedStore
from cubequeue_server.engines.shared_store.hot import HotConnection
from cubequeue_server.engines.shared_store.options import StoreOptions
from cubequeue_server.engines.shared_store.scripts import Script
from cubequeue_server.settings.store_address import Address
from protocol.client_codec import ErrorReply, Rows
from tests.needed import require
from tests.server.client import DRIVER, connected
from tests.server.harness import until
from tests.shared_store import nodes
from tests.shared_store.deployments import wait_until
from tests.shared_store.nodes import EngineProcess, running, start
from tests.shared_store.servers import running_server, running_servers

MonkeyPatch = pytest.MonkeyPatch


@pytest.fixture
def engine() -> Iterator[EngineProcess]:
    require(nodes.VALKEY.program, "valkey-server")
    with running(nodes.VALKEY) as process:
        yield process


# A message that is sent again to another server.


async def send_twice(engine: EngineProcess) -> tuple[object, object]:
    """An INCR that two servers are sent: both answers."""
    async with running_servers(engine.url, 2) as servers, AsyncExitStack() as stack:
        one, two = [await stack.enter_async_context(connected(each.address, DRIVER)) for each in servers]
        await one.send("CACHE INCR 'n'", message_id=7)
        first = await one.reply(7)
        await two.send("CACHE INCR 'n'", message_id=7)
        return first, await two.reply(7)


async def test_a_kept_answer_is_looked_up(engine: EngineProcess) -> None:
    first, second = await send_twice(engine)
    assert first == second == Rows(7, ("value",), [(b"1",)])


async def test_without_the_look_up_it_is_executed_twice(engine: EngineProcess, monkeypatch: MonkeyPatch) -> None:
    source = scripts.CACHE_INCR.source.replace(b"local answer = kept() or", b"kept()\nlocal answer =")
    assert source != scripts.CACHE_INCR.source
    mutant = Script("cache_incr")
    monkeypatch.setattr(scripts.CACHE_INCR, "source", source)
    monkeypatch.setattr(scripts.CACHE_INCR, "sha", mutant.sha[:-1] + (b"0" if mutant.sha[-1:] != b"0" else b"1"))
    first, second = await send_twice(engine)
    assert first != second


# A primary that was frozen, and does not know that it was replaced.


class Told:
    """A topology that tells of the new primary when it is asked about the old one, and not before."""

    def __init__(self, old: EngineProcess, new: EngineProcess, shards: int) -> None:
        self._shards = shards
        self._old, self._new = ("127.0.0.1", old.port), ("127.0.0.1", new.port)
        self.primary: Address = self._old
        self.is_replaced = False

    async def primaries(self) -> list[Address]:
        return [self.primary] * self._shards

    async def is_primary(self, address: Address, ask: Callable[..., asyncio.Future[Reply]]) -> bool | None:
        if self.is_replaced:
            self.primary = self._new
        return address == self.primary

    async def down_after_s(self) -> float | None:
        return None

    def moved(self, shard: int, address: Address) -> None:
        pass

    def watch(self, on_change: Callable[[], None]) -> None:
        pass

    def close(self) -> None:
        pass


async def freeze_under_an_incr(monkeypatch: MonkeyPatch) -> tuple[bytes | None, bytes | None]:
    """The value that the client was told, and the one that the new primary has."""
    old = start(nodes.VALKEY)
    new = start(nodes.VALKEY, "--replicaof", "127.0.0.1", str(old.port))
    try:
        with new.client as client:
            wait_until(lambda: client.info("replication")["master_link_status"] == "up")
        told = Told(old, new, 64)
        make = SharedStore.__init__

        def with_topology(self: SharedStore, options: StoreOptions, *limits: object, **rest: object) -> None:
            make(self, options, *limits, topology=told, **rest)  # type: ignore[arg-type]

        monkeypatch.setattr(SharedStore, "__init__", with_topology)
        async with running_server(old.url, late_s=0.1) as server, connected(server.address, DRIVER) as client_:
            await client_.rows("QUEUE ADD 'q:a' 'p'")
            old.process.send_signal(signal.SIGSTOP)
            waiting = await client_.send("CACHE INCR 'n'")
            await asyncio.sleep(0.3)
            with new.client as client:
                client.execute_command("REPLICAOF", "NO", "ONE")
            told.is_replaced = True
            old.process.send_signal(signal.SIGCONT)
            reply = await asyncio.wait_for(client_.reply(waiting), 20)
            assert isinstance(reply, Rows), reply
        monkeypatch.undo()
        async with running_server(new.url) as server, connected(server.address, "another") as client_:
            [(value,)] = await client_.rows("CACHE GET 'n'")
        return reply.rows[0][0], value
    finally:
        old.stop()
        new.stop()


async def test_a_late_reply_is_not_believed_before_the_primary_is_confirmed(monkeypatch: MonkeyPatch) -> None:
    require(nodes.VALKEY.program, "valkey-server")
    told, value = await freeze_under_an_incr(monkeypatch)
    assert told == value == b"1"


async def test_without_that_rule_an_acknowledged_write_is_lost(monkeypatch: MonkeyPatch) -> None:
    require(nodes.VALKEY.program, "valkey-server")
    monkeypatch.setattr(HotConnection, "_doubt", lambda self: None)
    told, value = await freeze_under_an_incr(monkeypatch)
    assert (told, value) == (b"1", None)


# A subscription that is lost at the moment of the ACK.


async def wait_over_a_lost_subscription(engine: EngineProcess, monkeypatch: MonkeyPatch) -> object:
    """What the waiter was told in three seconds; the net of every few seconds is out of reach."""
    monkeypatch.setattr(waits, "_NET_S", 1_000.0)
    async with (
        running_servers(engine.url, 2) as servers,
        connected(servers[0].address, "waiter") as waiter,
        connected(servers[1].address, "worker") as worker,
    ):
        await worker.rows("QUEUE ADD 'q:a' 'p'")
        waiting = await waiter.send("QUEUE RESULT_BLOCKING 60000 'q:a'")
        await until(lambda: servers[0].store.gauges()["waiters"] == 1)
        await waiter.rows("CACHE GET 'k'")
        [node] = servers[0].store.links.nodes
        assert node._subscriber is not None
        node._subscriber.cut("killed by a test")
        assert await worker.rows("QUEUE ACK 'q:a' 'r'") == [(b"true",)]
        try:
            return await asyncio.wait_for(waiter.reply(waiting), 3)
        except TimeoutError:
            return None


async def test_after_a_new_subscription_it_asks_for_all(engine: EngineProcess, monkeypatch: MonkeyPatch) -> None:
    reply = await wait_over_a_lost_subscription(engine, monkeypatch)
    assert isinstance(reply, Rows)
    assert reply.rows[0][0] == b"r"


async def test_without_that_question_a_wake_up_is_lost(engine: EngineProcess, monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(SharedStore, "on_subscribed", lambda self, shards: None)
    assert await wait_over_a_lost_subscription(engine, monkeypatch) is None


# What a client is told that names no connection: its message cannot be told from another.


async def test_a_write_without_a_connection_whose_link_is_lost_is_unknown(engine: EngineProcess) -> None:
    async with running_server(engine.url) as server, connected(server.address, driver=None) as client:
        await client.rows("CACHE INCR 'n'")
        engine.process.send_signal(signal.SIGSTOP)
        waiting = await client.send("CACHE INCR 'n'")
        [node] = server.store.links.nodes
        await until(lambda: node.hot.pending > 0)
        node.cut("cut by a test")
        engine.process.send_signal(signal.SIGCONT)
        reply = await client.reply(waiting)
        assert isinstance(reply, ErrorReply)
        assert reply.text == "the connection to the store was lost: nobody knows whether this statement was executed"
