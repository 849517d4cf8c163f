"""How many Python calls a request takes, counted on a real server: the number does not depend on the machine."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from types import CodeType, FrameType
from typing import Final, NamedTuple

import pytest
import uvloop
from websockets.sync.client import ClientConnection, connect

from cubequeue_server.engines.sql.engine import SqlEngine
from cubequeue_server.engines.stores import open_store
from cubequeue_server.net.outbox import Outbox
from cubequeue_server.process import now_ms, server_options
from cubequeue_server.process_limits import Sockets
from cubequeue_server.requests.ask import Ask
from cubequeue_server.router import Router
from cubequeue_server.server import Server
from cubequeue_server.settings.resolve import load_settings
from protocol.client_codec import QueryEncoder, Rows, decode_reply
from tests.server.client import DRIVER

pytestmark = [
    pytest.mark.skipif(
        sys.implementation.name != "cpython" or sys.version_info[:2] != (3, 11),
        reason="the bounds are those of CPython 3.11: 3.12 inlines comprehensions",
    ),
]

ROOT: Final = Path(__file__).parents[2]
WARM_UP_ROUNDS: Final = 15  # of seven requests each
ROUNDS: Final = 50
OTHER_ITEMS: Final = 20
TIMEOUT_S: Final = 20

# Python calls a request at most, as the specification of the request path asks (CPython 3.11).
BOUNDS: Final[Mapping[str, Mapping[str, int]]] = {
    "memory": {
        "HEARTBEAT": 18,
        "CACHE GET": 15,
        "CACHE SET": 28,
        "ADD": 34,
        "RETRIEVE": 34,
        "ACK": 30,
        "RESULT": 24,
    },
    "relaxed": {
        "HEARTBEAT": 45,
        "CACHE GET": 15,
        "CACHE SET": 60,
        "ADD": 66,
        "RETRIEVE": 70,
        "ACK": 60,
        "RESULT": 54,
    },
}

# JSON with SQL in it, 2 KB, as the driver's `sqlstring` writes it: quotes and line ends are escaped.
_SQL: Final = (
    r"SELECT \\\"orders\\\".status \\\"orders__status\\\" FROM public.orders AS \\\"orders\\\" WHERE x = \'new\'\\n"
)
PAYLOAD: Final = ((r"{\"query\":{\"query\":\"" + _SQL * 20)[:2000] + r"\"}}").encode()
VALUE: Final = b"v" * 100


class Counted(NamedTuple):
    """The code of each function that one request called, in order."""

    calls: tuple[CodeType, ...]

    def __str__(self) -> str:
        return "\n".join(f"  {at:3} {_place(code)}" for at, code in enumerate(self.calls, 1))


def _place(code: CodeType) -> str:
    path = Path(code.co_filename)
    file = path.relative_to(ROOT) if path.is_relative_to(ROOT) and ".venv" not in path.parts else path.name
    return f"{code.co_qualname}  {file}:{code.co_firstlineno}"


class CountedServer:
    """A server on a loop in its own thread, as a process runs it; `calls` notes each Python function it enters."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self.calls: list[CodeType] = []
        self.port = 0
        self._environ = settings
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._started: SimpleQueue[bool] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> CountedServer:
        self._thread.start()
        assert self._started.get(timeout=TIMEOUT_S)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(sys.setprofile, None)
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(TIMEOUT_S)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        settings = load_settings({}, self._environ).settings
        self._loop = asyncio.get_running_loop()
        outbox = Outbox(self._loop)
        opened = open_store(settings, now_ms, outbox)
        options = replace(server_options(settings, Sockets(10, 10)), host="127.0.0.1", port=0)
        server = Server(options, Router(opened.store, SqlEngine(Ask, opened.store)), outbox, time.time_ns)
        try:
            await server.start()
            self.port = server.address[1]
            self._started.put(True)
            await self._stop.wait()
        finally:
            self._started.put(False)
            await server.stop()
            opened.close()

    def begin(self) -> None:
        """Note calls from now on."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(sys.setprofile, self._note)
        self.settle()

    def _note(self, frame: FrameType, event: str, _argument: object) -> None:
        if event == "call":
            self.calls.append(frame.f_code)

    def settle(self) -> None:
        """Wait until the loop has run what was due, and what that made due. The loop calls no Python for it."""
        assert self._loop is not None
        turn: SimpleQueue[None] = SimpleQueue()
        for _ in range(2):
            self._loop.call_soon_threadsafe(turn.put, None)
            turn.get(timeout=TIMEOUT_S)


class Driver:
    """Sends one statement after the other as Cube's driver does, and notes the calls of each."""

    def __init__(self, server: CountedServer, websocket: ClientConnection) -> None:
        self.counted: dict[str, list[Counted]] = {}
        self._server = server
        self._websocket = websocket
        self._encoder = QueryEncoder(DRIVER)
        self._message_id = 0

    def ask(self, name: str, statement: bytes) -> list[tuple[bytes | None, ...]]:
        """The rows of an answer."""
        self._message_id += 1
        message = self._encoder.encode(self._message_id, statement)
        self._server.calls.clear()
        self._websocket.send(message)
        answer = self._websocket.recv(TIMEOUT_S)
        self._server.settle()
        self.counted.setdefault(name, []).append(Counted(tuple(self._server.calls)))
        assert isinstance(answer, bytes)
        reply = decode_reply(answer)
        assert isinstance(reply, Rows), reply
        assert reply.message_id == self._message_id
        return reply.rows

    def fill(self, items: int) -> None:
        """Other items in the same queue, every second one of them active, as in a server at work."""
        for number in range(items):
            path = b"SQL_QUERY_calls:other %d" % number
            self.ask("other", b"QUEUE ADD PRIORITY %d '%s' '%s'" % (9 + number % 3, path, PAYLOAD))
            if number % 2:
                self.ask("other", b"QUEUE RETRIEVE CONCURRENCY 1000 '%s'" % path)

    def warm_up(self) -> None:
        self.fill(OTHER_ITEMS)
        for number in range(WARM_UP_ROUNDS):
            self.round(number)
        self.counted.clear()

    def round(self, number: int) -> None:
        """One of each statement, and each does what it is there for."""
        path, key = b"SQL_QUERY_calls:%032x" % number, b"calls#SQL_QUERY_RESULT:%032x" % number
        [(id_, added, _)] = self.ask("ADD", b"QUEUE ADD PRIORITY 10 '%s' '%s'" % (path, PAYLOAD))
        assert id_ is not None
        assert added == b"true"
        [(payload, *_)] = self.ask("RETRIEVE", b"QUEUE RETRIEVE CONCURRENCY 1000 '%s'" % path)
        assert payload is not None
        assert len(payload) > 1_500
        assert b'\\"orders\\"' in payload
        assert self.ask("HEARTBEAT", b"QUEUE HEARTBEAT %s" % id_) == []
        assert self.ask("ACK", b"QUEUE ACK %s '%s'" % (id_, VALUE)) == [(b"true",)]
        [(result, *_)] = self.ask("RESULT", b"QUEUE RESULT '%s'" % path)
        assert result == VALUE
        assert self.ask("CACHE SET", b"CACHE SET TTL 600 '%s' '%s'" % (key, VALUE)) == [(b"true",)]
        assert self.ask("CACHE GET", b"CACHE GET '%s'" % key) == [(VALUE,)]


@contextmanager
def driving(settings: Mapping[str, str]) -> Iterator[Driver]:
    with (
        CountedServer(settings) as server,
        connect(f"ws://127.0.0.1:{server.port}/ws", compression=None, ping_interval=None, close_timeout=1) as websocket,
    ):
        server.begin()
        yield Driver(server, websocket)


def usual(counted: Sequence[Counted]) -> Counted:
    """A request with the most frequent number of calls: a timer of the server ran beside a few of the others."""
    [(number, times)] = Counter(len(each.calls) for each in counted).most_common(1)
    assert times > len(counted) / 2, sorted(Counter(len(each.calls) for each in counted).items())
    return next(each for each in counted if len(each.calls) == number)


@pytest.mark.parametrize("durability", BOUNDS)
def test_a_request_takes_few_python_calls(durability: str, tmp_path: Path) -> None:
    settings = {"CUBEQUEUE_DURABILITY": durability, "CUBESTORE_DATA_DIR": str(tmp_path)}
    with driving(settings) as driver:
        driver.warm_up()
        for number in range(WARM_UP_ROUNDS, WARM_UP_ROUNDS + ROUNDS):
            driver.round(number)
    found = {name: usual(counted) for name, counted in driver.counted.items()}
    bounds = BOUNDS[durability]
    assert found.keys() == bounds.keys()
    print(f"\nPython calls a request, {durability}")
    for name, bound in bounds.items():
        print(f"  {name:10} {len(found[name].calls):3}  of {bound} at most")
    above = [
        f"{name} takes {len(found[name].calls)} calls, {bound} at most:\n{found[name]}"
        for name, bound in bounds.items()
        if len(found[name].calls) > bound
    ]
    assert not above, "\n".join(above)
