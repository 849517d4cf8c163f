"""What the log tells of statements and of connections that end."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import re
import time
from typing import Any

import pytest

from cubequeue_server.observe.logs import TRACE
from cubequeue_server.requests import statement_log
from cubequeue_server.requests.statement_log import request_id_of, without_texts
from protocol.client_codec import encode_query
from storage.vocabulary import Result, Statement
from tests.server.client import BINARY, DRIVER, TEXT, RawClient, connected, frame, raw
from tests.server.harness import Answering, SlowDurableStore, answer_one, serving, until

SECRET = "secret-payload"
_IDS = itertools.count(1)


def events(caplog: pytest.LogCaptureFixture, message: str) -> list[dict[str, Any]]:
    return [record.fields for record in caplog.records if record.getMessage() == message]  # type: ignore[attr-defined]


async def ask(client: RawClient, query: str, trace: str | None = None) -> None:
    await client.send(frame(BINARY, encode_query(next(_IDS), query, connection_id=DRIVER, trace=trace)))
    await client.read_reply()


def slow_sql(statement: Statement, now_ms: int) -> Result:
    time.sleep(0.03)
    return answer_one(statement, now_ms)


async def test_a_slow_statement_is_one_line_with_the_request_id(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(sql=Answering(slow_sql), slow_statement_ms=20) as server, raw(server.address) as client:
        await client.upgrade()
        await ask(client, f"SELECT '{SECRET}'", '{"requestId": "5-span-1", "instance": "x"}')
    [fields] = events(caplog, "slow statement")
    assert fields.pop("duration_ms") >= 30
    assert re.fullmatch(r"127\.0\.0\.1:\d+", fields.pop("peer"))
    assert fields.pop("message_id") > 0
    assert fields == {
        "family": "sql",
        "command": "sql",
        "query_bytes": len(f"SELECT '{SECRET}'"),
        "connection_id": DRIVER,
        "request_id": "5-span-1",
    }


@pytest.mark.parametrize(
    ("level", "count", "is_seen"),
    [(logging.INFO, 0, False), (logging.DEBUG, 1, False), (TRACE, 1, True)],
    ids=["info", "debug", "trace"],
)
async def test_payloads_are_seen_at_trace_only(
    caplog: pytest.LogCaptureFixture, level: int, count: int, is_seen: bool
) -> None:
    caplog.set_level(level)
    async with serving() as server, raw(server.address) as client:
        await client.upgrade()
        await ask(client, f"QUEUE ADD 'queue:key' '{SECRET}'")
    statements = events(caplog, "statement")
    assert len(statements) == count
    assert all((each["command"], each["key"]) == ("add", "queue:key") for each in statements)
    logged = json.dumps([getattr(record, "fields", None) for record in caplog.records]) + caplog.text
    assert (SECRET in logged) == is_seen


async def test_a_fast_statement_costs_no_line(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as server, connected(server.address) as client:
        await client.rows("QUEUE ADD 'queue:key' 'x'")
    assert not events(caplog, "slow statement")


async def test_a_failure_names_the_request(caplog: pytest.LogCaptureFixture) -> None:
    def fails(_statement: Statement, _now_ms: int) -> Result:
        raise RuntimeError

    async with serving(sql=Answering(fails)) as server, raw(server.address) as client:
        await client.upgrade()
        await ask(client, "SELECT 1", '{"requestId": "5-span-1"}')
    [fields] = events(caplog, "statement failed")
    assert (fields["command"], fields["request_id"]) == ("sql", "5-span-1")
    assert not events(caplog, "statement refused")


# A statement that is refused, and what the line says of it beside who sent it.
REFUSED: dict[str, tuple[str, dict[str, object]]] = {
    "by the store": (
        f"QUEUE ADD EXCLUSIVE 'q:k' '{SECRET}'",
        {
            "family": "queue",
            "command": "add",
            "key": "q:k",
            "error": "QUEUE ADD EXCLUSIVE requires a process_id in the connection context (x-process-id header)",
        },
    ),
    "no statement": (
        f"QUEUE NONSENSE 'q:k' '{SECRET}'",
        {"text": "QUEUE NONSENSE '…' '…'", "error": "Unknown queue command: nonsense"},
    ),
    "not closed": (
        f"QUEUE ADD 'q:k' '{SECRET}",
        {"text": "QUEUE ADD '…' '…'", "error": "Unterminated string literal at Line: 1, Column: 17"},
    ),
    "a text in the error": (
        f"CACHE SET TTL '{SECRET}' 'k' 'v'",
        {"text": "CACHE SET TTL '…' '…' '…'", "error": "Expected: literal number, found: '…' at Line: 1, Column: 15"},
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_refused_statement_is_a_warning_that_says_who_sent_it_and_no_text(
    caplog: pytest.LogCaptureFixture, name: str
) -> None:
    text, wanted = REFUSED[name]
    async with serving() as server, raw(server.address) as client:
        await client.upgrade()
        await ask(client, text, '{"requestId": "5-span-1"}')
    [record] = [record for record in caplog.records if record.getMessage() == "statement refused"]
    assert record.levelname == "WARNING"
    fields = record.fields  # type: ignore[attr-defined]
    assert re.fullmatch(r"127\.0\.0\.1:\d+", fields.pop("peer"))
    assert fields.pop("message_id") > 0
    assert fields == {**wanted, "number": 1, "connection_id": DRIVER, "request_id": "5-span-1"}
    assert SECRET not in caplog.text


async def test_a_refusal_that_comes_later_is_told_too(caplog: pytest.LogCaptureFixture) -> None:
    store = SlowDurableStore()
    async with serving(store) as server, connected(server.address, x_process_id="process-1") as client:
        id_ = await client.send("QUEUE ADD 'q:k' 'x'")
        await until(lambda: server.in_flight == 1)
        store.lose()
        await client.reply(id_)
    [fields] = events(caplog, "statement refused")
    assert (fields["command"], fields["process_id"]) == ("add", "process-1")


async def test_no_client_floods_the_log_with_refusals(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as server, raw(server.address) as client:
        await client.upgrade()
        for _ in range(100):
            await ask(client, "QUEUE NONSENSE")
    assert [each["number"] for each in events(caplog, "statement refused")] == [1, 2, 4, 8, 16, 32, 64]


async def test_many_connections_do_not_flood_it_either(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statement_log, "_REFUSALS_A_SECOND", 0.0)
    async with serving() as server:
        for _ in range(statement_log.REFUSALS_AT_ONCE + 1):
            async with raw(server.address) as client:
                await client.upgrade()
                await ask(client, "QUEUE NONSENSE")
    assert len(events(caplog, "statement refused")) == statement_log.REFUSALS_AT_ONCE
    assert server.counters.syntax_errors == statement_log.REFUSALS_AT_ONCE + 1


def test_a_rate_admits_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    rate = statement_log.Rate(2, 0.5)
    assert [rate.admit() for _ in range(3)] == [True, True, False]
    now_s += 1.9
    assert not rate.admit()
    now_s += 0.2
    assert [rate.admit() for _ in range(2)] == [True, False]
    now_s += 1000
    assert [rate.admit() for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize(
    ("statement", "shown"),
    [
        (b"QUEUE ADD 'a' 'b'", "QUEUE ADD '…' '…'"),
        (b"QUEUE ADD 'it''s' b", "QUEUE ADD '…' b"),
        (b"QUEUE ADD 'it\\'s' b", "QUEUE ADD '…' b"),
        (b"QUEUE ADD 'say \"x\"' b", "QUEUE ADD '…' b"),
        (b'SELECT "it\'s" b', "SELECT '…' b"),
        (b"SELECT 'open", "SELECT '…'"),
        (b"SELECT 'open\\", "SELECT '…'"),
        (b"x" * 5_000, "x" * 800),
        (b"SELECT '" + b"x" * 5_000, "SELECT '…'"),
        (b"'\xff\xff' \xff", "'…' \N{REPLACEMENT CHARACTER}"),
    ],
)
def test_a_statement_is_shown_without_its_texts(statement: bytes, shown: str) -> None:
    assert without_texts(statement) == shown


@pytest.mark.parametrize(
    ("trace", "request_id"),
    [
        (None, None),
        (b'{"requestId": "r"}', "r"),
        (b'{"requestId": 5}', None),
        (b'{"instance": "x"}', None),
        (b"[]", None),
        (b"no json", None),
        (b"\xff", None),
        (b"[" * 4000, None),
        (b'{"requestId": "' + b"x" * 5000 + b'"}', None),
    ],
)
def test_the_request_id_of_a_trace(trace: bytes | None, request_id: str | None) -> None:
    assert request_id_of(trace) == request_id


async def last_end(caplog: pytest.LogCaptureFixture) -> tuple[str, dict[str, Any]]:
    await until(lambda: events(caplog, "connection ended"))
    [record] = [record for record in caplog.records if record.getMessage() == "connection ended"]
    return record.levelname, record.fields  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("sent", "level", "cause", "in_flight"),
    [
        (frame(TEXT, b"x"), "WARNING", "violation", 0),
        (frame(8, b"\x03\xea"), "INFO", "client", 0),
        (b"\xff" * 14, "WARNING", "violation", 0),
        (frame(BINARY, encode_query(1, "QUEUE RESULT_BLOCKING 60000 'q:a'")) + frame(8, b""), "INFO", "client", 1),
    ],
    ids=["text", "close", "reserved", "waiting"],
)
async def test_an_end_with_its_cause(
    caplog: pytest.LogCaptureFixture, sent: bytes, level: str, cause: str, in_flight: int
) -> None:
    caplog.set_level(logging.INFO)
    async with serving() as server, raw(server.address) as client:
        await client.upgrade()
        await client.send(sent)
        await client.read_to_end()
        client.writer.close()
        levelname, fields = await last_end(caplog)
    assert (levelname, fields["cause"]) == (level, cause)
    assert fields["in_flight"] == in_flight
    assert re.fullmatch(r"127\.0\.0\.1:\d+", fields["peer"])
    assert 0 <= fields["open_s"] < 10


async def test_ends_that_the_server_or_the_network_make(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with serving(ping_interval_s=0.05, pong_timeout_s=0.1) as server, raw(server.address) as client:
        await client.upgrade()
        await client.read_to_end()
        assert (await last_end(caplog))[1]["cause"] == "silent"
    caplog.clear()
    async with serving() as server:
        async with raw(server.address) as client:
            await client.upgrade()
        assert (await last_end(caplog))[1]["cause"] == "lost"
    caplog.clear()
    async with serving() as server, connected(server.address):
        await server.stop()
        assert (await last_end(caplog))[1]["cause"] == "stopping"
        await asyncio.sleep(0)
