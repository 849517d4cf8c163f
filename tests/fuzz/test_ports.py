"""All ports of one real server are sent bytes that nearly are what they expect; another client must not notice.

HEARTBEAT of that client is answered after each burst, within the processor time that the server may use for one. The
server lives, its memory returns to its floor, and its log has no unforeseen error. `make soak` runs for minutes; a
failure names the seed of its burst.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from bench.client import Client
from tests.cli.running import Running, serving
from tests.fuzz import mutations
from tests.server.client import UPGRADE

MIB = 1 << 20
# Bytes sent in one burst, and how long their sender reads what comes back.
_READ_S = 0.02
_MAX_HEARTBEAT_S = 0.5  # of the server's processor, for what a burst left to do and the HEARTBEAT itself
_MAX_GROWTH_MIB = 150
_LOGIN = b"\x85\xa6\x03\x00\x00\x00\x00\x01\x21" + bytes(23) + b"fuzz\0\0"


def _exchange(address: tuple[str, int], first: bytes, then: bytes) -> None:
    """Send, read a little, go: rudely or not."""
    with contextlib.suppress(OSError), socket.create_connection(address, timeout=5) as client:
        client.settimeout(_READ_S)
        for data in (first, then):
            client.sendall(data)
            with contextlib.suppress(TimeoutError):
                while client.recv(1 << 16):
                    pass


def _on_websocket(server: Running, random: Random) -> None:
    _exchange(server.ws, UPGRADE, mutations.frames(random))


def _on_http(server: Running, random: Random) -> None:
    _exchange(random.choice((server.ws, server.status)), mutations.request(random), mutations.request(random))


def _on_mysql(server: Running, random: Random) -> None:
    login = len(_LOGIN).to_bytes(3, "little") + b"\x01" + _LOGIN
    _exchange(server.mysql, login if random.random() < 0.9 else random.randbytes(40), mutations.packets(random))


BURSTS: tuple[Callable[[Running, Random], None], ...] = (_on_websocket, _on_websocket, _on_http, _on_mysql)


def _processor_s(server: Running) -> float:
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_mib(server: Running) -> float:
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def _until_small(server: Running, limit_mib: float) -> float:
    """Memory is given back some seconds after it was freed."""
    ends_s = time.monotonic() + 30
    while (resident := _resident_mib(server)) > limit_mib and time.monotonic() < ends_s:
        time.sleep(0.5)
    return resident


def attack(seeds: range) -> None:
    """One burst for each seed."""
    with serving(CUBESTORE_BIND_ADDR="127.0.0.1:auto", CUBESTORE_PORT="auto", CUBEQUEUE_LOG_FORMAT="json") as server:
        with Client(server.ws[1], "bystander") as bystander:
            bystander.send(b"QUEUE ADD PRIORITY 1 'bystander:item' 'x'")
            bystander.receive()
            bystander.send(b"QUEUE RETRIEVE CONCURRENCY 1 'bystander:item'")
            bystander.receive()
            for seed in range(seeds.start, min(seeds.start + 20, seeds.stop)):  # whatever is imported and compiled once
                BURSTS[seed % len(BURSTS)](server, Random(seed))
            before_mib = _resident_mib(server)
            for seed in seeds:
                random = Random(seed)
                BURSTS[seed % len(BURSTS)](server, random)
                started_s = _processor_s(server)
                bystander.send(b"QUEUE HEARTBEAT 'bystander:item'")
                assert bystander.receive(), f"seed {seed}"
                took_s = _processor_s(server) - started_s
                assert took_s <= _MAX_HEARTBEAT_S, f"seed {seed} kept the server busy for {took_s:.2f} s"
                assert server.process.poll() is None, f"seed {seed} ended the server"
        assert _until_small(server, before_mib + _MAX_GROWTH_MIB) <= before_mib + _MAX_GROWTH_MIB
        assert server.get("/readyz")[0] == 200
        code, _, log = server.end(signal.SIGTERM)
    errors = [line for line in log.splitlines() if '"level":"error"' in line.replace(" ", "") or "Traceback" in line]
    assert not errors, errors[:3]
    assert code == 0


@pytest.mark.parametrize("part", range(2))
def test_nobody_else_notices(part: int) -> None:
    attack(range(part * 1_000, part * 1_000 + 150))


@pytest.mark.soak
@pytest.mark.timeout(3_600)
def test_nobody_else_notices_at_length() -> None:
    attack(range(1_000_000, 1_010_000))
