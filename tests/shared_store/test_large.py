"""Values of up to 64 MB: in pieces, beside which others go on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from protocol.client_codec import Rows
from tests.needed import require
from tests.server.client import Client, connected
from tests.server.harness import until
from tests.shared_store import nodes
from tests.shared_store.nodes import EngineProcess, running
from tests.shared_store.servers import running_servers

MIB = 1 << 20


@pytest.fixture(params=nodes.PRODUCTS, ids=str)
def engine(request: pytest.FixtureRequest) -> Iterator[EngineProcess]:
    require(request.param.program, f"{request.param}-server")
    with running(request.param) as process:
        yield process


def pieces(engine: EngineProcess) -> int:
    with engine.client as client:
        return sum(1 for _ in client.scan_iter(match="*b:*", count=1_000))


async def beat(client: Client, stop: asyncio.Event, gaps_s: list[float]) -> None:
    loop = asyncio.get_running_loop()
    while not stop.is_set():
        begun_s = loop.time()
        await client.rows("QUEUE HEARTBEAT 'q:small'")
        gaps_s.append(loop.time() - begun_s)
        await asyncio.sleep(0.002)


@pytest.mark.timeout(120)
async def test_60_megabytes_go_round_and_heartbeats_go_on(engine: EngineProcess) -> None:
    payload, result = "x" * (60 * MIB), "y" * (60 * MIB)
    gaps_s: list[float] = []
    async with (
        running_servers(engine.url, 2) as servers,
        connected(servers[0].address, "one") as one,
        connected(servers[1].address, "two") as two,
        connected(servers[1].address, "beating") as beating,
    ):
        await one.rows("QUEUE ADD 'q:small' 'p'")
        await one.rows("QUEUE RETRIEVE CONCURRENCY 9 'q:small'")
        with engine.client as client:
            client.config_set("slowlog-log-slower-than", 0)
            client.config_set("slowlog-max-len", 100_000)
            client.slowlog_reset()
        stop = asyncio.Event()
        beats = asyncio.create_task(beat(beating, stop, gaps_s))
        [(id_, added, _)] = await one.rows(f"QUEUE ADD 'q:large' '{payload}'")
        assert added == b"true"
        [row] = await two.rows("QUEUE RETRIEVE CONCURRENCY 9 'q:large'")
        assert row[0] == payload.encode()
        waiting = await one.send("QUEUE RESULT_BLOCKING 60000 'q:large'")
        assert await two.rows(f"QUEUE ACK {int(id_ or 0)} '{result}'") == [(b"true",)]
        reply = await one.reply(waiting)
        assert isinstance(reply, Rows)
        assert reply.rows[0][0] == result.encode()
        stop.set()
        await beats
        with engine.client as client:
            longest = max(client.slowlog_get(100_000), key=lambda each: int(each["duration"]))
    gaps_s.sort()
    print(
        f"{len(gaps_s)} heartbeats, median {gaps_s[len(gaps_s) // 2] * 1e3:.1f} ms, longest {gaps_s[-1] * 1e3:.0f} ms;"
        f" longest command of the engine {longest['duration'] / 1e3:.1f} ms: {longest['command'][:40]!r}"
    )
    assert len(gaps_s) > 20
    assert longest["duration"] < 100_000, "a script that holds 60 MB takes 300 ms and more"


async def test_pieces_go_with_the_last_that_holds_them(engine: EngineProcess) -> None:
    value = "v" * (3 * MIB)
    async with running_servers(engine.url, 2) as servers, connected(servers[0].address, driver=None) as client:
        await client.rows(f"QUEUE ADD 'q:a' '{value}'")
        await client.rows(f"CACHE SET 'c:a' '{value}'")
        assert pieces(engine) == 12
        assert [row[4] for row in await client.rows("QUEUE LIST WITH_PAYLOAD 'q'")] == [value.encode()]
        assert await client.rows("CACHE GET 'c:a'") == [(value.encode(),)]
        await client.rows("QUEUE CANCEL 'q:a'")
        await client.rows("CACHE CLEAR")
        with engine.client as looking:
            ending = [len(looking.zrange(key, 0, -1)) for key in looking.scan_iter(match="*}bx", count=1_000)]
            orphans = [looking.scard(key) for key in looking.scan_iter(match="*}hz", count=1_000)]
        assert sum(ending) + sum(orphans) == 2, "they stay for those who read them now, and then they go"


async def test_an_upload_that_nobody_adopts_ends(engine: EngineProcess) -> None:
    async with running_servers(engine.url, 1) as [server], connected(server.address, driver=None) as client:
        await client.rows(f"QUEUE ADD 'q:a' '{'v' * MIB}'")
        await client.rows(f"QUEUE ADD 'q:a' '{'w' * MIB}'")  # it is there already
        with engine.client as looking:
            ttls = sorted(looking.ttl(key) for key in looking.scan_iter(match="*b:*", count=1_000))
        assert ttls[:2] == [-1, -1]
        assert all(0 < ttl <= 120 for ttl in ttls[2:])
        await until(lambda: server.store.large.waiting == 0)
