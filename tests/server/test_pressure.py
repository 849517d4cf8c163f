"""Clients that do not read, do not answer, or are many: what they cost others, and for how long."""

from __future__ import annotations

import asyncio
import gc
import resource
import weakref
from pathlib import Path

import pytest

from cubequeue_server.access.reloading import Tls
from cubequeue_server.net.framing import WSMsgType
from cubequeue_server.net.websocket import WebSocket
from cubequeue_server.requests.client import Client
from protocol.client_codec import Rows, encode_query
from storage.limits import MIB
from tests.certificates import make_certificate
from tests.server.client import BINARY, PING, PONG, RawClient, connected, frame, raw
from tests.server.harness import FIRST_ID, WatchedStore, serving, until


async def test_a_pipelining_client_that_reads_late_is_slowed_and_gets_everything() -> None:
    """200 MiB of answers to one packet of requests: far above the high water, none lost, little held."""
    store = WatchedStore()
    async with serving(store, max_outbound_bytes=16 * MIB) as server, raw(server.address) as client:
        await client.upgrade()
        value = b"x" * MIB
        await client.send(frame(BINARY, encode_query(0, "CACHE SET 'a' ?", [value])))
        await client.read_reply()
        await client.send(b"".join(frame(BINARY, encode_query(id_, "CACHE GET 'a'")) for id_ in range(1, 201)))
        await asyncio.sleep(0.2)
        executed = len(store.executed)
        assert executed < 150
        for id_ in range(1, 201):
            assert await client.read_reply() == Rows(id_, ("value",), [(value,)])
        assert len(store.executed) == 201
        assert server.counters.readers_slow == 0


async def test_a_client_that_does_not_read_is_not_read_from() -> None:
    store = WatchedStore()
    async with serving(store) as server, raw(server.address) as client, connected(server.address) as bystander:
        await client.upgrade()
        await client.send(frame(BINARY, encode_query(0, "CACHE SET 'a' ?", [b"x" * MIB])))
        request = frame(BINARY, encode_query(1, "CACHE GET 'a'", trace="t" * 10_000))
        client.writer.write(request * 5000)
        await asyncio.sleep(0.3)
        assert len(store.executed) < 1000
        assert client.writer.transport.get_write_buffer_size() > 20 * MIB  # of the 50 MB that it would send
        await bystander.settle()


async def test_control_frames_are_answered_while_requests_wait_for_the_reader() -> None:
    async with serving() as server, raw(server.address) as client:
        await client.upgrade()
        await client.send(frame(BINARY, encode_query(0, "CACHE SET 'a' ?", [b"x" * MIB])))
        await client.read_reply()
        requests = b"".join(frame(BINARY, encode_query(id_, "CACHE GET 'a'")) for id_ in range(1, 51))
        await client.send(requests + frame(PING, b"alive?"))
        seen = [await client.read_frame() for _ in range(51)]
        assert (PONG, b"alive?") in seen
        assert seen.index((PONG, b"alive?")) < 50  # ahead of answers that waited


async def test_a_reader_over_its_bound_is_closed_with_1008() -> None:
    """Woken waiters answer without being read for: they are what a bound is needed against."""
    async with (
        serving(max_outbound_bytes=4 * MIB, close_timeout_s=5) as server,
        raw(server.address) as client,
        connected(server.address, "worker") as worker,
    ):
        await client.upgrade()
        ids = [FIRST_ID + number for number in range(40)]
        for id_ in ids:
            await worker.ask(f"QUEUE ADD 'q:{id_}' 'p'")
            await client.send(frame(BINARY, encode_query(id_, f"QUEUE RESULT_BLOCKING 60000 {id_}")))
        await until(lambda: server.in_flight == 40)
        for id_ in ids:
            await worker.ask(f"QUEUE ACK {id_} ?", [b"x" * MIB])
        await until(lambda: server.counters.readers_slow)
        assert await client.read_close() == (1008, "too many bytes wait to be read by this connection")
        client.writer.close()
        await until(lambda: server.counters.connections == 1)


async def test_a_reader_over_its_bound_that_reads_no_more_is_dropped() -> None:
    async with (
        serving(max_outbound_bytes=4 * MIB, close_timeout_s=0.1) as server,
        raw(server.address) as client,
        connected(server.address, "worker") as worker,
    ):
        await client.upgrade()
        ids = [FIRST_ID + number for number in range(40)]
        for id_ in ids:
            await worker.ask(f"QUEUE ADD 'q:{id_}' 'p'")
            await client.send(frame(BINARY, encode_query(id_, f"QUEUE RESULT_BLOCKING 60000 {id_}")))
        await until(lambda: server.in_flight == 40)
        for id_ in ids:
            await worker.ask(f"QUEUE ACK {id_} ?", [b"x" * MIB])
        await until(lambda: server.counters.connections == 1)
        assert server.counters.readers_slow == 1


async def test_a_peer_without_a_pong_is_dropped() -> None:
    async with (
        serving(ping_interval_s=0.05, pong_timeout_s=0.1) as server,
        raw(server.address) as silent,
        connected(server.address) as lively,
    ):
        await silent.upgrade()
        assert (await silent.read_frame())[0] == PING
        await silent.read_to_end()
        assert server.counters.peers_silent == 1
        await asyncio.sleep(0.3)
        await lively.settle()


async def test_a_pong_with_other_words_proves_nothing() -> None:
    async with serving(ping_interval_s=0.05, pong_timeout_s=0.1) as server, raw(server.address) as client:
        await client.upgrade()
        _, payload = await client.read_frame()
        await client.send(frame(PONG, payload + b"?"))
        assert await client.read_to_end() == b""
        assert server.counters.peers_silent == 1


async def test_a_lost_client_leaves_nothing_behind() -> None:
    """No cycle keeps a connection alive: the server runs with the collector off."""
    gc.collect()
    before = count_clients()
    gc.disable()
    try:
        async with serving() as server:
            for end in ("close", "drop", "refuse"):
                async with connected(server.address) as client:
                    await client.ask("CACHE SET 'a' ?", [b"x" * 300_000])
                    (each,) = server._clients
                    websocket = each.websocket
                    remains: list[weakref.ref[object]] = [weakref.ref(websocket)]
                    del each, websocket
                    if end == "drop":
                        client.drop()
                    elif end == "refuse":
                        await client.websocket.send("text")
                await until(lambda: not server.counters.connections)
                await asyncio.sleep(0.01)
                assert [ref() for ref in remains] == [None], end
                assert count_clients() == before, end
    finally:
        gc.enable()


def count_clients() -> int:
    return sum(type(each) is Client for each in gc.get_objects())


async def test_connections_of_a_storm_are_freed() -> None:
    gc.collect()
    before = count_clients()
    gc.disable()
    try:
        async with serving() as server:
            for _ in range(50):
                async with raw(server.address) as client:
                    await client.upgrade()
                    await client.send(frame(BINARY, encode_query(1, "CACHE GET 'a'")))
                    await client.read_reply()
            await until(lambda: not server.counters.connections)
            await asyncio.sleep(0.01)
            assert count_clients() == before
            assert not server._fronts
    finally:
        gc.enable()


async def test_sockets_that_ask_nothing_are_ended_in_time() -> None:
    count = 300
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft > 2 * count + 100
    async with serving(handshake_timeout_s=0.3, close_timeout_s=0.1) as server:
        clients = [await asyncio.open_connection(*server.address) for _ in range(count)]
        await until(lambda: len(server._fronts) == count)
        async with connected(server.address) as client:
            await client.settle()
        await until(lambda: not server._fronts)
        for _, writer in clients:
            writer.close()


async def test_a_flood_of_pings_is_answered_and_delays_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Delay is told in pongs that others get first: time depends on the machine."""
    pongs = 0
    send_control = WebSocket._send_control

    def counting(websocket: WebSocket, kind: WSMsgType, payload: bytes) -> None:
        nonlocal pongs
        pongs += kind is WSMsgType.PONG
        send_control(websocket, kind, payload)

    monkeypatch.setattr(WebSocket, "_send_control", counting)
    async with serving() as server, raw(server.address) as client, connected(server.address) as bystander:
        await client.upgrade()
        flood = asyncio.create_task(client.send(frame(PING, b"x" * 125) * 30_000))
        for _ in range(50):
            for _ in range(500):
                assert await client.read_frame() == (PONG, b"x" * 125)
            before = pongs
            await bystander.settle()
            assert pongs - before < 2_000, "a few reads' worth, however many wait"
        for _ in range(5_000):
            assert await client.read_frame() == (PONG, b"x" * 125)
        await flood
        assert server.counters.readers_slow == 0


@pytest.mark.parametrize("is_secured", [False, True])
async def test_a_flood_of_requests_lets_others_have_their_turn(is_secured: bool, tmp_path: Path) -> None:
    """Once a read brought as much as one may, the next is after theirs; else megabytes would be handled in one go."""
    store = WatchedStore()
    certificate = make_certificate(tmp_path) if is_secured else None
    tls = None if certificate is None else Tls(*map(str, certificate)).context
    trusting = None if certificate is None else certificate.client_context()
    async with (
        serving(store, tls=tls, ping_interval_s=60) as server,
        raw(server.address, trusting) as client,
        connected(server.address, tls=trusting) as bystander,
    ):
        await client.upgrade()
        count = 12_000
        flood = asyncio.create_task(client.send(frame(BINARY, encode_query(1, "CACHE GET 'a'")) * count))
        for _ in range(10):
            for _ in range(500):
                assert await client.read_reply() == Rows(1, ("value",), [(None,)])
            before = len(store.executed)
            await bystander.settle()
            assert len(store.executed) - before < 3_000, "a few reads' worth, however many wait"
        for _ in range(count - 10 * 500):
            await client.read_reply()
        await flood


async def test_a_large_message_is_read_in_turns_with_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """libuv reads on as long as there is something: 5 MB were 5 ms in which nobody else was served."""
    sizes: list[list[int]] = [[]]
    take_turn, on_read = WebSocket._take_turn, WebSocket.on_read

    def turning(websocket: WebSocket) -> None:
        sizes.append([])
        take_turn(websocket)

    def reading(websocket: WebSocket, pending_bytes: int) -> None:
        sizes[-1].append(pending_bytes)
        on_read(websocket, pending_bytes)

    monkeypatch.setattr(WebSocket, "_take_turn", turning)
    monkeypatch.setattr(WebSocket, "on_read", reading)
    value = "v" * (5 * MIB)
    async with serving() as server, raw(server.address) as client:
        await client.upgrade()
        sending = asyncio.create_task(client.send(frame(BINARY, encode_query(1, f"CACHE SET 'large' '{value}'"))))
        assert await client.read_reply() == Rows(1, ("success",), [(b"true",)])
        await sending
    seen = [turn for turn in sizes if turn]
    assert max(turn[-1] - turn[0] for turn in seen) <= MIB
    assert seen[-1][-1] > 5 * MIB, "all of it was waited for"


async def test_a_flood_of_pings_by_a_client_that_does_not_read_is_not_read_either() -> None:
    async with serving() as server, raw(server.address) as client, connected(server.address) as bystander:
        await client.upgrade()
        client.writer.write(frame(PING, b"x" * 125) * 600_000)
        websocket = list(server._clients)[-1].websocket
        await until(lambda: websocket._stalled)
        await asyncio.sleep(0.2)
        assert websocket._transport.get_write_buffer_size() < 4 * MIB
        assert client.writer.transport.get_write_buffer_size() > 20 * MIB, "of 75 MiB most waits at the client"
        await bystander.settle()
        assert await client.read_frame() == (PONG, b"x" * 125)


async def test_a_peer_that_closes_its_half_is_ended() -> None:
    async with serving() as server, raw(server.address) as client, raw(server.address) as early:
        await client.upgrade()
        early.writer.write_eof()
        client.writer.write_eof()
        await client.read_to_end()
        await early.read_to_end()
        await until(lambda: not server.counters.connections and not server._fronts)


async def trickle(client: RawClient) -> None:
    while True:
        await client.send(b"x")
        await asyncio.sleep(0.01)


async def test_a_message_that_never_ends_is_ended_for_want_of_a_pong() -> None:
    """Within a frame no pong can come, so the silence of a frame that trickles in is bounded too."""
    async with (
        serving(ping_interval_s=0.05, pong_timeout_s=0.1) as server,
        raw(server.address) as client,
    ):
        await client.upgrade()
        await client.send(b"\x82\xfe\xff\xff" + b"abcd")
        with pytest.raises((ConnectionError, RuntimeError)):  # the latter is uvloop's, once it knows of the end
            await trickle(client)
        assert server.counters.peers_silent == 1
