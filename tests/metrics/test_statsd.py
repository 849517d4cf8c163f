"""What arrives at a StatsD that listens on UDP."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cubequeue_server.observe.metrics import statsd
from cubequeue_server.observe.metrics.statsd import Statsd, datagrams
from cubequeue_server.settings.resolve import StatsdTarget, load_settings
from cubequeue_server.settings.values import Endpoint
from storage.vocabulary import (
    CacheGet,
    CacheSet,
    OtherSql,
    QueueAdd,
    QueueClear,
    QueueOrphaned,
    QueueStalled,
    QueueToCancel,
)
from tests.cli.running import serving
from tests.metrics.scenery import Scene


@contextmanager
def listening() -> Iterator[tuple[socket.socket, Endpoint]]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(10)
        yield receiver, Endpoint(*receiver.getsockname())


async def received_lines(scene: Scene, with_tags: bool) -> list[str]:
    """What is sent: `cs.startup`, and what the scene adds to it."""
    with listening() as (receiver, endpoint):
        receiver.setblocking(False)
        loop = asyncio.get_running_loop()
        sender = Statsd(StatsdTarget(endpoint, "127.0.0.1", with_tags), scene.sources)
        sender.start()
        lines = (await asyncio.wait_for(loop.sock_recv(receiver, 65_536), 10)).decode().split("\n")
        scene.run(CacheSet(b"k", b"v"), duration_ns=3_000_000)
        scene.run(*(QueueAdd(b"q:%d" % number, b"") for number in range(3)), duration_ns=1_500_000)
        scene.run(QueueStalled(b"q", 1), QueueOrphaned(b"q", 1), QueueToCancel(b"q", 1, 1), QueueClear())
        lines += (await asyncio.wait_for(loop.sock_recv(receiver, 65_536), 10)).decode().split("\n")
        sender.stop()
        return lines


def test_dogstatsd_gets_counters_and_timings_with_their_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statsd, "_INTERVAL_S", 0.05)
    lines = asyncio.run(received_lines(Scene(), with_tags=True))
    assert lines[0] == "cs.startup:1|c"
    assert {
        "cs.sql.query.queue:3|c|#command:add",
        "cs.sql.query.queue.ms:1.57286|ms|@0.333333333|#command:add",
        "cs.sql.query.cache:1|c|#command:set",
        "cs.sql.query.cache.ms:3.14573|ms|#command:set",
        "cs.sql.query.queue:1|c|#command:clear",
    } <= set(lines)
    assert lines.count("cs.sql.query.queue:1|c|#command:to_cancel") == 3
    assert not [line for line in lines if line.startswith("cs.sql.query.queue.ms") and "clear" in line]


def test_statsd_gets_no_tags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statsd, "_INTERVAL_S", 0.05)
    lines = asyncio.run(received_lines(Scene(), with_tags=False))
    assert "cs.sql.query.queue:3|c" in lines
    assert all(re.fullmatch(r"cs\.[a-z._]+:[\d.]+\|(c|ms)(\|@[\d.]+)?", line) for line in lines)


def test_only_changes_are_sent_and_eviction_is_counted() -> None:
    scene = Scene()
    sender = Statsd(StatsdTarget(Endpoint("127.0.0.1", 9), "", True), scene.sources)
    scene.run(CacheSet(b"k", b"value", 1))
    scene.now_ms += 2_000
    scene.store.tick(scene.now_ms, 100)
    scene.counters.durations[OtherSql][10] += 1
    lines = list(sender._changes())
    assert "cs.cachestore.eviction.expired.keys:1|c" in lines
    assert "cs.sql.query.data:1|c" in lines
    assert not list(sender._changes())
    scene.run(CacheGet(b"k"), CacheGet(b"k"))
    assert "cs.sql.query.cache:2|c|#command:get" in list(sender._changes())


def test_datagrams_are_small_and_lose_nothing() -> None:
    lines = [f"cs.name.{number}:1|c" for number in range(500)]
    sent = list(datagrams(lines))
    assert max(map(len, sent)) <= 1_400
    assert b"\n".join(sent).decode().split("\n") == lines


def test_it_is_off_unless_asked_for() -> None:
    assert load_settings({}, {}).settings.statsd is None
    variables = {"CUBESTORE_METRICS_FORMAT": "dogstatsd", "CUBESTORE_METRICS_ADDRESS": "statsd.internal"}
    target = load_settings({}, variables).settings.statsd
    assert target == StatsdTarget(Endpoint("statsd.internal", 8125), "", with_tags=True)


def test_a_real_server_sends_to_it() -> None:
    with listening() as (receiver, endpoint):
        variables = {"CUBESTORE_METRICS_PORT": str(endpoint.port), "CUBESTORE_METRICS_BIND_ADDRESS": "127.0.0.1"}
        with serving("--durability", "memory", **variables):
            data, (host, _) = receiver.recvfrom(65_536)
            assert data.split(b"\n")[0] == b"cs.startup:1|c"
            assert host == "127.0.0.1"


def test_a_target_that_is_not_there_does_not_stop_a_server() -> None:
    with serving("--durability", "memory", CUBESTORE_METRICS_ADDRESS="no.such.host.invalid") as server:
        assert server.get("/readyz")[0] == 200
