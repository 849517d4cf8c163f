"""Frames to messages: fragments, control frames, sizes, and the ways a connection is closed (wire.md §2)."""

from __future__ import annotations

import asyncio
import struct

import pytest

from cubequeue_server.net.websocket import oversize_reason
from protocol.client_codec import ErrorReply, Rows, encode_query
from storage.limits import MIB
from tests.server.client import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Address,
    RawClient,
    connected,
    frame,
    raw,
)
from tests.server.harness import serving, until

QUERY = encode_query(7, "CACHE SET 'a' 'b'")
DONE = Rows(7, ("success",), [(b"true",)])


def oversize_text(size: int, limit: int) -> str:
    return (
        f"Request of {size} bytes exceeds the maximum message size of {limit} bytes. Reduce the size of the query, "
        "e.g. by sending fewer or smaller inline tables, or raise CUBESTORE_TRANSPORT_MAX_MESSAGE_SIZE."
    )


async def close_code(address: Address, *frames: bytes) -> tuple[int, str]:
    """How the server closes after these frames."""
    async with raw(address) as client:
        await client.upgrade()
        await client.send(b"".join(frames))
        closed = await client.read_close()
        assert await client.read_to_end() == b""
        return closed


async def test_a_message_split_in_two_at_every_byte() -> None:
    async with serving() as server, raw(server.address) as client:
        await client.upgrade()
        for cut in range(len(QUERY) + 1):
            await client.send(frame(BINARY, QUERY[:cut], fin=False) + frame(CONTINUATION, QUERY[cut:]))
            assert await client.read_reply() == DONE


async def test_a_fragment_for_every_byte_with_pings_in_between() -> None:
    async with serving() as server, raw(server.address) as client:
        await client.upgrade()
        parts = [frame(BINARY, b"", fin=False)]
        for byte in QUERY:
            parts += [frame(CONTINUATION, bytes([byte]), fin=False), frame(PING, bytes([byte]))]
        parts.append(frame(CONTINUATION, b""))
        await client.send(b"".join(parts))
        for byte in QUERY:
            assert await client.read_frame() == (PONG, bytes([byte]))
        assert await client.read_reply() == DONE


async def test_the_stream_cut_at_every_byte() -> None:
    stream = frame(BINARY, QUERY[:9], fin=False) + frame(PING, b"p") + frame(CONTINUATION, QUERY[9:])
    async with serving() as server, raw(server.address) as client:
        await client.upgrade()
        for byte in stream:
            await client.send(bytes([byte]))
            await asyncio.sleep(0)
        assert await client.read_frame() == (PONG, b"p")
        assert await client.read_reply() == DONE


async def test_a_ping_last_in_a_read_does_not_hold_back_answers() -> None:
    async with serving() as server, raw(server.address) as client:
        await client.upgrade()
        await client.send(frame(BINARY, QUERY) + frame(PING, b"x" * 125))
        assert await client.read_reply() == DONE
        assert await client.read_frame() == (PONG, b"x" * 125)


async def test_an_unsolicited_pong_is_ignored() -> None:
    async with serving() as server, raw(server.address) as client:
        await client.upgrade()
        await client.send(frame(PONG, b"what?") + frame(BINARY, QUERY))
        assert await client.read_reply() == DONE


@pytest.mark.parametrize(
    ("code", "answer"), [(b"", 1000), (struct.pack(">H", 1001) + b"away", 1001), (struct.pack(">H", 4321), 4321)]
)
async def test_a_close_is_answered(code: bytes, answer: int) -> None:
    async with serving() as server:
        assert await close_code(server.address, frame(CLOSE, code)) == (answer, "")
        await until(lambda: not server.counters.connections)


async def test_answers_leave_before_the_close() -> None:
    async with serving() as server, raw(server.address) as client:
        await client.upgrade()
        await client.send(frame(BINARY, QUERY) + frame(CLOSE) + frame(BINARY, QUERY))
        assert await client.read_reply() == DONE
        assert await client.read_frame() == (CLOSE, struct.pack(">H", 1000))
        assert await client.read_to_end() == b""


@pytest.mark.parametrize("fin", [True, False])
async def test_text_closes_with_1003(fin: bool) -> None:
    async with serving() as server:
        assert (await close_code(server.address, frame(TEXT, b"hello", fin=fin)))[0] == 1003
        assert server.counters.violations == 1


@pytest.mark.parametrize(
    "frames",
    [
        [frame(CONTINUATION, b"of nothing")],
        [frame(BINARY, b"a", fin=False), frame(BINARY, b"b")],
        [frame(BINARY, QUERY, rsv=4)],
        [frame(PING, b"", rsv=1)],
        [frame(3, b"reserved")],
        [frame(11, b"reserved")],
        [frame(BINARY, QUERY, mask=None)],
        [frame(PING, b"x" * 126)],
        [frame(PING, b"x", fin=False)],
        [b"\x82\xfe\x00\x05abcd" + b"hello"],
        [b"\x82\xff" + struct.pack(">Q", 1 << 63) + b"abcd"],
        [frame(CLOSE, b"x")],
        [frame(CLOSE, struct.pack(">H", 1005))],
    ],
)
async def test_breaches_of_the_protocol_close_with_1002(frames: list[bytes]) -> None:
    async with serving() as server, connected(server.address) as bystander:
        assert (await close_code(server.address, *frames))[0] == 1002
        assert server.counters.violations == 1
        await bystander.settle()


async def test_a_breach_after_a_request_in_the_same_read() -> None:
    """The request was executed or not, and the connection is closed in words."""
    async with serving() as server:
        assert (await close_code(server.address, frame(BINARY, QUERY), frame(3, b"")))[0] == 1002


LIMIT = 1000


def padded(size: int, message_id: int = 7) -> bytes:
    """A valid query of exactly `size` bytes."""
    empty = len(encode_query(message_id, "CACHE SET 'a' ''"))
    message = encode_query(message_id, f"CACHE SET 'a' '{'x' * (size - empty)}'")
    return message + bytes(size - len(message))


async def test_up_to_the_limit_is_normal() -> None:
    async with serving(max_message_bytes=LIMIT, max_frame_bytes=LIMIT) as server, raw(server.address) as client:
        await client.upgrade()
        await client.send(frame(BINARY, padded(LIMIT)))
        assert await client.read_reply() == DONE
        assert server.counters.largest_message_bytes == LIMIT


@pytest.mark.parametrize("size", [LIMIT + 1, 2 * LIMIT])
@pytest.mark.parametrize("fragments", [1, 3])
async def test_up_to_twice_the_limit_is_an_error_for_that_request(size: int, fragments: int) -> None:
    async with serving(max_message_bytes=LIMIT, max_frame_bytes=LIMIT) as server, raw(server.address) as client:
        await client.upgrade()
        await send_in_fragments(client, padded(size), fragments)
        assert await client.read_reply() == ErrorReply(7, oversize_text(size, LIMIT))
        await client.send(frame(BINARY, QUERY))
        assert await client.read_reply() == DONE
        assert server.counters.oversized == 1


async def test_a_frame_over_its_limit_but_not_twice_is_read() -> None:
    """Only the limit of messages has an error of its own; a frame is refused past twice its limit."""
    async with serving(max_message_bytes=4 * LIMIT, max_frame_bytes=LIMIT) as server, raw(server.address) as client:
        await client.upgrade()
        await client.send(frame(BINARY, padded(2 * LIMIT)))
        assert await client.read_reply() == DONE
        assert server.counters.oversized == 0


async def send_in_fragments(client: RawClient, message: bytes, count: int) -> None:
    step = -(-len(message) // count)
    parts = [message[start : start + step] for start in range(0, len(message), step)]
    for number, part in enumerate(parts):
        await client.send(frame(CONTINUATION if number else BINARY, part, fin=number == len(parts) - 1))


async def test_an_oversized_message_without_an_id_is_ignored() -> None:
    async with serving(max_message_bytes=LIMIT) as server, raw(server.address) as client:
        await client.upgrade()
        await client.send(frame(BINARY, b"\xff" * (LIMIT + 1)) + frame(BINARY, QUERY))
        assert await client.read_reply() == DONE
        assert server.counters.undecodable == 1


@pytest.mark.parametrize(
    ("message_limit", "frame_limit", "kind", "named"),
    [
        (LIMIT, LIMIT, "frame", LIMIT),
        (LIMIT, 4 * LIMIT, "message", LIMIT),
        (LIMIT, 3 * LIMIT // 2, "message", LIMIT),
        (4 * LIMIT, LIMIT, "frame", LIMIT),
    ],
)
async def test_beyond_twice_the_limit_closes_with_1009(
    message_limit: int, frame_limit: int, kind: str, named: int
) -> None:
    size = 2 * LIMIT + 1
    async with (
        serving(max_message_bytes=message_limit, max_frame_bytes=frame_limit) as server,
        connected(server.address) as bystander,
    ):
        reason = f"Message of {size} bytes exceeds the maximum {kind} size of {named} bytes"
        assert await close_code(server.address, frame(BINARY, padded(size))) == (1009, reason)
        assert server.counters.oversized == 1
        await bystander.settle()


async def test_a_fragmented_message_beyond_twice_the_limit() -> None:
    async with serving(max_message_bytes=LIMIT, max_frame_bytes=LIMIT) as server:
        frames = [frame(BINARY, b"x" * LIMIT, fin=False), *[frame(CONTINUATION, b"x" * LIMIT, fin=False)] * 2]
        reason = f"Message of {3 * LIMIT} bytes exceeds the maximum message size of {LIMIT} bytes"
        assert await close_code(server.address, *frames) == (1009, reason)


async def test_the_announced_size_is_enough_to_close() -> None:
    """Nothing of a frame that is too large is waited for, nor kept."""
    async with serving() as server:
        header = b"\x82\xff" + struct.pack(">Q", 1 << 40) + b"abcd"
        reason = f"Message of {1 << 40} bytes exceeds the maximum frame size of {64 * MIB} bytes"
        assert await close_code(server.address, header) == (1009, reason)


async def test_a_client_in_full_flight_sees_the_reason() -> None:
    """It may still be sending the frame that is refused."""
    size = 32 * MIB
    async with serving(max_message_bytes=MIB, max_frame_bytes=MIB) as server, raw(server.address) as client:
        await client.upgrade()
        await client.send(b"\x82\xff" + struct.pack(">Q", size) + b"abcd")
        for _ in range(32):
            await client.send(bytes(MIB))
        assert await client.read_close() == (1009, oversize_reason(size, "frame", MIB))


def test_close_reasons_fit() -> None:
    assert len(oversize_reason(2**63 - 1, "transport", 256 * MIB)) <= 123


async def test_the_read_buffer_of_an_idle_connection_is_small_again() -> None:
    async with serving(ping_interval_s=1) as server, connected(server.address) as client:
        await client.ask(f"CACHE SET 'a' '{'x' * 5 * MIB}'")
        (each,) = server._clients
        framing = each.websocket._framing
        assert framing is not None
        assert not framing.buffer_bytes, "the buffer of a large message goes with it"
        assert not server.counters.unfinished_bytes
        await client.ask(f"CACHE SET 'a' '{'x' * (MIB // 2)}'")
        assert framing.buffer_bytes > MIB // 2
        assert server.counters.unfinished_bytes > MIB // 2, "what another message leaves behind counts"
        each.ping(asyncio.get_running_loop().time())
        await until(lambda: not framing.buffer_bytes)
        await until(lambda: not server.counters.unfinished_bytes)
        await client.ask(f"CACHE SET 'a' '{'x' * MIB}'")
        await client.settle()
