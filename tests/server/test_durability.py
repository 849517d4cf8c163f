"""No answer leaves before what it may have seen is durable (decisions, "One request")."""

from __future__ import annotations

import asyncio

from protocol.client_codec import ErrorReply, Rows
from storage.asking import ANYBODY, Outcome
from storage.vocabulary import QueueList, Result
from tests.server.client import connected
from tests.server.harness import FIRST_ID, SlowDurableStore, serving, until


async def test_an_effect_is_answered_once_it_is_durable() -> None:
    store = SlowDurableStore()
    async with serving(store) as server, connected(server.address) as client:
        await client.send("CACHE INCR 'n'")
        await until(lambda: server.in_flight == 1)
        await asyncio.sleep(0.05)
        assert not client.replies[1]
        store.sync()
        assert await client.reply(1) == Rows(1, ("value",), [(b"1",)])
        assert server.in_flight == 0


async def test_a_read_of_what_is_not_durable_waits_too() -> None:
    store = SlowDurableStore()
    async with serving(store) as server, connected(server.address) as one, connected(server.address, "2") as two:
        assert await two.rows("CACHE GET 'n'") == [(None,)]
        await one.send("CACHE SET 'n' 'x'")
        await until(lambda: server.in_flight == 1)
        await two.send("CACHE GET 'n'", message_id=7)
        await until(lambda: server.in_flight == 2)
        assert not two.replies[7]
        store.sync()
        assert await two.reply(7) == Rows(7, ("value",), [(b"x",)])


async def test_a_list_for_a_caller_in_the_process_waits_too() -> None:
    """The MySQL port and the pages have no connection that could be read less from."""
    store = SlowDurableStore()
    async with serving(store) as server, connected(server.address) as client:
        told: list[Outcome] = []
        await client.send("QUEUE ADD 'q:a' 'p'")
        await until(lambda: server.in_flight == 1)
        assert server.call(QueueList(b"q"), ANYBODY, told.append) is not None
        store.sync()
        await until(lambda: told)
        (outcome,) = told
        assert isinstance(outcome, Result)
        assert len(outcome.rows) == 1
        assert server.in_flight == 0


async def test_an_error_about_what_is_not_durable_waits_too() -> None:
    store = SlowDurableStore()
    async with serving(store) as server, connected(server.address) as client:
        await client.send("CACHE SET 'n' 'x'")
        await client.send("CACHE INCR 'n'")
        await until(lambda: server.in_flight == 2)
        assert not client.replies[2]
        store.sync()
        assert await client.reply(2) == ErrorReply(2, "Internal: invalid digit found in string")


async def test_a_syntax_error_saw_nothing_and_waits_for_nothing() -> None:
    store = SlowDurableStore()
    async with serving(store) as server, connected(server.address) as client:
        await client.send("CACHE SET 'n' 'x'")
        assert isinstance(await client.ask("QUEUE FOO"), ErrorReply)
        assert not client.replies[1]
        store.sync()


async def test_answers_leave_as_far_as_is_durable() -> None:
    store = SlowDurableStore()
    async with serving(store) as server, connected(server.address) as client:
        sequence_numbers = []
        for message_id in range(1, 11):
            await client.send("CACHE INCR 'n'")
            await until(lambda wanted=message_id: server.in_flight == wanted)  # type: ignore[misc]
            sequence_numbers.append(store.applied_seq)
        store.sync(sequence_numbers[3])
        assert await client.reply(4) == Rows(4, ("value",), [(b"4",)])
        await asyncio.sleep(0.02)
        assert server.in_flight == 6
        store.sync()
        assert await client.reply(10) == Rows(10, ("value",), [(b"10",)])


async def test_a_woken_waiter_waits_for_the_ack_to_be_durable() -> None:
    store = SlowDurableStore()
    async with serving(store) as server, connected(server.address) as one, connected(server.address, "2") as two:
        await one.send("QUEUE ADD 'q:a' 'p'")
        await one.send(f"QUEUE RESULT_BLOCKING 20000 {FIRST_ID}")
        await until(lambda: server.in_flight == 2)
        store.sync()
        await one.reply(1)
        await two.send(f"QUEUE ACK {FIRST_ID} 'r'")
        await until(lambda: server.in_flight == 2)
        await asyncio.sleep(0.05)
        assert not one.replies[2]
        store.sync()
        reply = await one.reply(2)
        assert isinstance(reply, Rows)
        assert reply.rows[0][0] == b"r"


async def test_what_becomes_durable_after_the_client_went_is_undelivered() -> None:
    store = SlowDurableStore()
    async with serving(store) as server:
        async with connected(server.address, "d") as client:
            await client.send("CACHE INCR 'n'")
            await until(lambda: server.in_flight == 1)
            client.drop()
        await until(lambda: not server.counters.connections)
        store.sync()
        assert store.undelivered == [(b"", b"d", 1)]


async def test_a_stop_lets_what_was_done_become_durable() -> None:
    store = SlowDurableStore()
    async with serving(store, stop_timeout_s=4) as server, connected(server.address) as client:
        await client.send("CACHE INCR 'n'")
        await until(lambda: server.in_flight == 1)
        asyncio.get_running_loop().call_later(0.2, store.sync)
        await server.stop()
        assert await client.reply(1) == Rows(1, ("value",), [(b"1",)])
        assert (await client.closed())[0] == 1012


async def test_a_stop_does_not_wait_for_ever() -> None:
    store = SlowDurableStore()
    async with serving(store, stop_timeout_s=0.3) as server, connected(server.address) as client:
        await client.send("CACHE INCR 'n'")
        await until(lambda: server.in_flight == 1)
        started = asyncio.get_running_loop().time()
        await server.stop()
        assert asyncio.get_running_loop().time() - started < 0.35
        assert not client.replies[1]
