"""Messages that do not end: what all of them together may hold, and for how long."""

from __future__ import annotations

import asyncio
import itertools
import struct

import pytest

from protocol.client_codec import Rows, encode_query
from storage.limits import MIB
from tests.server.client import BINARY, CONTINUATION, PING, PONG, RawClient, connected, frame, raw
from tests.server.harness import serving, until

QUERY = encode_query(7, "CACHE SET 'a' 'b'")
DONE = Rows(7, ("success",), [(b"true",)])
TOO_MANY = "unfinished messages of all connections exceed {} bytes"


def frame_head(size: int) -> bytes:
    """The beginning of a frame that is masked with zeros."""
    return b"\x82\xff" + struct.pack(">Q", size) + bytes(4)


async def begin(client: RawClient, size: int, kind: str) -> None:
    """Send so many bytes of a message that has one more."""
    await client.upgrade()
    if kind == "frame":
        await client.send(frame_head(size + 1) + bytes(size))
    else:
        await client.send(frame(BINARY, bytes(size // 2), fin=False) + frame(CONTINUATION, bytes(size // 2), fin=False))


@pytest.mark.parametrize("kind", ["frame", "fragments"])
async def test_past_the_bound_who_began_first_is_closed(kind: str) -> None:
    async with (
        serving(max_unfinished_bytes=8 * MIB) as server,
        raw(server.address) as first,
        raw(server.address) as second,
        connected(server.address, "bystander") as bystander,
    ):
        await begin(first, 3 * MIB, kind)
        await until(lambda: server.counters.unfinished_bytes >= 3 * MIB)
        await begin(second, 6 * MIB, kind)
        assert await first.read_close() == (1008, TOO_MANY.format(8 * MIB))
        assert await first.read_to_end() == b""
        await bystander.settle()
        assert server.counters.messages_unfinished == 1
        await until(lambda: 6 * MIB <= server.counters.unfinished_bytes < 8 * MIB)
        if kind == "frame":
            await second.send(b"x" + frame(BINARY, QUERY))
        else:
            await second.send(frame(CONTINUATION, b"x") + frame(BINARY, QUERY))
        assert await second.read_reply() == DONE
    assert server.counters.unfinished_bytes == 0


async def test_memory_of_many_that_stop_in_the_middle_is_bounded() -> None:
    """60 of them with 1 MiB each where 10 MiB are allowed; all others go on."""
    async with serving(max_unfinished_bytes=10 * MIB) as server, connected(server.address) as bystander:
        clients = []
        for number in range(60):
            reader, writer = await asyncio.open_connection(*server.address)
            clients.append(RawClient(reader, writer))
            await begin(clients[-1], MIB, "fragments" if number % 2 else "frame")
            await bystander.ask("CACHE SET 'a' ?", [b"x" * 100_000])
            assert server.counters.unfinished_bytes <= 10 * MIB
        await until(lambda: server.counters.messages_unfinished >= 50)
        for client in clients:
            client.writer.close()
        await until(lambda: server.counters.connections == 1)
        assert server.counters.unfinished_bytes < MIB, "of the bystander alone"


async def test_a_message_that_ends_at_once_is_not_closed_for_those_that_do_not() -> None:
    """Whoever floods is older than an honest message."""
    async with serving(max_unfinished_bytes=6 * MIB) as server, connected(server.address) as honest:
        clients = []
        for _ in range(5):
            reader, writer = await asyncio.open_connection(*server.address)
            clients.append(RawClient(reader, writer))
            await begin(clients[-1], MIB, "frame")
        for _ in range(5):
            await honest.ask("CACHE SET 'a' ?", [b"x" * 4 * MIB])
        await honest.settle()
        assert 1 <= server.counters.messages_unfinished <= 5
        for client in clients:
            client.writer.close()


async def test_buffers_that_wait_for_nothing_are_given_back_before_anybody_is_closed() -> None:
    async with (
        serving(max_unfinished_bytes=5 * MIB) as server,
        connected(server.address, "one") as one,
        connected(server.address, "two") as two,
        connected(server.address, "three") as three,
    ):
        for client in itertools.islice(itertools.cycle((one, two, three)), 12):
            await client.ask("CACHE SET 'a' ?", [b"x" * 3 * MIB])
            assert server.counters.unfinished_bytes <= 5 * MIB
        for client in (one, two, three):
            await client.settle()
        assert server.counters.messages_unfinished == 0


@pytest.mark.parametrize("kind", ["frame", "fragments"])
async def test_a_message_that_takes_too_long_is_closed(kind: str) -> None:
    async with (
        serving(message_timeout_s=0.2) as server,
        raw(server.address) as client,
        connected(server.address) as bystander,
    ):
        await begin(client, 100_000, kind)
        assert await client.read_close() == (1008, "a message was not complete after 0.2 s")
        assert server.counters.messages_unfinished == 1
        await bystander.settle()


async def test_a_fragment_now_and_then_does_not_help() -> None:
    async with serving(message_timeout_s=0.3) as server, raw(server.address) as client:
        await client.upgrade()
        await client.send(frame(BINARY, b"x", fin=False))

        async def drip() -> None:
            while True:
                await client.send(frame(CONTINUATION, b"x", fin=False) + frame(PING, b"p"))
                await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        assert await client.read_close() == (1008, "a message was not complete after 0.3 s")
        dripping.cancel()


async def test_one_message_after_the_other_is_no_message_that_takes_long() -> None:
    """Each read ends one and begins the next, by frames and by fragments, for longer than one may take."""
    message = encode_query(7, f"CACHE SET 'a' '{'x' * 30_000}'")
    framed = frame(BINARY, message)
    fragmented = frame(BINARY, message[:100], fin=False) + frame(CONTINUATION, message[100:])
    for each in (framed, fragmented):
        async with serving(message_timeout_s=2) as server, raw(server.address) as client:
            await client.upgrade()
            await client.send(each[:20_000])
            for _ in range(12):
                await asyncio.sleep(0.2)
                await client.send(each[20_000:] + each[:20_000])
                assert await client.read_reply() == DONE
            await client.send(each[20_000:])
            assert await client.read_reply() == DONE
            assert server.counters.messages_unfinished == 0


async def test_a_large_message_then_small_ones_cut_anywhere() -> None:
    """The count of what is not parsed survives buffers that are replaced."""
    async with serving(ping_interval_s=0.05, pong_timeout_s=10) as server, raw(server.address) as client:
        await client.upgrade()
        large = frame(BINARY, encode_query(7, f"CACHE SET 'a' '{'x' * 200_000}'"))
        for cut in (1, 5, 10, 100, 70_000, len(large) - 1):
            await client.send(large[:cut])
            await asyncio.sleep(0.005)
            await client.send(large[cut:] + frame(BINARY, QUERY)[:9])
            await asyncio.sleep(0.005)
            await client.send(frame(BINARY, QUERY)[9:])
            replies = 0
            while replies < 2:
                opcode, payload = await client.read_frame()
                if opcode == PING:
                    await client.send(frame(PONG, payload))
                else:
                    replies += 1
        while server.counters.unfinished_bytes:
            opcode, payload = await client.read_frame()
            assert opcode == PING
            await client.send(frame(PONG, payload))
            await asyncio.sleep(0.01)
        assert server.counters.messages_unfinished == 0
