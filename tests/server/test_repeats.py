"""Messages that a client sends again (wire.md §3; decisions, "De-duplication")."""

from __future__ import annotations

import asyncio

from protocol.client_codec import ErrorReply, Rows
from tests.server.client import connected
from tests.server.harness import FIRST_ID, SlowDurableStore, WatchedStore, serving, until


async def test_on_another_socket_after_the_answer_it_is_answered_from_memory() -> None:
    async with serving() as server:
        async with connected(server.address) as first:
            assert await first.rows("CACHE INCR 'n'") == [(b"1",)]
        async with connected(server.address) as second:
            assert await second.ask("CACHE INCR 'n'", message_id=1) == Rows(1, ("value",), [(b"1",)])
            assert await second.ask("CACHE INCR 'n'", message_id=2) == Rows(2, ("value",), [(b"2",)])


async def test_on_the_same_socket_after_the_answer_it_is_dropped() -> None:
    async with serving() as server, connected(server.address) as client:
        await client.ask("CACHE INCR 'n'", message_id=1)
        await client.send("CACHE INCR 'n'", message_id=1)
        await client.send("CACHE GET 'n'", message_id=2)
        await client.send("CACHE GET 'n'", message_id=2)
        await client.ask("CACHE GET 'settle'", message_id=3)
        assert len(client.replies[1]) == len(client.replies[2]) == 1
        assert server.counters.repeats_dropped == 2


async def test_an_error_is_not_given_twice_on_one_socket_either() -> None:
    async with serving() as server, connected(server.address) as client:
        await client.ask("QUEUE FOO", message_id=1)
        await client.send("QUEUE FOO", message_id=1)
        await client.ask("CACHE GET 'settle'", message_id=2)
        assert len(client.replies[1]) == 1


async def test_errors_are_not_kept() -> None:
    async with serving() as server:
        async with connected(server.address) as first:
            await first.ask("CACHE SET 'n' 'x'", message_id=1)
            assert isinstance(await first.ask("CACHE INCR 'n'", message_id=2), ErrorReply)
            await first.ask("CACHE REMOVE 'n'", message_id=3)
        async with connected(server.address) as second:
            assert await second.ask("CACHE INCR 'n'", message_id=2) == Rows(2, ("value",), [(b"1",)])


async def test_on_the_same_socket_while_it_waits_it_gets_one_answer() -> None:
    async with serving() as server, connected(server.address) as client:
        await client.ask("QUEUE ADD 'q:a' 'p'", message_id=1)
        for _ in range(3):
            await client.send(f"QUEUE RESULT_BLOCKING 20000 {FIRST_ID}", message_id=2)
        await client.ask(f"QUEUE ACK {FIRST_ID} 'r'", message_id=3)
        await client.reply(2)
        await client.ask("CACHE GET 'settle'", message_id=4)
        assert len(client.replies[2]) == 1
        assert server.in_flight == 0


async def test_a_repeat_of_what_waits_is_known_however_old_it_is() -> None:
    """More messages came in between than a connection remembers by their ids."""
    async with serving() as server, connected(server.address) as client:
        await client.ask("QUEUE ADD 'q:a' 'p'", message_id=1)
        await client.send(f"QUEUE RESULT_BLOCKING 20000 {FIRST_ID}", message_id=2)
        await client.ask("CACHE GET 'a'", message_id=2 + 1024)
        await client.send(f"QUEUE RESULT_BLOCKING 20000 {FIRST_ID}", message_id=2)
        await client.ask(f"QUEUE ACK {FIRST_ID} 'r'", message_id=3)
        await client.reply(2)
        await client.ask("CACHE GET 'settle'", message_id=4)
        assert len(client.replies[2]) == 1


async def test_on_another_socket_while_it_waits_both_are_answered_and_it_runs_once() -> None:
    store = WatchedStore()
    query = f"QUEUE RESULT_BLOCKING 20000 {FIRST_ID}"
    async with serving(store) as server, connected(server.address) as first, connected(server.address) as second:
        await first.ask("QUEUE ADD 'q:a' 'p'", message_id=1)
        await first.send(query, message_id=2)
        await first.ask("CACHE GET 'settle'", message_id=3)
        await second.send(query, message_id=2)
        await second.ask("CACHE GET 'settle'", message_id=4)
        await second.ask(f"QUEUE ACK {FIRST_ID} 'r'", message_id=5)
        expected = Rows(2, ("payload", "type", "id", "external_id"), [(b"r", b"success", b"%d" % FIRST_ID, None)])
        assert await first.reply(2) == await second.reply(2) == expected
        assert len(first.replies[2]) == len(second.replies[2]) == 1
        assert [type(statement).__name__ for statement in store.executed].count("QueueResultBlocking") == 1
        assert server.counters.repeats_joined == 1


async def test_a_waiter_outlives_its_socket_and_answers_the_next_one() -> None:
    query = f"QUEUE RESULT_BLOCKING 20000 {FIRST_ID}"
    async with serving() as server:
        async with connected(server.address) as first:
            await first.ask("QUEUE ADD 'q:a' 'p'", message_id=1)
            await first.send(query, message_id=2)
            await first.ask("CACHE GET 'settle'", message_id=3)
            first.drop()
        await until(lambda: not server.counters.connections)
        assert server.in_flight == 1
        async with connected(server.address) as second:
            await second.send(query, message_id=2)
            await second.ask(f"QUEUE ACK {FIRST_ID} 'r'", message_id=4)
            reply = await second.reply(2)
            assert isinstance(reply, Rows)
            assert reply.rows[0][0] == b"r"


async def test_an_answer_that_found_nobody_is_kept_for_longer_and_given_later() -> None:
    store = WatchedStore()
    query = f"QUEUE RESULT_BLOCKING 20000 {FIRST_ID}"
    async with serving(store) as server, connected(server.address, driver="worker") as worker:
        async with connected(server.address, driver="caller") as first:
            await first.ask("QUEUE ADD 'q:a' 'p'", message_id=1)
            await first.send(query, message_id=2)
            await first.ask("CACHE GET 'settle'", message_id=3)
            first.drop()
        await until(lambda: server.counters.connections == 1)
        await worker.ask(f"QUEUE ACK {FIRST_ID} 'r'")
        await until(lambda: store.undelivered)
        assert store.undelivered == [(b"", b"caller", 2)]
        assert server.counters.answers_undelivered == 1
        async with connected(server.address, driver="caller") as second:
            reply = await second.ask(query, message_id=2)
            assert isinstance(reply, Rows)
            assert reply.rows[0][0] == b"r"


async def test_without_a_connection_id_everything_runs() -> None:
    async with serving() as server, connected(server.address, driver=None) as client:
        await client.ask("CACHE INCR 'n'", message_id=1)
        await client.send("CACHE INCR 'n'", message_id=1)
        await client.ask("CACHE GET 'settle'", message_id=2)
        assert client.replies[1] == [Rows(1, ("value",), [(b"1",)]), Rows(1, ("value",), [(b"2",)])]


async def test_clients_are_told_apart() -> None:
    async with serving() as server, connected(server.address, "one") as one, connected(server.address, "two") as two:
        assert await one.rows("CACHE INCR 'n'") == [(b"1",)]
        assert await two.rows("CACHE INCR 'n'") == [(b"2",)]


async def test_ids_that_wrap_around_the_memory_of_a_connection_are_new() -> None:
    async with serving() as server, connected(server.address) as client:
        for message_id in (0, 1024, 2048, 2**32 - 1, 1023, 1024 + 1023):
            await client.ask("CACHE INCR 'n'", message_id=message_id)
        assert server.counters.repeats_dropped == 0


async def test_a_repeat_of_an_answer_that_waits_for_the_journal_waits_for_the_same_one() -> None:
    """A repeat on the same connection is dropped, one on another connection joins it: neither runs anything."""
    store = SlowDurableStore()
    async with serving(store) as server, connected(server.address) as first, connected(server.address) as second:
        await first.send("CACHE INCR 'n'", message_id=1)
        await until(lambda: server.in_flight == 1)
        await first.send("CACHE INCR 'n'", message_id=1)
        await second.send("CACHE INCR 'n'", message_id=1)
        await until(lambda: server.counters.repeats_joined == 1)
        assert (server.in_flight, len(store.executed)) == (1, 1)
        store.sync()
        assert await first.reply(1) == await second.reply(1) == Rows(1, ("value",), [(b"1",)])
        await asyncio.sleep(0.02)
        assert len(first.replies[1]) == len(second.replies[1]) == 1
        assert server.counters.repeats_dropped == 1


async def test_after_an_hour_in_flight_a_repeat_runs_anew() -> None:
    store = WatchedStore()
    query = f"QUEUE RESULT_BLOCKING 20000 {FIRST_ID}"
    async with (
        serving(store, processing_kept_s=0.05, ping_interval_s=0.04) as server,
        connected(server.address) as first,
        connected(server.address) as second,
    ):
        await first.ask("QUEUE ADD 'q:a' 'p'", message_id=1)
        await first.send(query, message_id=2)
        await asyncio.sleep(0.2)
        await second.send(query, message_id=2)
        await until(lambda: server.in_flight == 2)
        await second.ask(f"QUEUE ACK {FIRST_ID} 'r'", message_id=3)
        assert await first.reply(2) == await second.reply(2)
        assert len(first.replies[2]) == len(second.replies[2]) == 1
        assert server.in_flight == 0


async def test_a_pong_confirms_what_was_sent_before_its_ping() -> None:
    store = WatchedStore()
    async with serving(store, ping_interval_s=0.05) as server, connected(server.address, "d") as client:
        await client.ask("CACHE INCR 'n'", message_id=1)
        await client.ask("CACHE GET 'n'", message_id=2)
        await client.ask("QUEUE FOO", message_id=3)
        await until(lambda: store.confirmed)
        assert store.confirmed == [(b"", b"d", 1)]
        assert server.counters.answers_confirmed == 1


async def test_a_few_unproved_answers_are_proved_soon() -> None:
    """A client that dies leaves little behind that fills the room for kept answers."""
    store = WatchedStore()
    async with (
        serving(store, ping_interval_s=3600, proof_interval_s=0.05) as server,
        connected(server.address, "d") as client,
    ):
        await client.ask("CACHE INCR 'n'", message_id=1)
        await until(lambda: store.confirmed == [(b"", b"d", 1)])


async def test_many_unproved_answers_are_proved_out_of_turn() -> None:
    store = WatchedStore()
    async with (
        serving(store, ping_interval_s=3600, proof_interval_s=3600) as server,
        connected(server.address) as client,
    ):
        for _ in range(1024):
            await client.send("CACHE INCR 'n'")
        await until(lambda: len(store.confirmed) == 1024)
        assert server.counters.answers_confirmed == 1024


async def test_large_unproved_answers_are_proved_out_of_turn() -> None:
    store = WatchedStore()
    async with (
        serving(store, ping_interval_s=3600, proof_interval_s=3600) as server,
        connected(server.address) as client,
    ):
        await client.ask("QUEUE ADD 'q:a' ?", [b"x" * 1_100_000])
        await client.ask("QUEUE RETRIEVE 'q:a'")
        await until(lambda: len(store.confirmed) == 2)
