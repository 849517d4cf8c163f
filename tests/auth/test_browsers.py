"""Which web pages may use the server, by their Origin and Host."""

from __future__ import annotations

import socket

import pytest

from cubequeue_server.access.browsers import AllowedHosts, is_allowed_origin


@pytest.mark.parametrize(
    ("host", "is_admitted"),
    [
        (None, True),
        (b"", True),
        (b"127.0.0.1", True),
        (b"10.0.0.7:3031", True),
        (b"[::1]:3031", True),
        (b"[fe80::1]", True),
        (b"localhost", True),
        (b"LocalHost:3031", True),
        (b"cubequeue:3031", True),
        (b"cubequeue.cube.svc", True),
        (b"cubequeue.cube.svc.cluster.local:3031", True),
        (b"queue.internal", True),
        (b"queue.local.", True),
        (b"page.localhost", True),
        (b"page.example.com", True),
        (b"PAGE.example.com.:443", True),
        (b"a.b.inside.example", True),
        (b"inside.example", False),
        (b"evil.example", False),
        (b"evil.example:3031", False),
        (b"page.example.com.evil.example", False),
        (b"xpage.example.com", False),
        (b"127.0.0.1.evil.example", False),
        (b"127.0.0.1.nip.io", False),
        (b"svc.evil.example", False),
        (b"evilsvc.example", False),
        (b"localhost.evil.example", False),
        (b"\xff.example", False),
        (b"evil.example, localhost", False),
        (b"[evil.example]", False),
        (b"[evil.example", False),
    ],
)
def test_hosts(host: bytes | None, is_admitted: bool) -> None:
    assert AllowedHosts(["page.example.com", ".inside.example"]).admit(host) == is_admitted


def test_this_machine_is_known_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "Queue-1.example.com")
    assert AllowedHosts().admit(b"queue-1.example.com:3031")
    assert not AllowedHosts().admit(b"queue-2.example.com:3031")


@pytest.mark.parametrize(
    ("origin", "is_allowed"),
    [
        (b"https://admin.example.com", True),
        (b"HTTPS://Admin.Example.com", True),
        (b"http://admin.example.com", False),
        (b"https://admin.example.com:8443", False),
        (b"https://admin.example.com.evil.example", False),
        (b"https://admin.example.com, https://evil.example", False),
        (b"null", False),
        (b"", False),
        (b"\xff", False),
    ],
)
def test_origins(origin: bytes, is_allowed: bool) -> None:
    assert is_allowed_origin(origin, frozenset({"https://admin.example.com"})) == is_allowed
