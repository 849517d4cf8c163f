"""`system.connections` and SHOW PROCESSLIST, and the log line of a new connection."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from cubequeue_server.access.credentials import Credentials
from cubequeue_server.client_names import ClientNames
from cubequeue_server.connections import COLUMNS, Connections
from cubequeue_server.engines.sql.engine import SqlEngine
from cubequeue_server.mysql.listener import MysqlListener
from cubequeue_server.requests.ask import Ask
from cubequeue_server.server import Server
from cubequeue_server.settings.values import Endpoint
from tests.asking import rows_of
from tests.server.client import connected
from tests.server.harness import WatchedStore, serving, until
from tests.server.mysql_client import error_of, mysql

NAMES = {"worker-uuid": "worker-1"}


class Ports:
    """A server, its store and its connections."""

    def __init__(self, server: Server, store: WatchedStore) -> None:
        self.server = server
        self.store = store

    async def rows(self) -> list[dict[str, Any]]:
        rows = await rows_of(self.server.connections.read(self.store))
        return [dict(zip(COLUMNS.names, row, strict=True)) for row in rows]


@asynccontextmanager
async def ports(**options: Any) -> AsyncIterator[Ports]:
    store = WatchedStore()
    connections = Connections(ClientNames(NAMES))
    sql = SqlEngine(Ask, store, connections=connections)
    async with serving(store, sql, connections=connections, **options) as server:
        yield Ports(server, store)


async def test_a_connection_with_what_it_does_and_holds() -> None:
    async with ports() as both:
        async with (
            connected(
                both.server.address, driver="driver-1", x_process_id="worker-uuid", user_agent="tool/1.0"
            ) as client,
            connected(both.server.address),
        ):
            await client.rows("QUEUE ADD PRIORITY 1 'q:a' 'x'")
            await client.rows("QUEUE RETRIEVE CONCURRENCY 1 'q:a'")
            await client.ask("QUEUE RESULT 'no such")
            await client.send("QUEUE RESULT_BLOCKING 10000 'q:a'")
            await until(lambda: both.store.gauges()["waiters"])
            first, second = await both.rows()
            assert first["name"] == b"worker-1"
            assert first["process_id"] == b"worker-uuid"
            assert (first["protocol"], first["agent"]) == (b"websocket", b"tool/1.0")
            assert first["connection_id"] == b"driver-1"
            assert [first[name] for name in ("statements", "errors", "in_flight", "waiting", "holds")] == [
                3,
                1,
                1,
                1,
                1,
            ]
            assert first["last_error"]
            assert min(first["bytes_in"], first["bytes_out"]) > 100
            assert [second[name] for name in ("statements", "errors", "holds", "name")] == [0, 0, 0, None]
            assert second["id"] == first["id"] + 1
            await client.rows("QUEUE ACK 'q:a' 'done'")
            [first, _] = await both.rows()
            assert [first[name] for name in ("in_flight", "waiting", "holds")] == [0, 0, 0]
        await until(lambda: not both.server.counters.connections)
        assert await both.rows() == []


async def test_select_and_show_processlist() -> None:
    async with ports() as both, connected(both.server.address, x_process_id="worker-uuid") as client:
        query = "SELECT id, name, protocol, in_flight FROM system.connections"
        assert await client.rows(query) == [(b"1", b"worker-1", b"websocket", b"1")]
        for text in ("SHOW PROCESSLIST", " show  full processlist ; "):
            [row] = await client.rows(text)
            assert (row[0], row[3:5], row[7]) == (b"1", (b"websocket", b"Query"), b"worker-1")


async def test_a_mysql_client_is_a_connection_with_its_user() -> None:
    async with ports() as both:
        listener = MysqlListener(Endpoint("127.0.0.1", 0), both.server, Credentials(), 1 << 20)
        await listener.start()
        try:
            async with mysql(listener.address) as client:
                await client.rows("SELECT 1")
                assert error_of(await client.ask(3, b"QUEUE RESULT"))
                [row] = await both.rows()
                assert (row["protocol"], row["user"]) == (b"mysql", b"ann")
                assert (row["statements"], row["errors"], row["in_flight"]) == (1, 1, 0)
                assert min(row["bytes_in"], row["bytes_out"]) > 0
            await until(lambda: not both.server.connections._open)
        finally:
            await listener.stop()


async def test_a_new_connection_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "cubequeue_server.server"):
        async with ports() as both, connected(both.server.address, x_process_id="worker-uuid"):
            await asyncio.sleep(0)
    [record] = [each for each in caplog.records if each.getMessage() == "client connected"]
    fields = vars(record)["fields"]
    assert (fields["process_id"], fields["name"], fields["connection"]) == ("worker-uuid", "worker-1", 1)
