"""Messages of more than a megabyte: read in steps between the requests of others, and written ahead."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubequeue_server.net import framing
from cubequeue_server.net.framing import frame_bytes
from protocol.client_codec import ErrorReply, Rows, encode_query
from protocol.large import LARGE_BYTES
from storage.vocabulary import CacheGet, CacheSet
from tests.server.client import BINARY, connected, frame, raw
from tests.server.harness import SlowDurableStore, WatchedStore, serving, until

MIB = 1 << 20
NO_PINGS: dict[str, Any] = {"ping_interval_s": 600, "proof_interval_s": 600}
VALUE = b'it\'s \\"quoted\\" \xc3\xa4 ' * (2 * MIB // 20)


def escaped(value: bytes) -> str:
    return value.decode().replace("\\", "\\\\").replace("'", "\\'").replace('"', '\\"')


def literal(message_id: int, key: str, value: bytes = VALUE) -> bytes:
    return encode_query(message_id, f"CACHE SET '{key}' '{escaped(value)}'", connection_id="c")


def bound(message_id: int, key: str, value: bytes = VALUE) -> bytes:
    return encode_query(message_id, "CACHE SET ? ?", [key.encode(), value], connection_id="c")


@pytest.mark.parametrize("message", [literal, bound], ids=["literal", "parameter"])
@pytest.mark.parametrize("size", [LARGE_BYTES, 2 * MIB, 5 * MIB + 1])
async def test_a_value_arrives_as_it_is(message: Callable[..., bytes], size: int) -> None:
    value = (VALUE * 3)[: size - size % 20]
    async with serving(**NO_PINGS) as server, raw(server.address) as client:
        await client.upgrade()
        await client.send(frame(BINARY, message(1, "k", value)))
        assert await client.read_reply() == Rows(1, ("success",), [(b"true",)])
        await client.send(frame(BINARY, encode_query(2, "CACHE GET 'k'")))
        reply = await client.read_reply()
        assert isinstance(reply, Rows)
        assert reply.rows == [(value,)]


async def test_what_follows_on_the_same_connection_waits_and_others_do_not() -> None:
    store = WatchedStore()
    async with serving(store, **NO_PINGS) as server, raw(server.address) as client, connected(server.address) as other:
        await client.upgrade()
        small = [frame(BINARY, encode_query(number, f"CACHE GET 'g{number}'")) for number in range(2, 30)]
        await client.send(frame(BINARY, literal(1, "k")) + b"".join(small))
        asked = 0
        while server.counters.messages_out < 1 + asked:
            await other.rows("CACHE GET 'other'")
            asked += 1
        assert [(await client.read_reply()).message_id for _ in range(29)] == list(range(1, 30))
        of_client = [each for each in store.executed if each != CacheGet(b"other")]
        assert isinstance(of_client[0], CacheSet)
        assert store.executed.index(of_client[0]) > 2, "others had turns"
        assert server.counters.unfinished_bytes == 0


async def test_a_message_in_fragments() -> None:
    async with serving(**NO_PINGS) as server, raw(server.address) as client:
        await client.upgrade()
        message = bound(1, "k")
        parts = [message[at : at + 300_000] for at in range(0, len(message), 300_000)]
        for number, part in enumerate(parts):
            opcode = BINARY if number == 0 else 0
            await client.send(frame(opcode, part, fin=number == len(parts) - 1))
        assert isinstance(await client.read_reply(), Rows)
        await client.send(frame(BINARY, encode_query(2, "CACHE GET 'k'")))
        reply = await client.read_reply()
        assert isinstance(reply, Rows)
        assert reply.rows == [(VALUE,)]


REFUSED = {
    "no UTF-8": (encode_query(7, b"CACHE SET 'k' '" + b"\xff" * 2 * MIB + b"'"), "a text is not UTF-8"),
    "no end": (encode_query(7, b"CACHE SET 'k' '" + b"v" * 2 * MIB), "Unterminated"),
    "too much behind": (encode_query(7, b"CACHE SET 'k' 'v' " + b" " * 2 * MIB), "not supported"),
}


@pytest.mark.parametrize(("message", "text"), REFUSED.values(), ids=REFUSED)
async def test_one_that_is_refused_takes_nothing_with_it(message: bytes, text: str) -> None:
    async with serving(**NO_PINGS) as server, raw(server.address) as client:
        await client.upgrade()
        await client.send(frame(BINARY, message) + frame(BINARY, encode_query(8, "CACHE GET 'k'")))
        refused = await client.read_reply()
        assert isinstance(refused, ErrorReply)
        assert refused.message_id == 7
        assert text in refused.text
        assert await client.read_reply() == Rows(8, ("value",), [(None,)])
        assert server.counters.unfinished_bytes == 0


async def test_sent_again_on_another_connection_it_is_executed_once() -> None:
    store = WatchedStore()
    message = encode_query(1, "QUEUE ADD 'q:a' ?", [VALUE], connection_id="c")
    async with serving(store, **NO_PINGS) as server, raw(server.address) as one, raw(server.address) as two:
        for each in (one, two):
            await each.upgrade()
            await each.send(frame(BINARY, message))
        first, second = await one.read_reply(), await two.read_reply()
        assert first == second
        assert isinstance(first, Rows)
        assert first.rows[0][1] == b"true"


async def test_a_client_that_goes_meanwhile_leaves_nothing_behind() -> None:
    async with serving(**NO_PINGS) as server, raw(server.address) as client, connected(server.address) as other:
        await client.upgrade()
        await client.send(frame(BINARY, literal(1, "k")))
        await until(lambda: server.counters.messages_in)
        client.writer.transport.abort()
        await until(lambda: server.counters.connections == 1)
        assert len(await other.rows("CACHE GET 'k'")) == 1
        await until(lambda: server.counters.unfinished_bytes == 0)
        assert server.in_flight == 0


async def test_it_is_written_ahead_of_its_statement() -> None:
    store = SlowDurableStore()
    async with serving(store, **NO_PINGS) as server, raw(server.address) as client, connected(server.address) as other:
        await client.upgrade()
        await client.send(frame(BINARY, bound(1, "k")))
        await until(lambda: store._writer._ahead)
        assert not store.executed
        await other.send("CACHE SET 'small' 'v'", message_id=1)
        await until(lambda: store.executed)
        while not client.reader._buffer:  # type: ignore[attr-defined]  # nothing else tells without reading
            store.sync()
            await asyncio.sleep(0)
        assert await client.read_reply() == Rows(1, ("success",), [(b"true",)])
        assert await other.reply(1) == Rows(1, ("success",), [(b"true",)])
        assert not [blob for blob in store._recorder.blobs._by_identity.values() if blob.is_leased]


async def test_a_stop_in_the_middle() -> None:
    async with serving(**NO_PINGS) as server, raw(server.address) as client:
        await client.upgrade()
        await client.send(frame(BINARY, literal(1, "k")))
        await until(lambda: server.counters.messages_in)


@given(st.integers(0, 1 << 40), st.booleans())
def test_the_size_of_a_frame_is_read_from_its_header(size: int, fin: bool) -> None:
    first = 0x82 if fin else 0x02
    if size < 126:
        header = struct.pack(">BB", first, 0x80 | size)
    elif size < 65_536:
        header = struct.pack(">BBH", first, 0x80 | 126, size)
    else:
        header = struct.pack(">BBQ", first, 0x80 | 127, size)
    assert frame_bytes((header + b"\1\2\3\4" + b"payload....")[: framing.MAX_HEADER_BYTES]) == len(header) + 4 + size


@pytest.mark.parametrize("step", [1000, 14 * 1024, 600_000])
async def test_a_read_ends_with_a_large_frame(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever pieces it arrives in, its buffer is given away instead of copied."""
    kept: list[object] = []
    keep = framing.Framing.keep_buffer

    def keep_buffer(self: framing.Framing) -> object:
        kept.append(keep(self))
        return kept[-1]

    monkeypatch.setattr(framing.Framing, "keep_buffer", keep_buffer)
    async with serving(**NO_PINGS) as server, raw(server.address) as client:
        await client.upgrade()
        for round_ in range(3):
            data = frame(BINARY, bound(2 * round_ + 1, f"k{round_}")) + frame(
                BINARY, encode_query(2 * round_ + 2, f"CACHE GET 'k{round_}'", connection_id="c")
            )
            for at in range(0, len(data), step):
                await client.send(data[at : at + step])
            assert not isinstance(await client.read_reply(), ErrorReply)
            reply = await client.read_reply()
            assert isinstance(reply, Rows)
            assert reply.rows == [(VALUE,)]
    assert len(kept) == 3
