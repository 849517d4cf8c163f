"""The MySQL port (mysql.md): what clients do wrong, what is bounded, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
import ssl
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from cubequeue_server.access.credentials import Credentials
from cubequeue_server.access.passwords import Secret, hash_password
from cubequeue_server.engines.sql.engine import SqlEngine
from cubequeue_server.mysql import connection, listener, statements, turns
from cubequeue_server.mysql.listener import MysqlListener
from cubequeue_server.requests import dispatcher
from cubequeue_server.requests.ask import Ask
from cubequeue_server.server import Server
from cubequeue_server.settings.values import Endpoint
from storage.asking import Later
from storage.engine import Engine, Store
from storage.errors import UserError
from storage.system_tables import SystemTable
from storage.vocabulary import Columns, ColumnType, Result, Row, Statement
from tests.server.client import connected
from tests.server.harness import FIRST_ID, Answering, SlowDurableStore, WatchedStore, serving, until
from tests.server.mysql_client import (
    CLOSE,
    ERROR,
    EXECUTE,
    FETCH,
    HEAD,
    LOGIN,
    LONG_DATA,
    OK,
    PREPARE,
    QUERY,
    QUIT,
    RESET,
    MysqlClient,
    error_of,
    mysql,
)

MIB = 1 << 20
MAX_PACKET = 2 * MIB
SLOW_HASH = hash_password(b"x")


class Ports:
    """A server with both of its ports."""

    def __init__(self, server: Server, port: MysqlListener) -> None:
        self.server, self.port = server, port

    @property
    def address(self) -> tuple[str, int]:
        return self.port.address.host, self.port.address.port

    @property
    def connections(self) -> int:
        """Clients of the MySQL port."""
        return len(self.port._clients)


@asynccontextmanager
async def ports(
    store: Store | None = None,
    sql: Engine | None = None,
    credentials: Credentials | None = None,
    tls: ssl.SSLContext | None = None,
    **options: Any,
) -> AsyncIterator[Ports]:
    async with serving(store, sql, **options) as server:
        port = MysqlListener(Endpoint("127.0.0.1", 0), server, credentials or Credentials(), MAX_PACKET, tls)
        await port.start()
        try:
            yield Ports(server, port)
        finally:
            await asyncio.gather(server.stop(), port.stop())
            assert not port._clients


async def test_packets_that_arrive_byte_by_byte() -> None:
    async with ports() as both, mysql(both.address, log_in=False) as client:
        send = client.writer.write
        drips: list[asyncio.Task[None]] = []

        async def one_by_one(data: bytes) -> None:
            for at in range(len(data)):
                send(data[at : at + 1])
                await asyncio.sleep(0.002)

        def drip(data: bytes) -> None:
            drips.append(asyncio.create_task(one_by_one(data)))

        client.writer.write = drip  # type: ignore[assignment]
        assert (await client.log_in())[0] == OK
        assert await client.rows("CACHE SET 'k' 'v'") == [b"\4true"]


async def test_two_commands_in_one_write_are_answered_in_order() -> None:
    async with ports() as both, mysql(both.address) as client:
        wait = f"QUEUE RESULT_BLOCKING 200 {FIRST_ID}"
        for text in (wait, "CACHE SET 'a' 'b'", "CACHE GET 'a'"):
            client.command(QUERY, text.encode())
        for rows in ([], [b"\4true"], [b"\1b"]):
            client.sequence = 1
            packets = await client.answer()
            assert packets[packets[0][0] + 2 : -1] == rows


async def test_a_statement_of_one_byte_too_many_is_refused_and_the_connection_closed() -> None:
    async with ports() as both:
        for size, is_refused in ((MAX_PACKET - 1, False), (MAX_PACKET, True)):
            async with mysql(both.address) as client:
                answer = await client.ask(QUERY, b"CACHE SET 'k' '%s'" % (b"x" * (size - len("CACHE SET 'k' ''"))))
                if is_refused:
                    assert error_of(answer)[0] == 1153
                    assert await client.is_closed()
                else:
                    assert answer[0][0] == 1


async def test_before_the_login_little_is_read() -> None:
    async with ports() as both, mysql(both.address, log_in=False) as client:
        await client.read()
        client.writer.write(client.packet(b"x" * 70_000))
        assert error_of([await client.read()])[0] == 1153
        assert await client.is_closed()


@pytest.mark.parametrize("junk", [b"\0" * 4, b"GET / HTTP/1.1\r\n\r\n", b"\x20\0\0\1" + b"\xff" * 32, b"\1\0\0\7x"])
async def test_no_handshake(junk: bytes) -> None:
    async with ports() as both, mysql(both.address, log_in=False) as client:
        await client.read()
        client.writer.write(junk)
        client.writer.write_eof()
        assert await client.is_closed()
        async with mysql(both.address) as other:
            assert await other.rows("SELECT 1")


@pytest.mark.parametrize("early", [b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100_000])
async def test_bytes_before_the_greeting_are_no_error_of_the_server(
    early: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """They once made asyncio log an error of several lines for each connection."""
    async with ports() as both, mysql(both.address, log_in=False) as client:
        client.writer.write(early)
        assert (await client.read())[0] == 10
        client.writer.write_eof()
        await until(lambda: not both.connections)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_login_ahead_of_the_greeting_is_read_after_it() -> None:
    async with ports() as both, mysql(both.address, log_in=False) as client:
        client.sequence = 1
        client.writer.write(client.packet(HEAD + LOGIN))
        client.sequence = 0
        assert (await client.read())[0] == 10
        client.sequence = 2
        assert (await client.read())[0] == OK
        assert await client.rows("SELECT 1") == [b"\x011"]


async def test_the_row_of_an_item_says_who_claimed_it() -> None:
    store = WatchedStore()
    sql = SqlEngine(Ask, store)
    async with ports(store, sql) as both, mysql(both.address) as client, connected(both.server.address) as other:
        await client.rows("QUEUE ADD 'q:a' 'x'")
        await client.rows("QUEUE RETRIEVE CONCURRENCY 9 'q:a'")
        host, port = client.writer.get_extra_info("sockname")
        rows = await other.rows("SELECT claimed_by, claimed_peer FROM system.queue")
        assert rows == [(None, f"{host}:{port}".encode())]
        async with mysql(both.address) as second:
            await second.rows("CACHE SET 'k' 'v'")
        await other.rows("CACHE GET 'k'")
        numbers = [caller.connection for caller in store.callers]
        assert len(set(numbers)) == 3, "each connection of both ports has a number of its own"


async def test_packets_that_stop_in_the_middle_are_bounded_in_bytes_and_in_time() -> None:
    async with ports(max_unfinished_bytes=2 * MIB, message_timeout_s=0.5) as both:
        async with mysql(both.address) as first, mysql(both.address) as second:
            first.writer.write((MIB + 1).to_bytes(3, "little") + b"\0" + bytes(MIB))
            await until(lambda: both.server.counters.unfinished_bytes == MIB + 1)
            second.writer.write((MIB + 2).to_bytes(3, "little") + b"\0" + bytes(MIB))
            assert await first.is_closed()
            assert both.server.counters.messages_unfinished == 1
            assert both.server.counters.unfinished_bytes == MIB + 2
            assert await second.is_closed()
        assert both.server.counters.messages_unfinished == 2
        assert both.server.counters.unfinished_bytes == 0
        async with mysql(both.address) as third:
            assert await third.rows("SELECT 1")


async def test_packets_out_of_order_close() -> None:
    async with ports() as both, mysql(both.address) as client:
        client.sequence = 3
        client.writer.write(client.packet(b"\x0e"))
        assert await client.is_closed()


async def test_a_client_that_says_nothing_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_HANDSHAKE_TIMEOUT_S", 0.2)
    async with ports() as both, mysql(both.address, log_in=False) as client:
        await client.read()
        assert await client.is_closed()


async def test_only_so_many_are_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "MAX_CONNECTIONS", 2)
    async with ports() as both, mysql(both.address) as first, mysql(both.address) as second:
        async with mysql(both.address, log_in=False) as third:
            assert error_of([await third.log_in()])[0] == 1040
            assert await third.is_closed()
        assert await second.rows("SELECT 1")
        first.command(QUIT)
        assert await first.is_closed()
        await until(lambda: both.connections == 1)
        async with mysql(both.address) as fourth:
            assert await fourth.rows("SELECT 1")


async def test_silent_clients_make_room_for_newer_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "MAX_CONNECTIONS", 2)
    async with ports() as both, mysql(both.address) as first, mysql(both.address, log_in=False) as silent:
        await silent.read()
        async with mysql(both.address) as third:
            assert await silent.is_closed()
            assert await third.rows("SELECT 1")
            assert both.server.counters.mysql_refused == 1
            assert both.server.counters.mysql_connections == 2
            async with mysql(both.address, log_in=False) as fourth:
                assert error_of([await fourth.log_in()])[0] == 1040
        assert await first.rows("SELECT 1")


async def test_one_refusal_too_many_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "MAX_CONNECTIONS", 1)
    monkeypatch.setattr(listener, "MAX_REFUSALS", 0)
    async with ports() as both, mysql(both.address), mysql(both.address, log_in=False) as second:
        assert await second.is_closed()
        assert both.server.counters.mysql_refused == 1


@pytest.mark.parametrize("code", [FETCH, 0x04, 0x05, 0x09, 0x1B, 0xFF, 0x7F])
async def test_unknown_commands_are_errors(code: int) -> None:
    async with ports() as both, mysql(both.address) as client:
        assert error_of(await client.ask(code, b"\1\0\0\0"))[0] == 1047
        assert await client.rows("SELECT 1")


# Prepared statements


async def prepared(client: MysqlClient, text: bytes) -> tuple[bytes, int]:
    client.command(PREPARE, text)
    head = await client.read()
    assert head[0] == OK
    count = int.from_bytes(head[7:9], "little")
    for _ in range(count + 1 if count else 0):
        await client.read()
    return head[1:5], count


def texts(*values: bytes) -> bytes:
    lengths = b"".join(struct.pack("<BQ", 0xFE, len(value)) + value for value in values)
    return b"\0\1\0\0\0" + bytes((len(values) + 7) // 8) + b"\1" + b"\xfd\0" * len(values) + lengths


async def test_values_sent_ahead_in_pieces() -> None:
    async with ports() as both, mysql(both.address) as client:
        id_, count = await prepared(client, b"CACHE SET ? ?")
        assert count == 2
        for piece in (b"first ", b"second"):
            client.command(LONG_DATA, id_ + b"\1\0" + piece)
        assert len(await client.ask(EXECUTE, id_ + b"\0\1\0\0\0" + b"\0" + b"\1" + b"\xfd\0\xfc\0" + b"\1k")) == 5
        assert await client.rows("CACHE GET 'k'") == [b"\x0cfirst second"]
        client.command(LONG_DATA, id_ + b"\1\0" + b"dropped")
        assert (await client.ask(RESET, id_))[0][0] == OK
        await client.ask(EXECUTE, id_ + texts(b"k", b"whole"))
        assert await client.rows("CACHE GET 'k'") == [b"\5whole"]


async def test_closed_and_unknown_statements() -> None:
    async with ports() as both, mysql(both.address) as client:
        id_, _ = await prepared(client, b"SELECT 1")
        client.command(CLOSE, id_)
        for code in (EXECUTE, RESET):
            assert "no prepared statement" in error_of(await client.ask(code, id_ + bytes(5)))[1]
            assert "cannot be read" in error_of(await client.ask(code, b"\1"))[1]
        client.command(LONG_DATA, id_ + b"\0\0" + b"x")
        assert await client.rows("SELECT 1")


async def test_bad_parameters_and_bad_texts() -> None:
    async with ports() as both, mysql(both.address) as client:
        id_, _ = await prepared(client, b"CACHE GET ?")
        assert "parameters of the prepared statement" in error_of(await client.ask(EXECUTE, id_ + bytes(3)))[1]
        assert "Unterminated string literal" in error_of(await client.ask(PREPARE, b"SELECT '"))[1]
        assert "not valid UTF-8" in error_of(await client.ask(PREPARE, b"SELECT \xff"))[1]
        text = b"SELECT '%s'" % (b"x" * (32_768 - 9))
        assert (await prepared(client, text))[1] == 0
        assert "more than 32768 bytes" in error_of(await client.ask(PREPARE, text + b" "))[1]
        assert both.server.counters.statement_errors == 2
        assert await client.rows("SELECT 1")


async def test_so_many_parameters_and_no_more() -> None:
    async with ports() as both, mysql(both.address) as client:
        most = statements.MAX_PARAMETERS
        assert (await prepared(client, b"?" * most))[1] == most
        assert "more than 2000 parameters" in error_of(await client.ask(PREPARE, b"?" * (most + 1)))[1]


async def test_prepared_statements_have_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statements, "MAX_PREPARED", 2)
    monkeypatch.setattr(statements, "MAX_PREPARED_BYTES", 100)
    monkeypatch.setattr(statements, "MAX_LONG_DATA_BYTES", 400)
    async with ports() as both, mysql(both.address) as client:
        id_, _ = await prepared(client, b"CACHE GET ?")
        assert "may take 100 bytes" in error_of(await client.ask(PREPARE, b"SELECT '%s'" % (b"x" * 85)))[1]
        await prepared(client, b"SELECT 2")
        assert "2 statements are prepared already" in error_of(await client.ask(PREPARE, b"SELECT 3"))[1]
        client.command(CLOSE, id_)
        id_, _ = await prepared(client, b"SELECT '%s', ?" % (b"x" * 80))
        client.command(LONG_DATA, id_ + b"\0\0" + b"x" * 250)
        assert (await client.ask(RESET, id_))[0][0] == OK
        client.command(LONG_DATA, id_ + b"\0\0" + b"x" * 272)
        assert await client.rows("SELECT 1")
        client.command(LONG_DATA, id_ + b"\0\0" + b"x")
        assert error_of([await client.read()])[0] == 1153
        assert await client.is_closed()


def test_a_value_sent_ahead_costs_the_same_beside_any_number_of_others() -> None:
    """20 000 of them once took 16 seconds."""

    def seconds_a_value(count: int) -> float:
        held: list[int] = []
        both = statements.PreparedStatements(held.append)
        id_, _ = both.add(b"?" * count)
        began = time.process_time()
        for parameter in range(count):
            both.append(id_, parameter, b"x")
        used = time.process_time() - began
        assert len(held) == count
        both.clear()
        assert held[-1] == 0
        return used / count

    few, many = (min(seconds_a_value(count) for _ in range(5)) for count in (50, 2_000))
    assert many < 8 * few


async def test_values_sent_ahead_are_bounded_over_connections_and_in_time() -> None:
    async with ports(max_unfinished_bytes=2 * MIB, message_timeout_s=0.5) as both:
        counters = both.server.counters
        async with mysql(both.address) as first, mysql(both.address) as second, mysql(both.address) as third:
            for client in (first, second):
                id_, _ = await prepared(client, b"CACHE SET 'k' ?")
                client.command(LONG_DATA, id_ + b"\0\0" + bytes(MIB))
            assert await first.is_closed()
            assert counters.messages_unfinished == 1
            assert MIB <= counters.unfinished_bytes < MIB + 1024
            assert await second.is_closed()
            assert (counters.messages_unfinished, counters.unfinished_bytes) == (2, 0)
            id_, _ = await prepared(third, b"CACHE SET 'k' ?")
            third.command(LONG_DATA, id_ + b"\0\0" + bytes(MIB))
            await until(lambda: counters.unfinished_bytes > MIB)
            await third.ask(EXECUTE, id_ + b"\0\1\0\0\0" + b"\0" + b"\1" + b"\xfc\0")
            assert counters.unfinished_bytes == 0
            third.command(LONG_DATA, id_ + b"\0\0" + bytes(MIB))
        await until(lambda: not both.connections)
        assert counters.unfinished_bytes == 0


# Turns


async def test_commands_sent_ahead_let_others_have_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """One command a turn of the loop here, of whatever connection: first come, first served."""
    monkeypatch.setattr(turns, "SLICE_S", 0.0)
    shared, ticks, order = turns.Turns(), itertools.count(), []
    loop = asyncio.get_running_loop()

    def tick() -> None:
        next(ticks)
        loop.call_soon(tick)

    async def work(name: str) -> None:
        for _ in range(50):
            await shared.take()
            order.append(name)

    tick()
    gone = asyncio.create_task(shared.take())
    tasks = [asyncio.create_task(work(name)) for name in "abc"]
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(*tasks)
    assert next(ticks) >= len(order) == 150
    assert all(sorted(order[at : at + 3]) == ["a", "b", "c"] for at in range(0, 150, 3))


async def test_a_slice_is_for_many_commands() -> None:
    shared = turns.Turns()
    turned: list[bool] = []
    asyncio.get_running_loop().call_soon(turned.append, True)
    for _ in range(20):
        await shared.take()
    assert not turned


# Waiting, and durability


async def test_a_client_that_leaves_while_it_waits_frees_its_place() -> None:
    store = WatchedStore()
    async with ports(store) as both:
        async with mysql(both.address) as client:
            client.command(QUERY, b"QUEUE RESULT_BLOCKING 3600000 1")
            await until(lambda: store.gauges()["waiters"] == 1)
        await until(lambda: store.gauges()["waiters"] == 0)
        await until(lambda: both.connections == 0)
        assert both.server.in_flight == 0


async def test_a_stop_answers_who_waits_and_closes_all() -> None:
    store = WatchedStore()
    async with ports(store) as both, mysql(both.address) as idle, mysql(both.address) as waiting:
        waiting.command(QUERY, b"QUEUE RESULT_BLOCKING 3600000 1")
        await until(lambda: store.gauges()["waiters"] == 1)
        await asyncio.gather(both.server.stop(), both.port.stop())
        packets = await waiting.answer()
        assert packets[packets[0][0] + 2 : -1] == []
        assert await waiting.is_closed()
        assert await idle.is_closed()


async def test_no_answer_before_it_is_durable() -> None:
    store = SlowDurableStore()
    store.sync()
    async with ports(store) as both, mysql(both.address) as client:
        client.command(QUERY, b"CACHE SET 'k' 'v'")
        await until(lambda: store.gauges()["cache_keys"] == 1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.reader.readexactly(1), 0.1)
        store.sync()
        assert (await client.answer())[-2] == b"\4true"


async def test_who_may_not_come_in_gets_no_further() -> None:
    async with ports(credentials=Credentials({b"ann": b"s3cret"})) as both:
        async with mysql(both.address, log_in=False) as client:
            assert error_of([await client.log_in()])[0] == 1045
            client.command(QUERY, b"CACHE SET 'k' 'v'")
            assert await client.is_closed()
        async with connected(both.server.address) as other:
            assert await other.rows("CACHE GET 'k'") == [(None,)]


@pytest.mark.parametrize("has_hash", [False, True])
async def test_names_of_users_are_not_told_apart(has_hash: bool) -> None:
    """Also where some have a password and some a hash: all of them are asked for the same."""
    users: dict[bytes, Secret] = {b"ann": b"s3cret", b"bob": SLOW_HASH if has_hash else b"other"}
    async with ports(credentials=Credentials(users)) as both:
        seen = set()
        for name in (b"ann", b"bob", b"nobody"):
            async with mysql(both.address, log_in=False) as client:
                await client.read()
                client.writer.write(client.packet(HEAD + LOGIN.replace(b"ann", name)))
                seen.add((await client.read()).replace(name, b"-"))
        assert len(seen) == 1


async def test_clients_whose_user_is_removed_are_ended_whatever_they_wait_for() -> None:
    credentials = Credentials({b"ann": b"", b"bob": b"x"})
    async with ports(credentials=credentials) as both, mysql(both.address) as idle, mysql(both.address) as waiting:
        waiting.command(QUERY, b"QUEUE RESULT_BLOCKING 3600000 1")
        await until(lambda: both.server.in_flight == 1)
        credentials.replace({b"ann": b"changed", b"bob": b"x"})
        assert await idle.rows("SELECT 1")
        credentials.replace({b"bob": b"x"})
        assert await idle.is_closed()
        assert await waiting.is_closed()
        await until(lambda: not both.server.in_flight)


# Answers of SELECTs that come later


class LateSql(Answering):
    """An SQL engine that answers when the test says so."""

    def __init__(self) -> None:
        super().__init__(self._wait)
        self.waiting: list[Later] = []

    def _wait(self, _statement: Statement, _now_ms: int) -> Later:
        self.waiting.append(Ask(None))
        return self.waiting[-1]

    def answer(self, count: int) -> None:
        rows: list[tuple[int, ...]] = [(number,) for number in range(count)]
        for later in self.waiting:
            later.done(Result(Columns(("n", ColumnType.INT)), list(rows)))
        self.waiting.clear()


@pytest.mark.parametrize("count", [0, 1, 1_000, 1_001, 70_000])
async def test_late_answers_of_any_number_of_rows(count: int) -> None:
    sql = LateSql()
    async with ports(sql=sql) as both, mysql(both.address) as client, connected(both.server.address) as other:
        client.command(QUERY, b"SELECT 2")
        asked = await other.send("SELECT 2")
        await until(lambda: len(sql.waiting) == 2)
        sql.answer(count)
        packets = await client.answer()
        wanted = [b"%d" % number for number in range(count)]
        assert [row[1:] for row in packets[3:-1]] == wanted
        reply = await other.reply(asked)
        assert [row[0] for row in reply.rows] == wanted  # type: ignore[union-attr]
        assert both.server.in_flight == 0


async def test_an_answer_that_is_too_long_for_one_frame_is_an_error_there(monkeypatch: pytest.MonkeyPatch) -> None:
    sql = LateSql()
    monkeypatch.setattr(dispatcher, "MAX_SELECT_REPLY_BYTES", 50_000)
    async with ports(sql=sql) as both, mysql(both.address) as client, connected(both.server.address) as other:
        client.command(QUERY, b"SELECT 2")
        asked = await other.send("SELECT 2")
        await until(lambda: len(sql.waiting) == 2)
        sql.answer(1_500)
        assert len(await client.answer()) == 1_500 + 4
        assert "more than 50000, is not supported here" in str(await other.reply(asked))
        assert both.server.in_flight == 0


class HeldStore(SlowDurableStore):
    """A store whose tables are read on only when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.reading = asyncio.Event()
        self.go_on = asyncio.Event()

    def read_table(self, table: SystemTable) -> AsyncIterator[list[Row]]:
        return self._held(super().read_table(table))

    async def _held(self, slices: AsyncIterator[list[Row]]) -> AsyncIterator[list[Row]]:
        async for rows in slices:
            yield rows
            self.reading.set()
            await self.go_on.wait()


SELECT = "SELECT value FROM system.cache"
FAILS = "SELECT CAST(value AS INT) FROM system.cache"


@asynccontextmanager
async def selecting(
    store: HeldStore, is_mysql: bool, select: str = SELECT
) -> AsyncIterator[Callable[[], Awaitable[str]]]:
    """A client that has sent a SELECT over a table with a row that is not durable; gives what it is answered."""
    sql = SqlEngine(Ask, store)
    async with ports(store, sql) as both, mysql(both.address) as client, connected(both.server.address) as other:
        await other.send("CACHE SET 'k' 'not durable'")
        await until(lambda: store.executed)

        async def of_mysql() -> str:
            packets = await client.answer()
            return error_of(packets)[1] if packets[0][0] == ERROR else repr(packets)

        async def of_websocket() -> str:
            return repr(await other.reply(asked))

        if is_mysql:
            client.command(QUERY, select.encode())
        else:
            asked = await other.send(select)
        await store.reading.wait()
        try:
            yield of_mysql if is_mysql else of_websocket
        finally:
            store.go_on.set()
            sql.end_waits(0)


@pytest.mark.parametrize("is_mysql", [True, False], ids=["mysql", "websocket"])
async def test_a_select_that_has_read_what_was_lost_meanwhile_is_an_error(is_mysql: bool) -> None:
    store = HeldStore()
    async with selecting(store, is_mysql) as answer:
        store.lose()
        store.go_on.set()
        assert "was lost by a failed write" in await answer()


@pytest.mark.parametrize("select", [SELECT, FAILS])
@pytest.mark.parametrize("is_mysql", [True, False], ids=["mysql", "websocket"])
async def test_a_select_whose_answer_waits_for_what_is_then_lost_is_an_error(is_mysql: bool, select: str) -> None:
    store = HeldStore()
    async with selecting(store, is_mysql, select) as answer:
        store.go_on.set()
        await until(lambda: len(store._gate.waiting) == 2)
        store.lose()
        assert "was lost by a failed write" in await answer()


@pytest.mark.parametrize("select", [SELECT, FAILS])
@pytest.mark.parametrize("is_mysql", [True, False], ids=["mysql", "websocket"])
async def test_a_select_is_answered_once_what_it_has_read_is_durable(is_mysql: bool, select: str) -> None:
    """So is one that fails: its error tells of what it has read."""
    store = HeldStore()
    async with selecting(store, is_mysql, select) as answer:
        store.go_on.set()
        await until(lambda: len(store._gate.waiting) == 2)
        answering = asyncio.ensure_future(answer())
        await asyncio.sleep(0.05)
        assert not answering.done()
        store.sync()
        assert "not durable" in await answering


async def test_an_error_of_the_engine_is_told() -> None:
    def refuse(_statement: Statement, _now_ms: int) -> Result:
        raise UserError("not today")

    async with ports(sql=Answering(refuse)) as both, mysql(both.address) as client:
        assert error_of(await client.ask(QUERY, b"SELECT 2")) == (1815, "not today")


async def test_a_client_that_does_not_read_holds_nobody_up() -> None:
    async with ports() as both, mysql(both.address) as slow, mysql(both.address) as quick:
        await quick.rows(f"CACHE SET 'large' '{'x' * MIB}'")
        for _ in range(40):
            slow.command(QUERY, b"CACHE GET 'large'")
        await asyncio.sleep(0.2)
        assert await quick.rows("CACHE SET 'k' 'v'") == [b"\4true"]


async def test_any_commands_leave_the_server_well() -> None:
    draw = random.Random(7)
    async with ports() as both:
        for _ in range(60):
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, AssertionError):
                async with mysql(both.address) as client:
                    for _ in range(20):
                        client.command(
                            draw.choice([*range(32), QUERY, PREPARE, EXECUTE]), draw.randbytes(draw.randrange(40))
                        )
                    client.writer.write(draw.randbytes(40))
                    client.writer.write_eof()
                    await asyncio.wait_for(client.reader.read(), 5)
        async with mysql(both.address) as client:
            assert await client.rows("SELECT 1")
        await until(lambda: both.server.in_flight == 0)
    assert both.server.counters.internal_errors == 0
