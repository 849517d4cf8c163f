"""Requests to answers on one connection (wire.md §2, §3, §5)."""

from __future__ import annotations

import asyncio
import logging

import pytest
import uvloop

from cubequeue_server.engines.sql.engine import SqlEngine
from cubequeue_server.observe.counters import count
from cubequeue_server.requests.ask import Ask
from protocol.client_codec import ArrowReply, ErrorReply, Rows, encode_query
from protocol.decode import decode_request
from protocol.errors import DecodeError
from protocol.session import Session
from storage.asking import Caller, Later
from storage.errors import UserError
from storage.vocabulary import (
    CacheGet,
    CacheSet,
    Columns,
    ColumnType,
    OtherSql,
    QueueAdd,
    RequestKey,
    Result,
    Statement,
    SysForeign,
)
from tests.server.client import BINARY, connected, frame, raw
from tests.server.harness import FIRST_ID, Answering, WatchedStore, serving, until


async def test_a_life_cycle() -> None:
    async with serving() as server, connected(server.address) as client:
        id_ = str(FIRST_ID)
        key = id_.encode()
        assert await client.rows("QUEUE ADD PRIORITY 1 'q:a' ?", [b"payload"]) == [(key, b"true", b"1")]
        assert await client.rows("QUEUE RETRIEVE CONCURRENCY 1 'q:a'") == [(b"payload", None, b"0", b"a", key)]
        waiting = await client.send(f"QUEUE RESULT_BLOCKING 10000 {id_}")
        assert await client.rows(f"QUEUE ACK {id_} 'result'") == [(b"true",)]
        assert await client.reply(waiting) == Rows(
            waiting, ("payload", "type", "id", "external_id"), [(b"result", b"success", key, None)]
        )
        assert count(server.counters.durations[QueueAdd]) == 1


async def test_the_row_of_an_item_says_who_claimed_it() -> None:
    store = WatchedStore()
    async with (
        serving(store, SqlEngine(Ask, store)) as server,
        connected(server.address) as one,
        connected(server.address, "2", x_process_id="worker-1") as worker,
    ):
        await one.rows("QUEUE ADD 'q:a' 'p'")
        who = "SELECT id, claimed_by, claimed_peer FROM system.queue"
        assert await one.rows(who) == [(b"a", None, None)]
        await worker.rows("QUEUE RETRIEVE CONCURRENCY 9 'q:a'")
        host, port = worker.websocket.local_address[:2]
        assert await one.rows(who) == [(b"a", b"worker-1", f"{host}:{port}".encode())]
        await one.rows("QUEUE ADD 'q:b' 'p'")
        await one.rows("QUEUE RETRIEVE CONCURRENCY 9 'q:b'")
        assert (await one.rows(f"{who} WHERE id = 'b'"))[0][1] is None, "it said no process id"


async def test_requests_of_one_read_run_in_order() -> None:
    store = WatchedStore()
    queries = [f"CACHE SET 'k' '{number}'" for number in range(500)]
    async with serving(store) as server, raw(server.address) as client:
        await client.upgrade()
        await client.send(b"".join(frame(BINARY, encode_query(id_, query)) for id_, query in enumerate(queries)))
        assert [(await client.read_reply()).message_id for _ in queries] == list(range(500))
        values = [statement.value for statement in store.executed if isinstance(statement, CacheSet)]
        assert values == [b"%d" % number for number in range(500)]


async def test_answers_of_any_size() -> None:
    async with serving() as server, connected(server.address) as client:
        for size in (0, 1, 50, 125, 126, 60_000, 65_536, 200_000, 5_000_000):
            await client.ask("CACHE SET 'a' ?", [b"x" * size])
            assert await client.rows("CACHE GET 'a'") == [(b"x" * size,)]


async def test_a_syntax_error_is_answered() -> None:
    async with serving() as server, connected(server.address) as client:
        assert await client.ask("QUEUE FOO") == ErrorReply(1, 'Internal: ParserError("Unknown queue command: foo")')
        assert server.counters.syntax_errors == 1


async def test_a_refused_statement_is_answered() -> None:
    async with serving() as server, connected(server.address) as client:
        await client.ask("CACHE SET 'a' 'x'")
        assert await client.ask("CACHE INCR 'a'") == ErrorReply(2, "Internal: invalid digit found in string")
        assert server.counters.statement_errors == 1


@pytest.mark.parametrize("waits", [False, True])
async def test_a_message_gets_one_answer_when_its_proof_of_arrival_fails(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, waits: bool
) -> None:
    """What fails behind the sending of an answer does not send an error as a second answer."""

    def fail(_self: Session, _key: RequestKey, _size_bytes: int) -> bool:
        raise RuntimeError("no proof")

    monkeypatch.setattr(Session, "sent", fail)
    async with serving() as server, raw(server.address) as client, connected(server.address, "other") as other:
        await client.upgrade()
        if waits:
            await other.rows("QUEUE ADD 'q:a' 'p'")
            await other.rows("QUEUE RETRIEVE 'q:a'")
            await client.send(frame(BINARY, encode_query(1, "QUEUE RESULT_BLOCKING 10000 'q:a'", connection_id="c")))
            await until(lambda: server.in_flight == 1)
            await other.rows("QUEUE ACK 'q:a' 'r'")
        else:
            await client.send(frame(BINARY, encode_query(1, "CACHE INCR 'a'", connection_id="c")))
        await client.send(frame(BINARY, encode_query(2, "CACHE GET 'b'", connection_id="c")))
        replies = [await client.read_reply(), await client.read_reply()]
        assert [(type(reply), reply.message_id) for reply in replies] == [(Rows, 1), (Rows, 2)]
        assert server.in_flight == 0
    assert server.counters.internal_errors == len(caplog.records) > 0


async def test_other_sql_goes_to_the_sql_engine() -> None:
    asked: list[Statement] = []

    def answer(statement: Statement, _now_ms: int) -> Result:
        asked.append(statement)
        if isinstance(statement, SysForeign):
            raise UserError("not here")
        return Result(Columns(), ())

    async with serving(sql=Answering(answer)) as server, connected(server.address) as client:
        assert await client.ask("SET x = 1") == Rows(1, (), [])
        assert await client.ask("SYS METASTORE COMPACTION") == ErrorReply(2, "not here")
        assert asked == [OtherSql(b"SET x = 1"), SysForeign("METASTORE COMPACTION")]


async def test_arrow_is_given_to_those_who_ask() -> None:
    async with serving() as server, connected(server.address) as client:
        reply = await client.ask("CACHE GET 'a'", format_=1)
        assert isinstance(reply, ArrowReply)
        assert reply.stream
        assert await client.ask("CACHE REMOVE 'a'", format_=1) == ArrowReply(2, None)
        waiting = await client.ask("QUEUE RESULT_BLOCKING 1 5", format_=1)
        assert isinstance(waiting, ArrowReply)


async def test_an_unknown_format_is_refused_before_the_statement_runs() -> None:
    store = WatchedStore()
    async with serving(store) as server, connected(server.address) as client:
        assert await client.ask("CACHE INCR 'a'", format_=2) == ErrorReply(1, "Unsupported response_format: 2")
        assert store.executed == []


async def test_an_undecodable_message_is_ignored_when_it_has_no_id(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as server, raw(server.address) as client:
        await client.upgrade()
        await client.send(frame(BINARY, b"") + frame(BINARY, b"\xff" * 40) * 4)
        await client.send(frame(BINARY, encode_query(7, "CACHE GET 'a'")))
        assert await client.read_reply() == Rows(7, ("value",), [(None,)])
        assert server.counters.undecodable == 5
        assert len(caplog.records) == 3  # the 1st, 2nd and 4th


async def test_an_undecodable_message_is_answered_when_it_has_one() -> None:
    async with serving() as server, raw(server.address) as client:
        await client.upgrade()
        await client.send(frame(BINARY, encode_query(7, "CACHE GET 'a'").replace(b"CACHE", b"\xff\xff\xff\xff\xff")))
        reply = await client.read_reply()
        assert isinstance(reply, ErrorReply)
        assert reply.message_id == 7
        assert reply.text.startswith("Internal: Undecodable message")
        await client.send(frame(BINARY, encode_query(8, "CACHE GET 'a'")))
        assert (await client.read_reply()).message_id == 8


async def test_a_wrong_command_is_answered_and_closes() -> None:
    query = encode_query(7, "CACHE GET 'a'")
    command_type_at = next(
        at for at in range(len(query)) if query[at] == 1 and is_error_with(query[:at] + b"\3" + query[at + 1 :])
    )
    async with serving() as server, raw(server.address) as client:
        await client.upgrade()
        await client.send(frame(BINARY, query[:command_type_at] + b"\3" + query[command_type_at + 1 :]))
        assert await client.read_reply() == ErrorReply(7, "Internal: Unexpected command: HttpError")
        assert (await client.read_close())[0] == 1003


def is_error_with(message: bytes) -> bool:
    try:
        decode_request(message)
    except DecodeError as error:
        return error.closes
    return False


class FailingStore(WatchedStore):
    """A store with a bug."""

    def execute(
        self, statement: Statement, caller: Caller, request_key: RequestKey | None, now_ms: int
    ) -> Result | Later:
        if isinstance(statement, CacheGet):
            raise KeyError("surprise")
        return super().execute(statement, caller, request_key, now_ms)


async def test_what_nobody_foresaw_is_an_error_of_one_request(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(FailingStore()) as server, connected(server.address) as client:
        reply = await client.ask("CACHE GET 'a'")
        assert reply == ErrorReply(1, "Internal: unexpected KeyError, see the log of cubequeue")
        assert isinstance(await client.ask("CACHE INCR 'a'"), Rows)
        assert server.counters.internal_errors == 1
        assert any(record.exc_info and "surprise" in str(record.exc_info[1]) for record in caplog.records)


async def test_an_answer_that_cannot_be_encoded(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)

    def nonsense(_statement: Statement, _now_ms: int) -> Result:
        return Result(Columns(("x", ColumnType.STRING)), ((object(),),))  # type: ignore[arg-type]

    async with serving(sql=Answering(nonsense)) as server, connected(server.address) as client:
        reply = await client.ask("SELECT 1")
        assert isinstance(reply, ErrorReply)
        assert reply.text.startswith("Internal: unexpected ")
        await client.settle()


async def test_one_past_the_requests_in_flight() -> None:
    async with serving(max_in_flight=3) as server, connected(server.address) as client:
        for _ in range(3):
            await client.send("QUEUE RESULT_BLOCKING 60000 5")
        reply = await client.ask("CACHE GET 'a'")
        assert reply == ErrorReply(4, "3 requests of this connection wait for an answer, the limit is 3")
        assert server.counters.overloaded == 1


async def test_500_waiters_and_as_many_others_on_one_connection() -> None:
    async with serving() as server, connected(server.address) as client:
        ids = [FIRST_ID + number for number in range(500)]
        for id_ in ids:
            await client.ask(f"QUEUE ADD 'q:{id_}' 'p'")
        waiters = [await client.send(f"QUEUE RESULT_BLOCKING 20000 {id_}") for id_ in ids]
        await client.settle()
        assert server.in_flight == 500
        acks = [await client.send(f"QUEUE ACK {id_} 'r{id_}'") for id_ in reversed(ids)]
        for id_, waiter in zip(ids, waiters, strict=True):
            reply = await client.reply(waiter)
            assert isinstance(reply, Rows)
            assert reply.rows[0][0] == b"r%d" % id_
        for ack in acks:
            await client.reply(ack)
        assert server.in_flight == 0
        assert all(len(replies) == 1 for replies in client.replies.values())


async def test_a_waiter_of_another_connection_is_woken_at_once() -> None:
    async with serving() as server, connected(server.address) as one, connected(server.address, driver="2") as two:
        await one.ask("QUEUE ADD 'q:a' 'p'")
        waiter = await one.send(f"QUEUE RESULT_BLOCKING 20000 {FIRST_ID}")
        await one.settle()
        started = asyncio.get_running_loop().time()
        await two.ask(f"QUEUE ACK {FIRST_ID} 'r'")
        await one.reply(waiter)
        assert asyncio.get_running_loop().time() - started < 1


async def test_a_wait_ends_in_time_and_not_before() -> None:
    loop = asyncio.get_running_loop()
    async with serving() as server, connected(server.address) as client:
        started = loop.time()
        assert await client.rows("QUEUE RESULT_BLOCKING 100 5") == []
        assert 0.1 <= loop.time() - started < 0.5


@pytest.mark.parametrize("timeout_ms", [2**31, 2**53, 2**64 - 1])
async def test_a_wait_may_be_asked_to_last_for_ever(timeout_ms: int) -> None:
    async with serving() as server, connected(server.address) as client:
        await client.send(f"QUEUE RESULT_BLOCKING {timeout_ms} 5")
        await client.settle()
        assert server.in_flight == 1
        assert server.counters.internal_errors == 0


async def test_the_store_is_ticked() -> None:
    store = WatchedStore()
    async with serving(store, tick_interval_s=0.01):
        await asyncio.sleep(0.2)
        assert 5 <= store.ticks <= 30


async def test_a_store_with_more_to_do_is_ticked_again_soon() -> None:
    class BusyStore(WatchedStore):
        def tick(self, now_ms: int, max_rows: int) -> bool:
            super().tick(now_ms, max_rows)
            return self.ticks < 20

    store = BusyStore()
    async with serving(store, tick_interval_s=60) as server, connected(server.address) as client:
        while store.ticks < 20:
            await client.settle()
        await asyncio.sleep(0.05)
        assert store.ticks == 20


def test_it_also_serves_on_the_plain_asyncio_loop() -> None:
    async def talk() -> None:
        async with serving() as server, connected(server.address) as client:
            await client.ask("CACHE SET 'a' ?", [b"x" * 1_000_000])
            assert await client.rows("CACHE GET 'a'") == [(b"x" * 1_000_000,)]
            assert await client.rows("QUEUE RESULT_BLOCKING 20 5") == []
            await server.stop()
            assert (await client.closed())[0] == 1012

    with asyncio.Runner() as runner:
        assert not isinstance(runner.get_loop(), uvloop.Loop)
        runner.run(talk())
