"""Long answers and the journal: they wait for what they have seen, and are errors when that was lost."""

from __future__ import annotations

from protocol.client_codec import ErrorReply, Rows
from storage.asking import ANYBODY
from storage.vocabulary import CacheSet
from tests.server.client import connected
from tests.server.harness import SlowDurableStore, serving, until

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
