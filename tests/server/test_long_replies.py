"""Long answers and the journal: they wait for what they have seen, and are errors when that was lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cubequeue_server.requests.replies import DurabilityGate
from protocol.client_codec import ErrorReply, Rows
from storage.engine import ANYBODY
from storage.vocabulary import CacheSet
from tests.server.client import connected
from tests.server.harness import SlowDurableStore, serving, until

COUNT = 1_000
NOW_MS = 1_700_000_000_000


class FailingStore(SlowDurableStore):
    """A store that loses what is not durable when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self._on_failed: Callable[[str, int], None] | None = None
        for number in range(COUNT):
            self.execute(CacheSet(b"c:%d" % number, b"v"), ANYBODY, None, NOW_MS)
        self.sync()

    def on_failed(self, callback: Callable[[str, int], None]) -> None:
        self._on_failed = callback

    def fail(self) -> None:
        assert self._on_failed is not None
        kept_seq, self._durable_seq = self._durable_seq, self.applied_seq
        self._on_failed("refused: lost", kept_seq)


async def test_a_long_answer_waits_for_what_it_has_seen() -> None:
    store = FailingStore()
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
    store = FailingStore()
    async with serving(store) as server, connected(server.address) as client:
        await client.send("CACHE SET 'c:new' 'v'")
        await client.send("CACHE KEYS 'c:'")
        await until(lambda: server.in_flight == 2)
        store.fail()
        assert await client.reply(1) == ErrorReply(1, "refused: lost")
        assert isinstance(await client.reply(2), ErrorReply)
        assert server.in_flight == 0


async def test_a_long_answer_that_saw_nothing_of_it_is_none() -> None:
    store = FailingStore()
    async with serving(store) as server, connected(server.address) as client:
        for message_id in range(1, 5):
            await client.send("CACHE KEYS 'c:'", message_id=message_id)
        await client.send("CACHE SET 'c:new' 'v'", message_id=5)
        await until(lambda: len(store.executed) == COUNT + 5)
        store.fail()
        assert await client.reply(5) == ErrorReply(5, "refused: lost")
        for message_id in range(1, 5):
            reply = await client.reply(message_id)
            assert isinstance(reply, Rows)
            assert len(reply.rows) == COUNT


async def test_a_repeat_of_a_long_statement_on_another_connection_joins_it() -> None:
    store = FailingStore()
    async with serving(store) as server, connected(server.address) as one, connected(server.address) as two:
        await one.send("CACHE SET 'c:new' 'v'", message_id=1)
        await one.send("CACHE KEYS 'c:'", message_id=2)
        await until(lambda: server.in_flight == 2)
        await two.send("CACHE KEYS 'c:'", message_id=2)
        await until(lambda: server.counters.repeats_joined == 1)
        store.sync()
        assert await one.reply(2) == await two.reply(2)


@pytest.mark.parametrize(("durable_seq", "expected"), [(3, []), (4, []), (5, ["new", "old"])])
def test_an_answer_that_took_its_time_waits_for_the_one_before_it(durable_seq: int, expected: list[str]) -> None:
    store = SlowDurableStore()
    told: list[str] = []
    gate: DurabilityGate[str, str] = DurabilityGate(store, lambda _asker, answer: told.append(answer))
    gate.deliver("a", "new", 5)
    gate.deliver("b", "old", 3)
    store.sync(durable_seq)
    gate.release()
    assert told == expected
    gate.fail(lambda asker: f"error for {asker}", 4)
    assert told == (expected or ["error for a", "error for b"])
    assert not len(gate)
