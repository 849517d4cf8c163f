"""The status port: probes, other paths and methods, and its bounds."""

from __future__ import annotations

import asyncio
import http.client
import time
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest

from cubequeue_server.access.browsers import AllowedHosts
from cubequeue_server.access.credentials import Credentials
from cubequeue_server.access.reloading import Tls
from cubequeue_server.net.http_head import Answer, Head
from cubequeue_server.observe import status
from cubequeue_server.observe.counters import Counters
from cubequeue_server.observe.status import NotReadyError, Route, StatusServer, probe
from cubequeue_server.settings.values import Endpoint
from tests.certificates import Certificate
from tests.cli.running import Running, serving

REQUEST = Head(b"GET", b"/")


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serving() as running:
        yield running


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/livez?verbose=1"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_probes_answer_200_with_an_empty_body(server: Running, path: str, method: str) -> None:
    assert server.get(path, method) == (200, b"")


@pytest.mark.parametrize(
    ("path", "method", "code"), [("/nothing", "GET", 404), ("/livez/", "GET", 404), ("/livez", "POST", 405)]
)
def test_other_paths_and_methods(server: Running, path: str, method: str, code: int) -> None:
    answered, body = server.get(path, method)
    assert (answered, body.count(b"\n")) == (code, 1), "one line says what to do"


def test_a_websocket_at_the_status_port_is_told_the_right_one(server: Running) -> None:
    connection = http.client.HTTPConnection(*server.status, timeout=5)
    connection.request("GET", "/ws", headers={"connection": "upgrade", "upgrade": "websocket"})
    answer = connection.getresponse()
    assert (answer.status, b"CUBESTORE_HTTP_PORT" in answer.read()) == (404, True)
    connection.close()


def test_a_failing_check_is_500() -> None:
    def fails() -> None:
        raise RuntimeError

    answer = probe(fails)(REQUEST)
    assert isinstance(answer, Answer)
    assert (answer.status, b"Not ready" in answer.body) == (500, True)
    assert probe(lambda: None)(REQUEST) == Answer(200)


def test_a_known_reason_is_logged_once_and_without_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    reasons: list[Exception | None] = []

    def check() -> None:
        reason = reasons.pop(0)
        if reason is not None:
            raise reason

    probed = probe(check)
    full, other = NotReadyError("the disk is full"), NotReadyError("the disk is gone")
    reasons += [full, full, other, None, other, ValueError("a defect")]
    statuses = [answer.status for _ in range(6) if isinstance(answer := probed(REQUEST), Answer)]
    assert statuses == [500, 500, 500, 200, 500, 500]
    logged = [(vars(each)["fields"]["reason"], each.exc_info is not None) for each in caplog.records]
    assert logged == [
        ("the disk is full", False),
        ("the disk is gone", False),
        ("the disk is gone", False),
        ("a defect", True),
    ]


async def _ask(server: StatusServer, path: str, host: str = "x") -> bytes:
    """The answer to a GET on a connection of its own; its first line, if that is all that counts."""
    reader, writer = await asyncio.open_connection(*server.address)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    return answer


def _status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def test_silent_connections_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """260 of them made the probes answer 503."""
    monkeypatch.setattr(status, "MAX_WAITING", 2)

    async def scenario() -> None:
        counters = Counters()
        server = StatusServer(Endpoint("127.0.0.1", 0), {"/x": lambda _: Answer(200)}, counters=counters)
        await server.start()
        try:
            silent = [await asyncio.open_connection(*server.address) for _ in range(2)]
            await asyncio.sleep(0.05)
            assert _status_of(await _ask(server, "/x")) == 200
            assert counters.status_dropped == 1
            assert await asyncio.wait_for(silent[0][0].read(), 5) == b""
            silent[1][1].write(b"GET /x HTTP/1.1\r\n\r\n")
            assert _status_of(await asyncio.wait_for(silent[1][0].read(), 5)) == 200
            for _, writer in silent:
                writer.close()
        finally:
            await server.stop()

    asyncio.run(scenario())


def test_probes_are_answered_beside_any_number_of_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "MAX_ANSWERING", 2)

    async def scenario() -> None:
        may_go_on, counters = asyncio.Event(), Counters()

        async def slow(_request: Head) -> Answer:
            await may_go_on.wait()
            return Answer(200)

        routes: dict[str, Route] = {"/slow": slow, "/livez": probe(lambda: None)}
        server = StatusServer(Endpoint("127.0.0.1", 0), routes, counters=counters)
        await server.start()
        try:
            under_way = [asyncio.create_task(_ask(server, "/slow")) for _ in range(2)]
            await asyncio.sleep(0.05)
            refused = await _ask(server, "/slow")
            assert (_status_of(refused), counters.status_refused) == (503, 1)
            assert b"retry-after: 1" in refused
            assert _status_of(await _ask(server, "/livez")) == 200
            may_go_on.set()
            assert [_status_of(await each) for each in under_way] == [200, 200]
            assert _status_of(await _ask(server, "/slow")) == 200
        finally:
            await server.stop()

    asyncio.run(scenario())


def test_silent_tls_handshakes_count_and_make_room(monkeypatch: pytest.MonkeyPatch, certificate: Certificate) -> None:
    """3 000 of them took 467 MB."""
    monkeypatch.setattr(status, "MAX_WAITING", 3)

    async def scenario() -> None:
        tls, counters = Tls(*map(str, certificate)).context, Counters()
        server = StatusServer(Endpoint("127.0.0.1", 0), {"/livez": probe(lambda: None)}, tls=tls, counters=counters)
        await server.start()
        try:
            silent = [await asyncio.open_connection(*server.address) for _ in range(5)]
            assert await asyncio.wait_for(silent[0][0].read(), 5) == b""
            assert await asyncio.wait_for(silent[1][0].read(), 5) == b""
            assert counters.status_dropped == 2
            reader, writer = await asyncio.open_connection(*server.address, ssl=certificate.client_context())
            writer.write(b"GET /livez HTTP/1.1\r\n\r\n")
            assert _status_of(await asyncio.wait_for(reader.read(), 5)) == 200
            assert counters.status_dropped == 3
            for _, each in [*silent, (reader, writer)]:
                each.close()
        finally:
            await server.stop()

    asyncio.run(scenario())


@pytest.mark.parametrize(("host", "code"), [("localhost:3031", 200), ("evil.example", 403), ("page.example:80", 200)])
def test_pages_are_for_known_hosts_and_probes_for_any(host: str, code: int) -> None:
    async def scenario() -> None:
        counters = Counters()
        paths: list[Any] = ["/livez", "/readyz", "/metrics", "/", "/api/server"]
        routes = dict.fromkeys(paths, lambda _: Answer(200))
        hosts = AllowedHosts(["page.example"])
        server = StatusServer(Endpoint("127.0.0.1", 0), routes, hosts=hosts, counters=counters)
        await server.start()
        try:
            answers = [await _ask(server, path, host) for path in paths]
        finally:
            await server.stop()
        assert [_status_of(answer) for answer in answers] == [200, 200, 200, code, code]
        assert (b"CUBEQUEUE_ALLOWED_HOSTS" in answers[-1]) == (code == 403)
        assert counters.foreign_refused == (2 if code == 403 else 0)

    asyncio.run(scenario())


async def _end_of_silent_connection() -> float:
    server = StatusServer(Endpoint("127.0.0.1", 0), {})
    await server.start()
    try:
        start = time.monotonic()
        reader, writer = await asyncio.open_connection(*server.address)
        writer.write(b"GET / HTT")
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(reader.readexactly(1), 5)
        return time.monotonic() - start
    finally:
        await server.stop()


def test_a_silent_client_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "_REQUEST_TIMEOUT_S", 0.1)
    assert 0.05 < asyncio.run(_end_of_silent_connection()) < 2


async def _answer_to(request_bytes: bytes) -> bytes:
    routes = {"/livez": lambda _: Answer(200), "/page": lambda _: Answer(200, b"secret page")}
    server = StatusServer(Endpoint("127.0.0.1", 0), routes, Credentials({b"ann": b"pass"}))
    await server.start()
    try:
        reader, writer = await asyncio.open_connection(*server.address)
        writer.write(request_bytes)
        answer = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        return answer
    finally:
        await server.stop()


@pytest.mark.parametrize(
    ("path", "authorization", "code", "text"),
    [
        ("/livez", None, 200, b""),
        ("/page", None, 401, b"has users"),
        ("/nothing", None, 401, b"has users"),
        ("/page", "ann:wrong", 401, b"Wrong name or password"),
        ("/page", "ann:pass", 200, b"secret page"),
        ("/nothing", "ann:pass", 404, b"/metrics"),
    ],
)
def test_with_credentials_only_the_probes_are_open(
    path: str, authorization: str | None, code: int, text: bytes
) -> None:
    header = f"authorization: Basic {b64encode(authorization.encode()).decode()}\r\n" if authorization else ""
    answer = asyncio.run(_answer_to(f"GET {path} HTTP/1.1\r\nHost: x\r\n{header}\r\n".encode()))
    assert answer.startswith(b"HTTP/1.1 %d " % code)
    assert (b"\r\nwww-authenticate: Basic " in answer) == (code == 401)
    assert text in answer.partition(b"\r\n\r\n")[2]
    assert (b"secret page" in answer) == (code == 200 and path == "/page")


async def _answers(routes: dict[str, Route], actions: dict[str, Route], *request_lines: str) -> list[bytes]:
    server = StatusServer(Endpoint("127.0.0.1", 0), routes, actions=actions)
    await server.start()
    try:
        answers = []
        for line in request_lines:
            reader, writer = await asyncio.open_connection(*server.address)
            writer.write(line.encode() + b" HTTP/1.1\r\nX-Name: v\r\n\r\n")
            answers.append(await asyncio.wait_for(reader.read(), 5))
            writer.close()
        return answers
    finally:
        await server.stop()


def test_a_route_is_told_parameters_and_headers_and_may_answer_later() -> None:
    async def later(request: Head) -> Answer:
        await asyncio.sleep(0)
        return Answer(200, repr((request.method, request.parameters, request.header(b"x-name"))).encode())

    get, head, post, wrong = asyncio.run(
        _answers({"/a": later}, {"/b": later}, "GET /a?x=1%20&y=", "HEAD /a", "POST /b?x=2", "POST /a")
    )
    assert get.endswith(b"(b'GET', {'x': '1 ', 'y': ''}, b'v')")
    assert head.endswith(b"\r\n\r\n")
    assert post.endswith(b"(b'POST', {'x': '2'}, b'v')")
    assert wrong.startswith(b"HTTP/1.1 405")


def test_a_route_that_fails_is_500() -> None:
    def fails(_request: Head) -> Answer:
        raise RuntimeError

    async def fails_later(_request: Head) -> Answer:
        raise RuntimeError

    for answer in asyncio.run(_answers({"/a": fails, "/b": fails_later}, {}, "GET /a", "GET /b")):
        assert answer.startswith(b"HTTP/1.1 500")
