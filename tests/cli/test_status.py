"""The status port: probes, other paths and methods, and its bounds."""

from __future__ import annotations

import asyncio
import http.client
import time
from base64 import b64encode
from collections.abc import Iterator

import pytest

from cubequeue_server.access.credentials import Credentials
from cubequeue_server.net.http_head import Answer, Head
from cubequeue_server.observe import status
from cubequeue_server.observe.status import Route, StatusServer, probe
from cubequeue_server.settings.values import Endpoint
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


async def _answer_of_late_connection() -> bytes:
    server = StatusServer(Endpoint("127.0.0.1", 0), {"/x": lambda _: Answer(200, b"page")})
    await server.start()
    try:
        held = [await asyncio.open_connection(*server.address) for _ in range(2)]
        await asyncio.sleep(0.05)
        reader, writer = await asyncio.open_connection(*server.address)
        writer.write(b"GET /x HTTP/1.1\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), 5)
        for _, held_writer in held:
            held_writer.close()
        writer.close()
        return answer
    finally:
        await server.stop()


def test_one_connection_over_the_cap_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "_MAX_CONNECTIONS", 2)
    assert asyncio.run(_answer_of_late_connection()).startswith(b"HTTP/1.1 503")
    monkeypatch.setattr(status, "_MAX_CONNECTIONS", 3)
    answer = asyncio.run(_answer_of_late_connection())
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"\r\n\r\npage")


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
