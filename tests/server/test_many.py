"""As many connections as the default allows, at once: they are all served, none beyond, and all is given back."""

from __future__ import annotations

import asyncio
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.client_codec import Rows, decode_reply, encode_query
from tests.cli.running import serving
from tests.server.client import BINARY, PING, PONG, UPGRADE, RawClient, frame

MANY = 10_000
GET = frame(BINARY, encode_query(1, "CACHE GET 'a'"))
EMPTY = Rows(1, ("value",), [(None,)])


def resident_mib(process_id: int) -> float:
    pages = int(Path(f"/proc/{process_id}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


async def connect(address: tuple[str, int]) -> RawClient:
    client = RawClient(*await asyncio.open_connection(*address, limit=4096))
    await client.send(UPGRADE)
    return client


async def ask_all(clients: list[RawClient]) -> None:
    for client in clients:
        client.writer.write(GET)
    for client in clients:
        opcode, payload = await client.read_frame()
        while opcode == PING:  # on a busy machine all this takes long enough for some
            await client.send(frame(PONG, payload))
            opcode, payload = await client.read_frame()
        assert decode_reply(payload) == EMPTY


async def fill(address: tuple[str, int]) -> list[RawClient]:
    clients: list[RawClient] = []
    for _ in range(MANY // 100):
        batch = await asyncio.gather(*(connect(address) for _ in range(100)))
        for client in batch:
            assert (await client.read_head()).startswith(b"HTTP/1.1 101 ")
        clients += batch
    return clients


async def talk(address: tuple[str, int], process_id: int) -> tuple[float, float]:
    """How long one round of all takes, and MiB of the server that each thousand of them costs."""
    loop = asyncio.get_running_loop()
    idle = resident_mib(process_id)
    clients = await fill(address)
    started = loop.time()
    await ask_all(clients)
    round_s = loop.time() - started
    cost = (resident_mib(process_id) - idle) / (MANY / 1000)
    refused = await connect(address)
    assert (await refused.read_head()).startswith(b"HTTP/1.1 503 ")
    refused.writer.close()
    for client in clients:
        client.writer.transport.abort()
    for _ in range(200):
        newcomer = await connect(address)
        if (await newcomer.read_head()).startswith(b"HTTP/1.1 101 "):
            break
        newcomer.writer.close()
        await asyncio.sleep(0.05)
    await ask_all([newcomer])
    newcomer.writer.close()
    return round_s, cost


@pytest.fixture
def enough_files() -> Iterator[None]:
    """Room for the clients' ends of the connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < MANY + 200:
        pytest.skip(f"only {hard} files may be open at once (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("enough_files")
def test_ten_thousand_connections() -> None:
    # The log is read at the end only: a line for each connection would fill its pipe.
    with serving("--max-connections", str(MANY), "--log-level", "warn") as server:
        round_s, cost = asyncio.run(talk(server.ws, server.process.pid))
        code, _, log = server.end(signal.SIGTERM)
    assert code == 0
    assert '"level": "error"' not in log
    print(f"\n{MANY} connections: one round {round_s:.2f} s, {cost:.1f} MiB a thousand")
    assert round_s < 20
    assert cost < 60
