"""The MySQL port with an upstream CubeStore: what is ours is answered here, the rest passes, in one session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from cubequeue_server.access.credentials import Credentials
from cubequeue_server.engines.upstream.upstream import Upstream
from cubequeue_server.mysql.listener import MysqlListener
from cubequeue_server.settings.values import Endpoint
from protocol.encode import encode_result
from storage.vocabulary import Columns, ColumnType, Result
from tests.server.harness import until
from tests.server.mysql_client import EXECUTE, PREPARE, QUERY, MysqlClient, error_of, mysql
from tests.upstream.harness import passing, standing_in
from tests.upstream.stand_in import Received, StandIn, text_answer

MAX_PACKET = 2 << 20


@asynccontextmanager
async def session(stand_in: StandIn, **options: Any) -> AsyncIterator[tuple[MysqlClient, Upstream]]:
    async with passing(stand_in, **options) as (server, upstream):
        port = MysqlListener(Endpoint("127.0.0.1", 0), server, Credentials(), MAX_PACKET)
        await port.start()
        try:
            async with mysql((port.address.host, port.address.port)) as client:
                yield client, upstream
        finally:
            await asyncio.gather(server.stop(), port.stop())


async def tables(received: Received) -> bytes:
    columns = Columns(("id", ColumnType.STRING), ("table_name", ColumnType.STRING))
    rows = [(b"%d" % number, b"orders_%d" % number if number % 2 else None) for number in range(300)]
    return encode_result(received.request.message_id, Result(columns, rows))


async def test_system_tables_is_relayed_and_system_queue_is_ours() -> None:
    async with standing_in("1.7.43") as stand_in, session(stand_in) as (client, _):
        stand_in.answer = tables
        await client.ask(QUERY, b"QUEUE ADD 'q:a' 'payload'")
        rows = await client.rows("SELECT * FROM system.tables")
        assert len(rows) == 300
        assert rows[1] == b"\x011\x08orders_1"
        assert rows[2] == b"\x012\xfb"  # NULL
        assert b"payload" in (await client.rows("SELECT value FROM system.queue"))[0]
        assert await client.rows("SELECT * FROM system.tables") == rows
        assert stand_in.texts() == ["SELECT * FROM system.tables"] * 2
        assert {each.request.response_format for each in stand_in.received} == {0}
        assert len(stand_in.used_connections) == 1


async def test_prepared_statements_pass_with_their_parameters() -> None:
    async with standing_in() as stand_in, session(stand_in) as (client, _):
        packets = await client.ask(PREPARE, b"SELECT * FROM prod.orders WHERE id = ?")
        id_ = packets[0][1:5]
        for _ in range(2):
            await client.read()
        client.command(EXECUTE, id_ + b"\0" + (1).to_bytes(4, "little") + b"\0\1\xfd\0" + b"\3abc")
        await client.answer()
        (received,) = stand_in.received
        assert received.request.parameters == (b"abc",)


async def test_errors_and_statements_of_sys_pass() -> None:
    async with standing_in() as stand_in, session(stand_in) as (client, _):
        assert "prod" in error_of(await client.ask(QUERY, b"SELECT * FROM prod.missing"))[1]
        await client.ask(QUERY, b"sys metastore healthcheck")
        assert stand_in.texts()[-1] == "SYS METASTORE HEALTHCHECK"


async def test_a_large_answer_is_an_error_in_words() -> None:
    async def answer(received: Received) -> bytes:
        return text_answer(received, "a" * (17 << 20))

    async with standing_in() as stand_in, session(stand_in) as (client, _):
        stand_in.answer = answer
        text = error_of(await client.ask(QUERY, b"SELECT * FROM prod.orders"))[1]
        assert "is not supported on this port: ask for fewer columns" in text


async def test_bytes_that_are_no_reply_are_an_error() -> None:
    async def answer(received: Received) -> bytes:
        return text_answer(received, "a" * 100)[:-60]

    async with standing_in() as stand_in, session(stand_in) as (client, _):
        stand_in.answer = answer
        assert "that are no reply" in error_of(await client.ask(QUERY, b"SELECT * FROM prod.orders"))[1]


async def test_a_session_that_ends_takes_its_link_along() -> None:
    never = asyncio.Event()

    async def answer(received: Received) -> bytes:
        await never.wait()
        return text_answer(received, "")

    async with standing_in() as stand_in:
        async with session(stand_in) as (client, upstream):
            stand_in.answer = answer
            client.command(QUERY, b"SELECT * FROM prod.orders")
            await until(lambda: len(stand_in.received) == 1)
            client.writer.close()
            await until(lambda: upstream.counters.waiting == 0)
            await until(lambda: upstream.counters.connections == 0)
        await until(lambda: not stand_in.open_connections)
