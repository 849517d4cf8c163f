"""What refused statements and connections that ended leave behind: nothing.

An error has a traceback, which holds the frames that it went through, and they hold the message. Where a frame holds
the error, too, all of them stay until garbage is collected: 25 refused CACHE SETs of 63 MB once took 1.7 GB.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import types
from collections.abc import Callable, Iterator

import pytest

from cubequeue_server.engines.sql.engine import SqlEngine
from cubequeue_server.net.http_head import Answer, Head
from cubequeue_server.observe.pages import Pages
from cubequeue_server.observe.status import StatusServer
from cubequeue_server.requests.ask import Ask
from cubequeue_server.settings.resolve import load_settings
from cubequeue_server.settings.values import Endpoint
from protocol.client_codec import encode_query
from storage.errors import InternalError
from storage.limits import MIB
from storage.memory import MemoryStore
from storage.vocabulary import Result, Statement
from tests.server.client import BINARY, frame, raw
from tests.server.harness import Answering, WatchedStore, serving, until
from tests.server.mysql_client import ERROR, EXECUTE, QUERY, QUIT, mysql
from tests.server.test_mysql_port import Ports, ports, prepared

_IDS = itertools.count(1)
LARGE = "x" * 300_000


def fails(_statement: Statement, _now_ms: int) -> Result:
    raise RuntimeError("unforeseen")


def is_late(_statement: Statement, _now_ms: int) -> Result:
    raise InternalError("refused")


def select(store: MemoryStore) -> SqlEngine:
    return SqlEngine(Ask, store)


# A statement that is refused, by what refuses it, and the SQL engine beside.
REFUSED: dict[str, tuple[str, Callable[[MemoryStore], Answering | SqlEngine]]] = {
    "no such command": (f"QUEUE NONSENSE '{LARGE}'", select),
    "an open text": (f"CACHE SET 'k' '{LARGE}", select),
    "a number out of range": (f"CACHE SET TTL 99999999999999999999 'k' '{LARGE}'", select),
    "no parameters": (f"CACHE SET ? '{LARGE}'", select),
    "the store": (f"QUEUE ADD EXCLUSIVE 'q:k' '{LARGE}'", select),
    "an unknown column": (f"SELECT nope, '{LARGE}' FROM system.queue", select),
    "no SELECT": (f"DROP '{LARGE}'", select),
    "an engine": (f"SELECT '{LARGE}'", lambda _: Answering(is_late)),
    "a mistake of ours": (f"SELECT '{LARGE}'", lambda _: Answering(fails)),
}


@contextlib.contextmanager
def collected() -> Iterator[list[object]]:
    """What only the collector would have freed of what the block has made."""
    gc.collect()
    gc.disable()
    gc.garbage.clear()
    gc.set_debug(gc.DEBUG_SAVEALL)
    garbage: list[object] = []
    try:
        yield garbage
        gc.collect()
        garbage += gc.garbage
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def described(garbage: list[object]) -> list[str]:
    """Errors, frames and large values among it, for a failure that says where to look."""
    kinds = (BaseException, types.TracebackType, types.FrameType)
    return [repr(each)[:200] for each in garbage if isinstance(each, kinds) or len(str(each)) > len(LARGE)]


@pytest.mark.parametrize("is_mysql", [False, True], ids=["websocket", "mysql"])
@pytest.mark.parametrize("name", REFUSED)
async def test_refused_statements_leave_nothing(name: str, is_mysql: bool) -> None:
    text, engine = REFUSED[name]
    store = WatchedStore()
    async with (
        ports(store, engine(store)) as both,
        mysql(both.address) as mysql_client,
        raw(both.server.address) as client,
    ):
        await client.upgrade()

        async def ask() -> None:
            if is_mysql:
                assert (await mysql_client.ask(QUERY, text.encode()))[-1][0] == ERROR
            else:
                await client.send(frame(BINARY, encode_query(next(_IDS), text)))
                await client.read_frame()

        await ask()
        store.executed.clear()
        with collected() as garbage:
            for _ in range(3):
                await ask()
            store.executed.clear()
        assert described(garbage) == []
        assert len(garbage) < 20


async def test_undecodable_and_oversized_messages_leave_nothing() -> None:
    async with serving(max_message_bytes=MIB) as server, raw(server.address) as client:
        await client.upgrade()
        with collected() as garbage:
            for _ in range(3):
                await client.send(frame(BINARY, encode_query(next(_IDS), f"CACHE SET 'k' '{LARGE * 4}'")))
                await client.read_frame()
                await client.send(frame(BINARY, b"junk"))
                await client.send(frame(BINARY, encode_query(next(_IDS), "CACHE GET 'k'")))
                await client.read_frame()
        assert described(garbage) == []


async def test_large_messages_that_are_refused_leave_nothing() -> None:
    """More than a megabyte, which is read in steps: no statement, no UTF-8, refused when it was executed."""
    large = b"x" * (2 * MIB)
    async with serving() as server, raw(server.address) as client:
        await client.upgrade()

        async def refused() -> None:
            for text in (
                b"CACHE SET 'k' '%s' y" % large,
                b"CACHE SET 'k' '\xff%s'" % large,
                b"QUEUE ACK 'k' '%s" % large,
            ):
                await client.send(frame(BINARY, encode_query(next(_IDS), text)))
                await client.read_frame()

        await refused()
        with collected() as garbage:
            for _ in range(3):
                await refused()
        assert described(garbage) == []
        assert len(garbage) < 20


@pytest.mark.parametrize("end", ["quits", "goes", "is out of order", "sends too much", "is refused its statement"])
async def test_clients_of_the_mysql_port_leave_nothing(end: str) -> None:
    async def come_and_go(both: Ports) -> None:
        async with mysql(both.address) as client:
            id_, _ = await prepared(client, b"SELECT ?, '%s'" % LARGE[:30_000].encode())
            if end == "quits":
                client.command(QUIT)
            elif end == "is out of order":
                client.writer.write(b"\0\0\0\7")
            elif end == "sends too much":
                client.writer.write(b"\xff\xff\xff\0")
                client.sequence = 1
                assert (await client.read())[0] == ERROR
            elif end == "is refused its statement":
                assert (await client.ask(EXECUTE, id_))[0][0] == ERROR
            if end not in {"goes", "is refused its statement"}:
                await client.is_closed()
        await until(lambda: not both.connections)

    async with ports() as both:
        await come_and_go(both)
        with collected() as garbage:
            for _ in range(3):
                await come_and_go(both)
        assert described(garbage) == []
        assert not any("MysqlConnection" in type(each).__name__ for each in garbage)


@pytest.mark.parametrize("path", ["/nothing", "/ws"])
async def test_refused_handshakes_leave_nothing(path: str) -> None:
    async with serving() as server:
        with collected() as garbage:
            for _ in range(3):
                async with raw(server.address) as client:
                    await client.send(f"GET {path} HTTP/1.1\r\nX: {'x' * 10_000}\r\n\r\n".encode())
                    await client.read_to_end()
        assert described(garbage) == []


@pytest.mark.parametrize(
    "line",
    ["GET /nothing", "GET /fails", "GET /api/items?queue=!", "POST /api/cancel", "POST /api/cancel?item=cTph", "?"],
)
async def test_refused_requests_of_the_status_port_leave_nothing(line: str) -> None:
    def fails_here(_request: Head) -> Answer:
        raise RuntimeError("x" * len(LARGE))

    store = WatchedStore()
    async with serving(store) as server:
        may_cancel = line != "POST /api/cancel"
        pages = Pages(
            store,
            server,
            lambda: 1,
            may_cancel=lambda: may_cancel,
            settings=load_settings({}, {}).settings,
            failure=lambda: None,
            upstream=None,
        )
        routes = {**pages.routes, "/fails": fails_here}
        status = StatusServer(Endpoint("127.0.0.1", 0), routes, actions=pages.actions)
        await status.start()
        with collected() as garbage:
            for _ in range(3):
                reader, writer = await asyncio.open_connection(*status.address)
                writer.write(f"{line} HTTP/1.1\r\nx-cubequeue-action: cancel\r\nX: {'x' * 5_000}\r\n\r\n".encode())
                assert (await reader.read()).startswith(b"HTTP/1.1 ")
                writer.close()
                await writer.wait_closed()
        await status.stop()
        assert described(garbage) == []
