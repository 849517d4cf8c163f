"""A client that answers no pings has its own writes refused, and those of nobody else."""

from __future__ import annotations

import asyncio
import random

import pytest

from cubequeue_server.net.front import host_of
from cubequeue_server.requests.ask import Ask
from protocol.client_codec import ErrorReply, Reply, Rows, decode_reply, encode_query
from storage.limits import MIB, AnswerLimits, CacheLimits, QueueLimits
from storage.memory import MemoryStore
from tests.server.client import BINARY, PING, RawClient, connected, frame
from tests.server.harness import FIRST_ID, serving


class Peer(asyncio.Transport):
    """A connection from an address."""

    def __init__(self, host: str) -> None:
        super().__init__({"peername": (host, 4_711)})


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("::1", "::"),
    ],
)
def test_clients_of_one_host_have_one_name(address: str, host: str) -> None:
    """Of IPv6 the network counts: a client chooses the other half of its address."""
    assert host_of(Peer(address)) == host


def test_a_connection_without_an_address_has_no_host() -> None:
    assert host_of(asyncio.Transport()) == ""


async def reply_to(silent: RawClient) -> Reply:
    """The next answer to a client that reads pings and answers none."""
    while True:
        opcode, payload = await silent.read_frame()
        if opcode == BINARY:
            return decode_reply(payload)
        assert opcode == PING


async def test_regression_a_client_without_pongs_blocks_its_own_writes_alone() -> None:
    """Ten answers of 60 MB filled the room, and everybody's writes were refused for minutes; here, by a hundredth."""
    limits = QueueLimits(), CacheLimits(), AnswerLimits(max_bytes=5 * MIB)
    store = MemoryStore(*limits, FIRST_ID, random.Random(7).random, Ask)
    async with serving(store) as server, connected(server.address, "other") as other:
        silent = RawClient(*await asyncio.open_connection(*server.address, local_addr=("127.0.0.2", 0)))
        await silent.upgrade()
        message_id, replies = 0, []
        for number in range(10):
            await other.ask(f"QUEUE ADD 'q:{number}' ?", [b"x" * 600_000])
            for query in (f"QUEUE RETRIEVE CONCURRENCY 100 'q:{number}'", f"QUEUE CANCEL 'q:{number}'"):
                message_id += 1
                await silent.send(frame(BINARY, encode_query(message_id, query, connection_id="silent")))
                replies.append(await reply_to(silent))
        refused = [reply.text for reply in replies if isinstance(reply, ErrorReply)]
        assert len(refused) >= 8
        assert all("fill the share of address 127.0.0.2" in text for text in refused)
        for number in range(10, 20):
            await other.ask(f"QUEUE ADD 'q:{number}' ?", [b"x" * 600_000])
            [(payload, *_)] = await other.rows(f"QUEUE RETRIEVE CONCURRENCY 100 'q:{number}'")
            assert payload is not None
            assert isinstance(await other.ask(f"QUEUE ACK 'q:{number}' 'r'"), Rows)
        silent.writer.close()
