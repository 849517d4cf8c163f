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
from cubequeue_server.requests.statement_log import request_id_of
from protocol.client_codec import encode_query
from storage.vocabulary import Result, Statement
from tests.server.client import BINARY, DRIVER, TEXT, RawClient, connected, frame, raw
from tests.server.harness import Answering, answer_one, serving, until

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


async def test_a_failure_names_the_request_and_a_refusal_only_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    def fails(_statement: Statement, _now_ms: int) -> Result:
        raise RuntimeError

    caplog.set_level(logging.INFO)
    async with serving(sql=Answering(fails)) as server, raw(server.address) as client:
        await client.upgrade()
        await ask(client, "SELECT 1", '{"requestId": "5-span-1"}')
        await ask(client, "CACHE SET 'n' 'x'")
        await ask(client, "CACHE INCR 'n'")
        [fields] = events(caplog, "statement failed")
        assert (fields["command"], fields["request_id"]) == ("sql", "5-span-1")
        assert not events(caplog, "statement refused")
        caplog.set_level(logging.DEBUG)
        await ask(client, "CACHE INCR 'n'")
        assert [each["command"] for each in events(caplog, "statement refused")] == ["incr"]


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
