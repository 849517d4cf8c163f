"""`cubequeue serve` with CUBEQUEUE_STORE: what it prints, its probes and pages, and how its start is refused."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.client_codec import Rows
from tests.cli.running import Running, run, serving
from tests.needed import require
from tests.server.client import connected
from tests.shared_store import nodes
from tests.shared_store.nodes import EngineProcess, free_port, running
from tests.upstream.harness import InThread
from tests.upstream.stand_in import StandIn

PASSES = "SELECT * FROM prod.orders"


@pytest.fixture
def engine() -> Iterator[EngineProcess]:
    require(nodes.VALKEY.program, "valkey-server")
    with running(nodes.VALKEY) as process:
        yield process


def url(server: Running) -> str:
    return f"ws://127.0.0.1:{server.ws[1]}"


def until_status(server: Running, path: str, status: int) -> bytes:
    ends_s = time.monotonic() + 20
    while True:
        got, body = server.get(path)
        if got == status:
            return body
        assert time.monotonic() < ends_s, (got, body)
        time.sleep(0.05)


def test_two_servers_from_start_to_stop(engine: EngineProcess) -> None:
    with serving(CUBEQUEUE_STORE=engine.url) as one, serving(CUBEQUEUE_STORE=engine.url) as two:
        added = run("sql", "--url", url(one), "QUEUE ADD 'q:a' 'payload'")
        assert added.returncode == 0, added.stderr
        listed = run("sql", "--url", url(two), "--json", "SELECT prefix, id, status, value FROM system.queue")
        assert json.loads(listed.stdout.splitlines()[-1]) == [
            {"prefix": "q", "id": "a", "status": "Pending", "value": "payload"}
        ]
        assert run("queues", "--url", url(two)).returncode == 0
        for server in (one, two):
            until_status(server, "/readyz", 200)
            until_status(server, "/", 200)
            for path in ("/metrics", "/api/queues"):
                status, body = server.get(path)
                assert status == 200, (path, body)
            text = server.get("/metrics")[1].decode()
            assert 'cubequeue_queue_items{queue="q",state="pending"} 1.0' in text
            assert "cubequeue_store_primaries 1.0" in text
        for server in (one, two):
            code, _, errors = server.end(signal.SIGTERM)
            assert code == 0, errors
            assert "Traceback" not in errors
            assert "cannot be used" not in errors


def test_a_shared_store_goes_with_an_upstream_cubestore(engine: EngineProcess) -> None:
    async def ask(server: Running) -> list[object]:
        async with connected(server.ws) as client:
            return [await client.ask(text) for text in (PASSES, "CACHE SET 'q:c' 'value'", "CACHE GET 'q:c'")]

    with InThread(StandIn("1.7.43")) as stand_in:
        upstream = f"ws://127.0.0.1:{stand_in.port}"
        with serving(CUBEQUEUE_STORE=engine.url, CUBEQUEUE_UPSTREAM=upstream) as server:
            passed, _, cached = asyncio.run(ask(server))
            code, _, errors = server.end(signal.SIGTERM)
    assert isinstance(passed, Rows)
    assert isinstance(cached, Rows)
    assert list(cached.rows) == [(b"value",)]
    assert code == 0, errors
    assert "the cache is in a shared store" in errors


def test_a_store_that_is_away_is_told_by_the_probe() -> None:
    port = free_port()
    with serving(CUBEQUEUE_STORE=f"valkey://127.0.0.1:{port}") as server:
        until_status(server, "/readyz", 500)
        assert server.get("/livez")[0] == 200
        code, _, errors = server.end(signal.SIGTERM)
        assert code == 0, errors
        assert "connection refused" in errors


def test_a_store_that_must_not_be_used_ends_the_start(tmp_path: Path) -> None:
    require(nodes.VALKEY.program, "valkey-server")
    with running(nodes.VALKEY, "--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru") as engine:
        refused = run("serve", CUBEQUEUE_STORE=engine.url)
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1] == (
        f"cubequeue: cannot use the store at 127.0.0.1:{engine.port}: it evicts with allkeys-lru, which loses queue"
        " rows: set maxmemory-policy to noeviction or volatile-ttl"
    )


def test_a_password_file_that_cannot_be_read_ends_the_start(tmp_path: Path) -> None:
    missing = tmp_path / "password"
    refused = run("serve", CUBEQUEUE_STORE="valkey://127.0.0.1:1", CUBEQUEUE_STORE_PASSWORD_FILE=str(missing))
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1] == (
        f"cubequeue: cannot read the password of the store in {missing}: No such file or directory"
    )
