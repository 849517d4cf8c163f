"""Long answers and the journal: they wait for what they have seen, and are errors when that was lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cubequeue_server.net.websocket import WebSocket
from protocol.client_codec import ErrorReply, Rows, encode_query
from storage.asking import ANYBODY
from storage.vocabulary import CacheSet
from tests.server.client import BINARY, connected, frame, raw
from tests.server.harness import SlowDurableStore, serving, until

MIB = 1 << 20

COUNT = 1_000
LOST = "refused: the disk is broken"
NOW_MS = 1_700_000_000_000


class FilledStore(SlowDurableStore):
    """With as many keys as make a long answer."""

    def __init__(self) -> None:
        super().__init__()
        for number in range(COUNT):
            self._memory.execute(CacheSet(b"c:%d" % number, b"v"), ANYBODY, None, NOW_MS)
        self.sync()


async def test_a_long_answer_waits_for_what_it_has_seen() -> None:
    store = FilledStore()
    async with serving(store) as server, connected(server.address) as client:
        await client.send("CACHE SET 'c:new' 'v'")
        await client.send("CACHE KEYS 'c:'")
        await until(lambda: server.in_flight == 2)
        assert not client.replies[2]
        store.sync()
        reply = await client.reply(2)
        assert isinstance(reply, Rows)
        assert len(reply.rows) == COUNT + 1
        assert (b"c:new",) in reply.rows


async def test_a_long_answer_that_saw_what_was_lost_is_an_error() -> None:
    store = FilledStore()
    async with serving(store) as server, connected(server.address) as client:
        await client.send("CACHE SET 'c:new' 'v'")
        await client.send("CACHE KEYS 'c:'")
        await until(lambda: server.in_flight == 2)
        store.lose()
        assert await client.reply(1) == ErrorReply(1, LOST)
        assert await client.reply(2) == ErrorReply(2, LOST)
        assert server.in_flight == 0


async def test_a_long_answer_that_saw_nothing_of_it_is_none() -> None:
    store = FilledStore()
    async with serving(store) as server, connected(server.address) as client:
        for message_id in range(1, 5):
            await client.send("CACHE KEYS 'c:'", message_id=message_id)
        await client.send("CACHE SET 'c:new' 'v'", message_id=5)
        await until(lambda: len(store.executed) == 5)
        store.lose()
        assert await client.reply(5) == ErrorReply(5, LOST)
        for message_id in range(1, 5):
            reply = await client.reply(message_id)
            assert isinstance(reply, Rows)
            assert len(reply.rows) == COUNT


async def test_a_repeat_of_a_long_statement_on_another_connection_joins_it() -> None:
    store = FilledStore()
    async with serving(store) as server, connected(server.address) as one, connected(server.address) as two:
        await one.send("CACHE SET 'c:new' 'v'", message_id=1)
        await one.send("CACHE KEYS 'c:'", message_id=2)
        await until(lambda: server.in_flight == 2)
        await two.send("CACHE KEYS 'c:'", message_id=2)
        await until(lambda: server.counters.repeats_joined == 1)
        store.sync()
        assert await one.reply(2) == await two.reply(2)


LIMIT = 2 * 100 * COUNT  # of bytes that are begun: two of these answers
KEYS = "CACHE KEYS 'c:'"
NO_PINGS: dict[str, Any] = {"ping_interval_s": 600, "proof_interval_s": 600}


def together(*queries: str) -> bytes:
    """Messages in one write."""
    return b"".join(frame(BINARY, encode_query(number, query)) for number, query in enumerate(queries, 1))


async def test_answers_that_nobody_reads_are_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 200
    async with serving(FilledStore(), max_begun_bytes=LIMIT, **NO_PINGS) as server, raw(server.address) as client:
        most = 0
        begun = WebSocket.begin_answer

        def begin_answer(websocket: WebSocket, size_bytes: int) -> None:
            nonlocal most
            begun(websocket, size_bytes)
            most = max(most, server.counters.begun_bytes)

        monkeypatch.setattr(WebSocket, "begin_answer", begin_answer)
        await client.upgrade()
        await client.send(together(*[KEYS] * asked))
        for _ in range(asked):
            reply = await client.read_reply()
            assert isinstance(reply, Rows)
            assert len(reply.rows) == COUNT
        assert LIMIT < most <= LIMIT + 100 * COUNT, "one past the limit, then nothing more is read"
        assert server.counters.begun_bytes == 0


async def test_lists_that_wait_to_be_durable_are_not_read_without_end() -> None:
    store = FilledStore()
    asked = 1_000
    async with serving(store, **NO_PINGS) as server, raw(server.address) as client:
        await client.upgrade()
        await client.send(together("CACHE SET 'c:new' 'v'", *[KEYS] * asked))
        most = 2 * MIB // (128 << 10) + 1
        await until(lambda: server.in_flight == 1 + most)
        for _ in range(20):
            await asyncio.sleep(0)
        assert server.in_flight == 1 + most
        store.sync()
        for _ in range(asked + 1):
            assert isinstance(await client.read_reply(), Rows)


async def test_past_the_limit_of_all_connections_a_list_is_refused() -> None:
    async with (
        serving(FilledStore(), max_all_begun_bytes=LIMIT, **NO_PINGS) as server,
        raw(server.address) as client,
        raw(server.address) as other,
    ):
        await client.upgrade()
        await other.upgrade()
        await client.send(together(KEYS, KEYS, KEYS, "CACHE GET 'c:1'"))
        replies = {reply.message_id: reply for reply in [await client.read_reply() for _ in range(4)]}
        text = f"long answers of {LIMIT} bytes are being made, the limit is {LIMIT}"
        assert replies[3] == ErrorReply(3, text)
        assert all(isinstance(replies[number], Rows) for number in (1, 2, 4))
        assert server.counters.overloaded == 1


async def test_no_answer_is_made_for_a_client_that_has_gone() -> None:
    async with serving(FilledStore()) as server, raw(server.address) as client:
        await client.upgrade()
        await client.send(together(*[KEYS] * 10))
        await until(lambda: server.counters.begun_bytes)
        client.writer.transport.abort()
        await until(lambda: server.counters.connections == 0)
        await until(lambda: server.counters.begun_bytes == 0)
        assert server.counters.answers_undelivered
        assert server.in_flight == 0


async def test_past_the_limit_of_all_connections_the_slowest_reader_is_closed() -> None:
    """One that has 3 of 4 MB to read, and one that has 2."""
    async with (
        serving(max_unread_bytes=4 * MIB, outbound_high_water_bytes=64 << 10) as server,
        raw(server.address) as slow,
        raw(server.address) as slower,
        connected(server.address) as other,
    ):
        for each, value in ((slow, b"x" * (8 << 20)), (slower, b"x" * (12 << 20))):
            await each.upgrade()
            await other.ask("CACHE SET 'large' ?", [value])
            await each.send(together("CACHE GET 'large'"))
            await until(lambda: server.counters.readers_slow or server.counters.unread_bytes)
        await until(lambda: server.counters.readers_slow)
        assert server.counters.unread_bytes <= 4 * MIB
        assert await other.rows("CACHE GET 'none'") == [(None,)]
