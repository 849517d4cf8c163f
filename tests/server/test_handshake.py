"""One request of HTTP on the port: upgraded or refused (wire.md §1)."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import Mapping

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from protocol.client_codec import Rows, encode_query
from tests.server.client import BINARY, UPGRADE, Address, RawClient, connected, frame, raw
from tests.server.harness import WatchedStore, serving, until


async def refused(address: Address, request: bytes) -> tuple[int, dict[str, str], str]:
    """Status, headers and error text of the answer to `request`, which must end the connection."""
    async with raw(address) as client:
        await client.send(request)
        return await read_refusal(client)


async def read_refusal(client: RawClient) -> tuple[int, dict[str, str], str]:
    head, _, body = (await client.read_to_end()).partition(b"\r\n\r\n")
    status_line, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    assert headers["connection"] == "close"
    assert headers["content-type"] == "application/json"
    assert int(headers["content-length"]) == len(body)
    return int(status_line.split()[1]), headers, json.loads(body)["error"]


def request(method: str = "GET", path: str = "/ws", changes: Mapping[str, str | None] | None = None) -> bytes:
    """An upgrade request with some headers changed, or left out when None."""
    headers: dict[str, str | None] = {
        "Host": "test",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        **(changes or {}),
    }
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode()


async def test_the_upgrade_announces_the_version_and_negotiates_nothing() -> None:
    async with serving(announce_version="1.6.65") as server, connected(server.address) as client:
        response = client.websocket.response
        assert response is not None
        assert response.status_code == 101
        assert response.headers["X-CubeStore-Version"] == "1.6.65"
        assert "Sec-WebSocket-Extensions" not in response.headers


async def test_an_empty_version_is_not_announced() -> None:
    async with serving(announce_version="") as server, connected(server.address) as client:
        assert client.websocket.response is not None
        assert "X-CubeStore-Version" not in client.websocket.response.headers


@pytest.mark.parametrize(
    "changes",
    [
        {"Connection": "keep-alive, Upgrade"},
        {"Connection": "upgrade", "Upgrade": "WebSocket"},
        {"Sec-WebSocket-Protocol": "chat"},
        {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"},
        {"Authorization": "Basic " + b64encode(b"user:pass:word").decode()},
        {"X-Process-Id": "x" * 64},
        {"X-Process-Id": ""},
    ],
)
@pytest.mark.parametrize("path", ["/ws", "/ws?token=1", "http://somewhere:3030/ws"])
async def test_accepted(changes: dict[str, str | None], path: str) -> None:
    async with serving() as server, raw(server.address) as client:
        await client.send(request(path=path, changes=changes))
        head = await client.read_head()
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"sec-websocket-accept: ICX+Yqv66kxgM0FcWaLWlFLwTAI=" in head.replace(
            b"Sec-WebSocket-Accept", b"sec-websocket-accept"
        )


@pytest.mark.parametrize(
    ("changes", "status", "text"),
    [
        ({"x-process-id": "x" * 65}, 400, "x-process-id header exceeds maximum allowed length of 64 characters"),
        (
            {"x-process-id": "x" * 65, "authorization": "junk"},
            400,
            "x-process-id header exceeds maximum allowed length of 64 characters",
        ),
        ({"authorization": "junk"}, 403, "Not authorized"),
        ({"authorization": "Bearer dXNlcjpwYXNz"}, 403, "Not authorized"),
        ({"authorization": "Basic !!!"}, 403, "Not authorized"),
        ({"authorization": "Basic " + b64encode(b"no colon").decode()}, 403, "Not authorized"),
        ({"authorization": ""}, 403, "Not authorized"),
        ({"Upgrade": None, "Connection": None}, 426, "/ws speaks WebSocket only"),
        ({"Upgrade": None}, 426, "/ws speaks WebSocket only"),
        ({"Connection": "close"}, 426, "/ws speaks WebSocket only"),
        ({"Sec-WebSocket-Version": "12"}, 426, "only version 13 of WebSocket is spoken"),
        ({"Sec-WebSocket-Key": "short"}, 400, "Sec-WebSocket-Key is not the base64 of 16 bytes"),
        ({"Sec-WebSocket-Key": None}, 400, "Sec-WebSocket-Key is not the base64 of 16 bytes"),
    ],
)
async def test_refused(changes: dict[str, str | None], status: int, text: str) -> None:
    async with serving() as server:
        assert (await refused(server.address, request(changes=changes)))[::2] == (status, text)
        assert server.counters.connections_accepted == 0


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "", "https://a.example:8443", "x" * 5000])
async def test_web_pages_are_refused(origin: str) -> None:
    """A page of any site could cancel the items of a server without users."""
    async with serving(allowed_origins=frozenset({"https://a.example"})) as server:
        status, _, text = await refused(server.address, request(changes={"Origin": origin}))
        assert status == 403
        assert "CUBEQUEUE_ALLOWED_ORIGINS" in text
        assert len(text) < 400
        assert server.counters.foreign_refused == 1


async def test_web_pages_that_are_named_are_let_in() -> None:
    async with serving(allowed_origins=frozenset({"https://a.example"})) as server, raw(server.address) as client:
        await client.send(request(changes={"Origin": "https://A.example"}))
        assert (await client.read_head()).startswith(b"HTTP/1.1 101 ")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_only_get_upgrades(method: str) -> None:
    async with serving() as server:
        status, headers, _ = await refused(server.address, request(method))
        assert (status, headers["allow"]) == (405, "GET")


@pytest.mark.parametrize("path", ["/", "/wsx", "/ws/more", "/metrics", "*", "/wshttp://somewhere"])
async def test_other_paths_are_not_found(path: str) -> None:
    async with serving() as server:
        assert (await refused(server.address, request(path=path)))[0] == 404


async def test_an_answer_to_head_has_no_body() -> None:
    async with serving() as server, raw(server.address) as client:
        await client.send(b"HEAD / HTTP/1.1\r\nHost: test\r\n\r\n")
        answer = await client.read_to_end()
        assert answer.startswith(b"HTTP/1.1 404 ")
        assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
async def test_uploads_are_refused_in_words(method: str) -> None:
    async with serving() as server:
        head = f"{method} /upload-temp-file?name=t.csv.gz HTTP/1.1\r\nHost: test\r\n\r\n".encode()
        status, _, text = await refused(server.address, head)
        assert 400 <= status < 500
        assert "cubequeue is a queue and cache server" in text


async def test_an_upload_in_full_flight_sees_the_refusal() -> None:
    """The body is read and forgotten, so that no reset overtakes the answer."""
    async with serving() as server, raw(server.address) as client:
        await client.send(b"POST /upload-temp-file HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(64):
            await client.send(b"10000\r\n" + bytes(0x10000) + b"\r\n")
        await client.send(b"0\r\n\r\n")
        assert (await read_refusal(client))[0] == 405


async def test_an_upload_checks_the_process_id_first() -> None:
    async with serving() as server:
        head = b"POST /upload-temp-file HTTP/1.1\r\nx-process-id: %b\r\n\r\n" % (b"x" * 65)
        assert (await refused(server.address, head))[0] == 400


async def send_for_ever(client: RawClient, data: bytes) -> None:
    while True:
        await client.send(data)
        await asyncio.sleep(0.001)


async def test_the_discarded_body_is_bounded() -> None:
    async with serving(max_discarded_bytes=100_000) as server, raw(server.address) as client:
        await client.send(b"POST /upload-temp-file HTTP/1.1\r\n\r\n")
        with pytest.raises(ConnectionError):
            await send_for_ever(client, bytes(100_000))


async def test_the_time_for_a_body_is_bounded() -> None:
    async with serving(close_timeout_s=0.1) as server, raw(server.address) as client:
        await client.send(b"POST /upload-temp-file HTTP/1.1\r\n\r\n")
        with pytest.raises(ConnectionError):
            await send_for_ever(client, b"x")


async def test_slow_loris_is_cut_off() -> None:
    async with serving(handshake_timeout_s=0.2) as server, raw(server.address) as client:
        for byte in UPGRADE[:10]:
            await client.send(bytes([byte]))
            await asyncio.sleep(0.01)
        assert (await read_refusal(client))[0] == 408


async def test_a_silent_socket_is_told_in_the_words_of_mysql_and_cut_off() -> None:
    """A client of MySQL waits for a greeting: without any it hangs, and an answer of HTTP is no packet to it."""
    async with serving(handshake_timeout_s=0.1) as server, raw(server.address) as client:
        packet = await client.read_to_end()
    assert int.from_bytes(packet[:3], "little") == len(packet) - 4
    assert packet[3:7] == b"\0\xff" + (1043).to_bytes(2, "little")
    assert b"no MySQL here" in packet


@pytest.mark.parametrize("step", [1, 7, 100])
async def test_a_request_in_pieces(step: int) -> None:
    """Head and first frame, cut anywhere."""
    message = encode_query(7, "CACHE GET 'a'")
    stream = UPGRADE + frame(BINARY, message)
    async with serving() as server, raw(server.address) as client:
        for start in range(0, len(stream), step):
            await client.send(stream[start : start + step])
            await asyncio.sleep(0)
        await client.read_head()
        assert await client.read_reply() == Rows(7, ("value",), [(None,)])


async def test_frames_may_follow_the_head_in_the_same_packet() -> None:
    frames = b"".join(frame(BINARY, encode_query(number, "CACHE GET 'a'")) for number in range(2000))
    assert len(frames) > 64 * 1024
    async with serving() as server, raw(server.address) as client:
        client.writer.write(UPGRADE + frames)
        await client.read_head()
        assert [(await client.read_reply()).message_id for _ in range(2000)] == list(range(2000))


async def test_process_id_and_user_reach_the_store() -> None:
    store = WatchedStore()
    basic = "Basic " + b64encode(b"ann:secret").decode()
    async with serving(store) as server, connected(server.address, authorization=basic, x_process_id="p-1") as client:
        await client.ask("CACHE INCR 'a'")
        assert store.callers[0].process_id == b"p-1"
        key = store.keys[0]
        assert key is not None
        assert key[0] == b"ann"


async def test_an_anonymous_client_has_no_process_id() -> None:
    store = WatchedStore()
    async with serving(store) as server, connected(server.address, driver=None) as client:
        await client.ask("CACHE INCR 'a'")
        assert store.callers[0].process_id is None
        assert store.keys == [None]


async def test_too_many_connections() -> None:
    async with serving(max_connections=2) as server:
        async with connected(server.address), connected(server.address):
            assert (await refused(server.address, UPGRADE))[0] == 503
            assert server.counters.connections_refused == 1
        await until(lambda: not server.counters.connections)
        async with connected(server.address) as client:
            await client.settle()


async def test_the_oldest_connection_of_a_user_makes_room() -> None:
    basic = "Basic " + b64encode(b"ann:x").decode()
    other = "Basic " + b64encode(b"bob:x").decode()
    async with (
        serving(max_connections_per_user=2) as server,
        connected(server.address, authorization=basic) as first,
        connected(server.address, authorization=other) as bob,
        connected(server.address) as anonymous,
        connected(server.address) as nobody,
        connected(server.address) as another,
        connected(server.address, authorization=basic) as second,
        connected(server.address, authorization=basic) as third,
    ):
        assert await first.closed() == (1013, "connection evicted to admit a newer one for the same user")
        for client in (bob, anonymous, nobody, another, second, third):
            await client.settle()
        assert server.counters.connections_evicted == 1
        async with connected(server.address, authorization=basic):
            assert (await second.closed())[0] == 1013
            await third.settle()


async def test_the_error_of_a_refused_client_is_json() -> None:
    async with serving() as server:
        host, port = server.address
        with pytest.raises(InvalidStatus) as caught:
            await connect(f"ws://{host}:{port}/ws", additional_headers={"authorization": "junk"})
        assert json.loads(caught.value.response.body) == {"error": "Not authorized"}
