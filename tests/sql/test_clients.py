"""SELECTs of clients of a real server: everything else is answered beside them, a client that leaves ends its own."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from cubequeue_server.engines.sql.engine import SqlEngine
from cubequeue_server.requests.ask import Ask
from cubequeue_server.server import Server
from protocol.client_codec import ErrorReply, Rows
from tests.server.client import connected
from tests.server.harness import WatchedStore, serving, until

ENDLESS = "SELECT count(*) FROM system.queue a, system.queue b, system.queue c, system.queue d, system.queue e"
ATTACKS = [
    "SELECT " + "date(" * 24 + "now()" + ")" * 24,
    "SELECT 1" + "::int" * 1_000,
    "SELECT 1" + " IS NOT NULL" * 800,
    "SELECT 'a'" + " LIKE 'a'" * 1_000,
    "SELECT 1" + " IN (1)" * 450,
    "SELECT count(*) FROM " + ", ".join(f"(SELECT 1{' UNION ALL SELECT 1' * 9}) t{n}" for n in range(12)),
    "SELECT x || x FROM (SELECT REPLACE(REPLACE('aaaaaaaaaa', 'a', 'aaaaaaaaaa'), 'a', 'aaaaaaaaaa') AS x) t" * 20,
]


@asynccontextmanager
async def sql_serving() -> AsyncIterator[tuple[Server, SqlEngine]]:
    store = WatchedStore()
    engine = SqlEngine(Ask, store)
    async with serving(store, engine) as server:
        yield server, engine


async def evaluated(engine: SqlEngine) -> None:
    """Wait until a process evaluates."""
    evaluator = engine._evaluator
    await until(lambda: evaluator._current is not None and evaluator._current.is_busy)


def test_a_client_that_leaves_ends_its_select() -> None:
    async def leave() -> None:
        async with sql_serving() as (server, engine), connected(server.address, driver=None) as other:
            for number in range(300):
                await other.ask(f"QUEUE ADD 'p:{number}' 'x'")
            async with connected(server.address) as client:
                await client.send(ENDLESS)
                await client.send("SELECT 1, 2")
                await evaluated(engine)
                client.drop()
            assert await other.rows("SELECT count(*) FROM system.queue") == [(b"300",)]
            await until(lambda: not engine._waiting)
            assert engine._counters.select_ended_given_up == 1

    asyncio.run(leave())


@pytest.fixture
def no_collection() -> Iterator[None]:
    """No garbage is collected: what a process of tests has gathered takes long, and is not what is measured."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collection")
def test_others_are_answered_beside_attacks() -> None:
    """Each attack gets one error, or an answer; the longest heartbeat beside all of them is short.

    It is measured in the processor time of this process, client and server, which a busy machine does not change.
    """

    async def attack() -> tuple[list[object], float]:
        async with (
            sql_serving() as (server, _),
            connected(server.address, driver=None) as victim,
            connected(server.address) as other,
        ):
            await victim.ask("QUEUE ADD 'p:a' 'x'")
            await victim.ask("QUEUE RETRIEVE 'p:a'")
            ids = [await other.send(text) for text in ATTACKS]
            answers = asyncio.gather(*(other.reply(id_) for id_ in ids))
            longest = 0.0
            while not answers.done():
                began_s = time.process_time()
                assert isinstance(await victim.ask("QUEUE HEARTBEAT 'p:a'"), Rows)
                longest = max(longest, time.process_time() - began_s)
            return list(await answers), longest

    answers, longest = asyncio.run(attack())
    assert [isinstance(answer, ErrorReply) for answer in answers] == [True, False, True, True, True, True, True]
    assert not [answer for answer in answers if isinstance(answer, ErrorReply) and "unexpected" in answer.text]
    assert longest < 0.020
