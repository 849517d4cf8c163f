"""A result that cannot be stored ends its item with an error, which whoever waits for it gets at once."""

from __future__ import annotations

import json
import random
import tracemalloc
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubequeue_server.requests.ask import Ask
from cubequeue_server.requests.lost_results import oversize_text
from protocol.client_codec import ErrorReply, Rows, encode_query
from protocol.oversized import read_oversized
from storage.limits import AnswerLimits, CacheLimits, QueueLimits
from storage.memory import MemoryStore
from storage.vocabulary import Cell
from tests.server.client import DRIVER, Client, connected
from tests.server.harness import FIRST_ID, SlowDurableStore, WatchedStore, serving, until

LIMIT = 4096
LARGE = "r" * (LIMIT + 100)

Sent = tuple[str, Sequence[Cell] | None]
# How a worker may name the item of an ACK whose message is too large.
ACKS: dict[str, Sent] = {
    "by path": (f"QUEUE ACK 'q:a' '{LARGE}'", None),
    "by id": (f"QUEUE ACK {FIRST_ID} '{LARGE}'", None),
    "in another spelling": (f"/* x */ queue\n ack  \"q:a\" '{LARGE}'", None),
    "by id, as parameters": ("QUEUE ACK ? ?", (FIRST_ID, LARGE.encode())),
    "by path, as parameters": ("QUEUE ACK ? ? ", (b"q:a", LARGE.encode())),
}


async def claimed(client: Client) -> None:
    assert await client.rows("QUEUE ADD PRIORITY 1 'q:a' 'payload'")
    assert await client.rows("QUEUE RETRIEVE CONCURRENCY 1 'q:a'")


def error_of(rows: list[tuple[bytes | None, ...]]) -> str:
    [row] = rows
    assert row[0] is not None
    text = json.loads(row[0])["error"]
    assert isinstance(text, str)
    return text


@pytest.mark.parametrize(("sql", "parameters"), ACKS.values(), ids=ACKS.keys())
async def test_an_oversized_ack_ends_its_item_with_an_error(sql: str, parameters: Sequence[Cell] | None) -> None:
    async with serving(max_message_bytes=LIMIT) as server, connected(server.address) as worker:
        await claimed(worker)
        async with connected(server.address, "waiting") as user:
            waits = await user.send(f"QUEUE RESULT_BLOCKING 60000 {FIRST_ID}")
            await until(lambda: server.in_flight)
            size = len(encode_query(3, sql, parameters, connection_id=DRIVER))
            assert await worker.ask(sql, parameters) == ErrorReply(3, oversize_text(size, LIMIT))
            reply = await user.reply(waits)
            assert isinstance(reply, Rows)
            text = error_of(reply.rows)
            assert f"{size} bytes" in text
            assert f"{LIMIT} are allowed" in text
            assert "CUBESTORE_TRANSPORT_MAX_MESSAGE_SIZE" in text
        assert await worker.rows("QUEUE LIST 'q'") == []


@pytest.mark.parametrize("make", [WatchedStore, SlowDurableStore])
async def test_sent_again_it_is_refused_and_ends_no_newer_item(
    make: Callable[[], WatchedStore | SlowDurableStore],
) -> None:
    store = make()
    async with serving(store, max_message_bytes=LIMIT) as server:
        async with connected(server.address) as worker:
            for sql in (
                "QUEUE ADD PRIORITY 1 'q:a' 'payload'",
                "QUEUE RETRIEVE CONCURRENCY 1 'q:a'",
                ACKS["by path"][0],
            ):
                message_id = await worker.send(sql)
                if isinstance(store, SlowDurableStore):
                    await until(lambda: server.in_flight)
                    assert not worker.replies[message_id]  # no answer ahead of its effect
                    store.sync()
                last = await worker.reply(message_id)
            assert isinstance(last, ErrorReply)
        async with connected(server.address, "another") as user:
            message_id = await user.send("QUEUE ADD PRIORITY 1 'q:a' 'newer'")
            if isinstance(store, SlowDurableStore):
                await until(lambda: server.in_flight)
                store.sync()
            await user.reply(message_id)
        async with connected(server.address) as again:
            assert isinstance(await again.ask(ACKS["by path"][0], message_id=3), ErrorReply)
            assert [row[2] for row in await again.rows("QUEUE LIST 'q'")] == [b"pending"]


async def test_other_oversized_messages_end_nothing() -> None:
    async with serving(max_message_bytes=LIMIT) as server, connected(server.address) as client:
        await claimed(client)
        for sql in (f"QUEUE CANCEL 'q:a' -- {LARGE}", f"QUEUE ACK 'q:a{LARGE}' 'x'", f"QUEUE ACK NULL {LARGE}"):
            assert isinstance(await client.ask(sql), ErrorReply)
        assert len(await client.rows("QUEUE LIST 'q'")) == 1


async def test_an_ack_without_room_ends_its_item_with_an_error() -> None:
    limits = QueueLimits(max_bytes=2_000)
    store = MemoryStore(limits, CacheLimits(), AnswerLimits(), FIRST_ID, random.Random(7).random, Ask)
    async with serving(store) as server, connected(server.address) as worker:
        await claimed(worker)
        refused = await worker.ask(f"QUEUE ACK {FIRST_ID} '{'r' * 3_000}'")
        assert isinstance(refused, ErrorReply)
        assert "CUBEQUEUE_QUEUE_MAX_SIZE" in refused.text
        assert refused.text in error_of(await worker.rows("QUEUE RESULT 'q:a'"))
        assert await worker.rows("QUEUE LIST 'q'") == []


async def test_regression_an_ack_without_room_ends_its_item_when_its_refusal_has_to_wait() -> None:
    """It depends on what is not durable yet: in a durable mode under load that is so all the time."""
    store = SlowDurableStore(QueueLimits(max_bytes=2_000))
    async with serving(store) as server, connected(server.address) as worker:
        sent = [
            await worker.send(sql)
            for sql in (
                "QUEUE ADD PRIORITY 1 'q:a' 'payload'",
                "QUEUE RETRIEVE CONCURRENCY 1 'q:a'",
                f"QUEUE ACK {FIRST_ID} '{'r' * 3_000}'",
            )
        ]
        await until(lambda: server.in_flight == 3)
        store.sync()
        await worker.reply(sent[1])
        assert not worker.replies[sent[2]], "no answer ahead of its effect"
        store.sync()
        refused = await worker.reply(sent[2])
        assert isinstance(refused, ErrorReply)
        assert "CUBEQUEUE_QUEUE_MAX_SIZE" in refused.text
        assert server.in_flight == 0
        result = await worker.send(f"QUEUE RESULT {FIRST_ID}")
        store.sync()
        reply = await worker.reply(result)
        assert isinstance(reply, Rows)
        assert refused.text in error_of(reply.rows)


def test_nothing_of_a_large_value_is_copied() -> None:
    message = encode_query(9, "QUEUE ACK ? ?", (b"q:a", b"r" * (64 << 20)), connection_id="c")
    tracemalloc.start()
    try:
        found = read_oversized(memoryview(message))
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
    assert found is not None
    assert (found.message_id, found.connection_id, found.ack_key) == (9, b"c", b"q:a")


MESSAGE = encode_query(9, "QUEUE ACK ? ?", (b"q:a", b"r" * 50), connection_id="c")


@given(st.integers(0, len(MESSAGE)), st.binary(max_size=8), st.integers(0, len(MESSAGE)))
def test_any_bytes_are_read_or_not(at: int, other: bytes, end: int) -> None:
    """Damaged and truncated: nothing but a head or None comes of it."""
    damaged = (MESSAGE[:at] + other + MESSAGE[at + len(other) :])[:end]
    found = read_oversized(damaged)
    assert found is None or isinstance(found.message_id, int)
