"""Names of clients: those given, those of reverse DNS, and the bounds of asking for them."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from cubequeue_server.client_names import ClientNames
from tests.server.harness import until

GIVEN = {"5f0c": "api-1", "10.0.0.7": "worker", "fe80::1": "six"}


@pytest.mark.parametrize(
    ("process_id", "peer", "name"),
    [
        (b"5f0c", "10.0.0.7:1", "api-1"),
        (b"none", "10.0.0.7:1", "worker"),
        (None, "10.0.0.7:65535", "worker"),
        (None, "[fe80::1]:80", "six"),
        (b"\xff", "10.0.0.8:1", None),
        (None, "", None),
    ],
)
def test_a_given_name(process_id: bytes | None, peer: str, name: str | None) -> None:
    assert ClientNames(GIVEN).name_of(process_id, peer) == name


class Dns:
    """Answers reverse lookups when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.may_answer = asyncio.Event()
        monkeypatch.setattr(asyncio.get_running_loop(), "getnameinfo", self._answer, raising=False)

    async def _answer(self, address: tuple[Any, ...], _flags: int) -> tuple[str, str]:
        self.asked.append(address[0])
        await self.may_answer.wait()
        if address[0].endswith(".9"):
            raise socket.gaierror("unknown")
        return f"pod-{address[0]}", "0"


async def test_dns_is_asked_once_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    dns = Dns(monkeypatch)
    names = ClientNames(GIVEN, by_dns=True)
    for peer in ("10.0.0.1:1", "10.0.0.1:2", "10.0.0.7:1", "10.0.0.9:1", ""):
        names.learn(peer)
    await until(lambda: dns.asked == ["10.0.0.1", "10.0.0.9"])
    assert names.name_of(None, "10.0.0.1:5") is None
    dns.may_answer.set()
    await until(lambda: names.name_of(None, "10.0.0.1:5") == "pod-10.0.0.1")
    assert names.name_of(None, "10.0.0.9:5") is None
    names.learn("10.0.0.9:2")
    assert names.name_of(None, "10.0.0.7:1") == "worker"


async def test_lookups_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    dns = Dns(monkeypatch)
    names = ClientNames(by_dns=True)
    for number in range(17):
        names.learn(f"10.1.0.{number}:1")
    await until(lambda: len(dns.asked) == 16)
    dns.may_answer.set()
    await until(lambda: names.name_of(None, "10.1.0.15:1"))
    names.learn("10.1.0.16:1")
    await until(lambda: names.name_of(None, "10.1.0.16:1"))


async def test_known_addresses_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cubequeue_server.client_names._MAX_KNOWN", 2)
    dns = Dns(monkeypatch)
    dns.may_answer.set()
    names = ClientNames(by_dns=True)
    for peer in ("10.2.0.0:1", "10.2.0.1:1", "10.2.0.2:1"):
        names.learn(peer)
    await until(lambda: names.name_of(None, "10.2.0.2:1"))
    assert names.name_of(None, "10.2.0.0:1") is None


async def test_without_the_setting_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    dns = Dns(monkeypatch)
    ClientNames().learn("10.0.0.1:1")
    await asyncio.sleep(0)
    assert dns.asked == []
