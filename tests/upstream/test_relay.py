"""What passes, passes as it came: statements to the CubeStore behind, and its answers back."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from websockets.asyncio.client import connect

from protocol.client_codec import ErrorReply, Rows, decode_reply, encode_query
from protocol.messages import InlineTable
from tests.protocol.sql_writer import sqlstring
from tests.recorded.files import upstream_exchanges
from tests.server.client import DRIVER, connected
from tests.server.harness import until
from tests.upstream.harness import passing, standing_in
from tests.upstream.stand_in import Received, text_answer, with_id

PASSES = "SELECT * FROM prod.orders"


async def test_a_statement_and_its_answer_pass_byte_for_byte() -> None:
    async with standing_in("1.6.66") as stand_in, passing(stand_in) as (server, _):
        host, port = server.address
        async with connect(f"ws://{host}:{port}/ws") as websocket:
            for exchange in upstream_exchanges():
                if exchange.sql == "SELECT 1":
                    continue
                await websocket.send(exchange.request)
                assert await websocket.recv() == exchange.reply
        sent = [exchange.request for exchange in upstream_exchanges() if exchange.sql != "SELECT 1"]
        assert [each.raw for each in stand_in.received] == sent


@pytest.mark.parametrize("size", [100_000, 300_000, 1_500_000, 5_000_000])
async def test_large_messages_pass_byte_for_byte(size: int) -> None:
    """In fragments upstream; an inline table is neither read nor changed."""
    table = InlineTable(b"lambda_t", (b"a",), (b"no type at all",), b"x\n" * (size // 2))
    raw = encode_query(7, "SELECT * FROM lambda_t", connection_id=DRIVER, inline_tables=[table], trace="{}")
    reply = with_id(upstream_exchanges()[0].reply, 7) + bytes(size)

    async def answer(_: Received) -> bytes:
        return reply

    async with standing_in("1.7.43") as stand_in, passing(stand_in) as (server, upstream):
        stand_in.answer = answer
        async with connect("ws://{}:{}/ws".format(*server.address), max_size=None) as websocket:
            await websocket.send(raw)
            assert await websocket.recv() == reply
        assert stand_in.received[0].raw == raw
        assert upstream.counters.waiting == upstream.counters.waiting_bytes == 0


@pytest.mark.parametrize("size", [300_000, 2_000_000])
@pytest.mark.parametrize("is_fragmented", [False, True])
async def test_a_large_message_is_kept_without_a_copy(size: int, is_fragmented: bool) -> None:
    """In the buffer that it was read into; the text of the statement is the large part of it."""
    raw = encode_query(7, f"INSERT INTO s.t VALUES ('{'x' * size}')", connection_id=DRIVER)
    may_answer = asyncio.Event()

    async def answer(received: Received) -> bytes:
        await may_answer.wait()
        return text_answer(received, "done")

    async with standing_in() as stand_in, passing(stand_in) as (server, upstream):
        stand_in.answer = answer
        async with connect("ws://{}:{}/ws".format(*server.address), max_size=None) as websocket:
            await websocket.send([raw[:1000], raw[1000:]] if is_fragmented else raw)
            await until(lambda: bool(stand_in.received))
            (link,) = upstream._links
            payload = link.waiting[7].payload
            assert isinstance(payload, memoryview)
            assert payload == raw == stand_in.received[0].raw
            small = encode_query(8, "CACHE GET 'a'", connection_id=DRIVER)
            await websocket.send(small)  # it is read meanwhile
            assert isinstance(decode_reply(await websocket.recv(decode=False)), Rows)
            may_answer.set()
            assert isinstance(decode_reply(await websocket.recv(decode=False)), Rows)


@pytest.mark.parametrize("size", [300_000, 1_000_000, 2_000_000])
@pytest.mark.parametrize("is_parameter", [False, True])
async def test_large_values_of_the_cache_do_not_pass(size: int, is_parameter: bool) -> None:
    value = "a 'b' \\c " * (size // 10)
    async with standing_in() as stand_in, passing(stand_in) as (server, _), connected(server.address) as client:
        if is_parameter:
            await client.ask("CACHE SET ? ?", [b"k", value.encode()])
        else:
            await client.ask(f"CACHE SET 'k' {sqlstring(value.encode()).decode()}")
        reply = await client.ask("CACHE GET 'k'")
        assert isinstance(reply, Rows)
        assert reply.rows == [(value.encode(),)]
        await client.ask(f"SYS FOO '{value.replace(chr(39), '').replace(chr(92), '')}'")
        assert stand_in.received == []


async def test_queue_and_cache_never_pass_malformed_ones_neither() -> None:
    async with standing_in() as stand_in, passing(stand_in) as (server, _), connected(server.address) as client:
        for text in ("QUEUE FOO", "CACHE SET", "SYS FOO", "QUEUE ADD 'a", "CACHE GET 'x'", "SYS CACHESTORE INFO"):
            await client.ask(text)
        assert isinstance(await client.ask("SELECT 1"), Rows)
        assert stand_in.received == []
        assert stand_in.connections == []


async def test_many_statements_of_one_client_each_get_their_own_answer() -> None:
    async def answer(received: Received) -> bytes:
        await asyncio.sleep(0.001 * (received.request.message_id * 7 % 13))
        return text_answer(received, received.text)

    async with standing_in() as stand_in, passing(stand_in) as (server, upstream), connected(server.address) as client:
        stand_in.answer = answer
        ids = {await client.send(f"SELECT {number} FROM t.t"): number for number in range(300)}
        for message_id, number in ids.items():
            reply = await client.reply(message_id)
            assert isinstance(reply, Rows)
            assert reply.rows == [(f"SELECT {number} FROM t.t".encode(),)]
        assert len(stand_in.connections) == 1
        assert upstream.counters.statements_answered == 300


async def test_a_link_is_opened_at_need_and_closed_with_its_client() -> None:
    async with standing_in() as stand_in, passing(stand_in) as (server, upstream):
        async with connected(server.address) as client, connected(server.address, "other") as other:
            await client.ask("CACHE GET 'a'")
            assert stand_in.connections == []
            await client.ask(PASSES)
            await client.ask(PASSES)
            assert len(stand_in.connections) == 1
            await other.ask(PASSES)
            assert len(stand_in.connections) == 2
            assert upstream.counters.connections == 2
        await until(lambda: not stand_in.open_connections)
        assert upstream.counters.connections == 0


@pytest.mark.parametrize(
    ("version", "arrives_as"),
    [
        ("1.3.40", 0),
        ("1.6.44", 0),
        ("1.6.65", 0),
        ("1.6.66-beta", 0),
        ("1.6.66", 1),
        ("1.7.43", 1),
        (None, 0),
        ("nonsense", 0),
    ],
)
async def test_the_format_is_patched_for_old_versions_alone(version: str | None, arrives_as: int) -> None:
    async with standing_in(version) as stand_in, passing(stand_in) as (server, _):
        async with connected(server.address) as client:
            first = await client.send(PASSES, format_=1)
            large = await client.send(PASSES + " -- " + "x" * 400_000, format_=1)
            legacy = await client.send(PASSES, format_=0)
            for message_id in (first, large, legacy):
                await client.reply(message_id)
        assert [each.request.response_format for each in stand_in.received] == [arrives_as, arrives_as, 0]
        for received, text in zip(stand_in.received, [PASSES, PASSES + " -- " + "x" * 400_000, PASSES], strict=True):
            query = encode_query(
                received.request.message_id,
                text,
                connection_id=DRIVER,
                response_format=received.request.response_format,
            )
            assert len(received.raw) >= len(query)
            assert received.text == text


async def test_clients_are_told_the_announced_version_whatever_is_behind() -> None:
    async with (
        standing_in("1.3.40") as stand_in,
        passing(stand_in, server_options={"announce_version": "1.7.43"}) as (server, _),
        connect("ws://{}:{}/ws".format(*server.address)) as websocket,
    ):
        assert websocket.response is not None
        assert websocket.response.headers["X-CubeStore-Version"] == "1.7.43"


async def test_an_error_of_the_cubestore_passes() -> None:
    async with standing_in() as stand_in, passing(stand_in) as (server, _), connected(server.address) as client:
        reply = await client.ask("SELECT * FROM prod.missing")
        assert isinstance(reply, ErrorReply)
        assert "prod" in reply.text


async def test_answers_that_nobody_waits_for_reach_nobody() -> None:
    """A second answer, or one with an id of nobody, kills a driver."""

    async def answer(received: Received) -> bytes:
        reply = text_answer(received, "one")
        received.connection.reply(with_id(reply, 4711))
        received.connection.reply(reply)
        return text_answer(received, "two")

    async with standing_in() as stand_in, passing(stand_in) as (server, upstream), connected(server.address) as client:
        stand_in.answer = answer
        message_id = await client.send(PASSES)
        reply = await client.reply(message_id)
        assert isinstance(reply, Rows)
        assert reply.rows == [(b"one",)]
        await until(lambda: upstream.counters.replies_unknown == 2)
        await client.settle()
        assert len(client.replies[message_id]) == 1
        assert 4711 not in client.replies


async def test_a_message_that_is_sent_twice_on_one_socket_passes_once() -> None:
    async def answer(received: Received) -> bytes:
        await asyncio.sleep(0.05)
        return text_answer(received, "one")

    async with standing_in() as stand_in, passing(stand_in) as (server, _), connected(server.address) as client:
        stand_in.answer = answer
        for text in (PASSES, PASSES + " -- " + "x" * 300_000):
            message_id = await client.send(text)
            await client.send(text, message_id=message_id)
            await client.reply(message_id)
            await client.send(text, message_id=message_id)
            await client.settle()
            assert len(client.replies[message_id]) == 1
        assert len(stand_in.received) == 2


async def test_a_message_without_a_connection_id_passes() -> None:
    async with standing_in() as stand_in, passing(stand_in) as (server, _), connected(server.address, None) as client:
        assert isinstance(await client.ask(PASSES), Rows)
        assert stand_in.received[0].request.connection_id is None


async def test_what_is_read_back_to_front_passes_whole() -> None:
    """Control frames, fragments and pings of the server between and inside of its messages."""

    async def answer(received: Received) -> bytes | None:
        connection, reply = received.connection, text_answer(received, "a" * 200_000)
        connection.send(9, b"are you there")
        connection.send(2, reply[:10], fin=False)
        connection.send(9, b"")
        connection.send(0, reply[10:150_000], fin=False)
        connection.send(0, b"", fin=False)
        connection.send(0, reply[150_000:])
        return None

    async with standing_in() as stand_in, passing(stand_in) as (server, _), connected(server.address) as client:
        stand_in.answer = answer
        for _ in range(3):
            reply = await client.ask(PASSES)
            assert isinstance(reply, Rows)
            assert reply.rows == [(b"a" * 200_000,)]


@pytest.mark.parametrize(
    "junk",
    [b"\x81\x01x", b"\x82\x81\0\0\0\0x", b"\xc2\x01x", b"\x00\x01x", b"\x89\x7e\x00\x80" + bytes(128), b"\x83\x00"],
)
async def test_a_server_that_breaks_the_protocol_is_a_lost_link(junk: bytes) -> None:
    broken = False

    async def answer(received: Received) -> bytes:
        nonlocal broken
        if not broken:
            broken = True
            received.connection._writer.write(junk)
            await asyncio.sleep(3600)
        return text_answer(received, "fine")

    async with standing_in() as stand_in, passing(stand_in) as (server, upstream), connected(server.address) as client:
        stand_in.answer = answer
        stand_in._kept.clear()
        with suppress(asyncio.TimeoutError):
            message_id = await client.send(PASSES)
            await until(lambda: broken)
            stand_in._kept.clear()
            reply = await client.reply(message_id)
            assert isinstance(reply, Rows)
        assert upstream.counters.reconnects == 1
