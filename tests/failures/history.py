"""A client that remembers what was acknowledged and what was refused, and looks later whether it is true."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from protocol.client_codec import ErrorReply, Reply, Rows, decode_reply, encode_query
from tests.cli.running import Running

TIMEOUT_S = 30.0


class History:
    """Adds items with numbers, counts in the cache, and sends refused statements again under their first number."""

    def __init__(self, size_bytes: int = 2_000) -> None:
        self._size_bytes = size_bytes
        self._connection: ClientConnection | None = None
        self._last = 0
        self.acknowledged: list[int] = []
        self.refused: dict[int, str] = {}
        self.counted = 0

    @contextmanager
    def on(self, server: Running) -> Iterator[None]:
        """Talk to this server, over a connection of its own."""
        before = self._connection
        with connect(f"ws://{server.ws[0]}:{server.ws[1]}/ws", max_size=None) as self._connection:
            yield
        self._connection = before

    def ask(self, sql: str, message_id: int | None = None) -> Reply | None:
        """The answer; None when the connection ends instead."""
        assert self._connection is not None
        if message_id is None:
            self._last = message_id = self._last + 1
        try:
            self._connection.send(encode_query(message_id, sql, connection_id="history"))
            answer = self._connection.recv(timeout=TIMEOUT_S)
        except ConnectionClosed:
            return None
        assert isinstance(answer, bytes)
        return decode_reply(answer)

    def rows(self, sql: str) -> list[tuple[bytes | None, ...]]:
        reply = self.ask(sql)
        assert isinstance(reply, Rows), reply
        return reply.rows

    def payload(self, number: int) -> str:
        return Random(number).randbytes(self._size_bytes // 2).hex()  # no disk makes that small

    def _note(self, number: int, reply: Reply | None) -> bool:
        if isinstance(reply, Rows):
            assert reply.rows[0][1] == b"true", "it was there already"
            self.acknowledged.append(number)
            return True
        if isinstance(reply, ErrorReply):
            self.refused[number] = reply.text
        return False

    def add(self) -> bool:
        """Add an item; whether that was acknowledged."""
        number = self._last + 1
        return self._note(number, self.ask(f"QUEUE ADD 'q:{number}' '{self.payload(number)}'"))

    def count(self) -> bool:
        """Increase a number in the cache; whether that was acknowledged."""
        reply = self.ask("CACHE INCR 'c:n'")
        if isinstance(reply, Rows):
            self.counted += 1
            assert reply.rows == [(b"%d" % self.counted,)]
        return isinstance(reply, Rows)

    def until_refused(self, most: int = 10_000) -> str:
        """Add until that is refused; the error."""
        for _ in range(most):
            if not self.add():
                return list(self.refused.values())[-1]
        raise AssertionError("everything was acknowledged")

    def until_added(self) -> float:
        """Try once in a while until an item is taken; the seconds that took."""
        return _until(self.add)

    def check(self) -> None:
        """Everything acknowledged is there, and nothing that was refused; the count is right."""
        listed = {int(row[0] or b"") for row in self.rows("QUEUE PENDING 'q'")}
        assert listed == set(self.acknowledged)
        for number in {*self.acknowledged[:3], *self.acknowledged[-3:]}:
            assert self.rows(f"QUEUE GET 'q:{number}'")[0][0] == self.payload(number).encode()
        expected = b"%d" % self.counted if self.counted else None
        assert self.rows("CACHE GET 'c:n'") == [(expected,)]

    def send_again(self, server: Running) -> None:
        """On another connection, as a client does. What was refused is executed now: no error was kept, and none had
        an effect. What was acknowledged is answered as at first."""
        acknowledged = self.acknowledged[-5:]
        with self.on(server):
            for number in list(self.refused):
                reply = self.ask(f"QUEUE ADD 'q:{number}' '{self.payload(number)}'", number)
                assert self._note(number, reply), reply
                del self.refused[number]
            for number in acknowledged:
                reply = self.ask(f"QUEUE ADD 'q:{number}' '{self.payload(number)}'", number)
                assert isinstance(reply, Rows)
                assert reply.rows[0][1] == b"true", "executed anew it would be false"


def _until(is_done: Callable[[], bool]) -> float:
    start = time.monotonic()
    while not is_done():
        assert time.monotonic() - start < TIMEOUT_S
        time.sleep(0.2)
    return time.monotonic() - start


def until_ready(server: Running) -> float:
    """Wait for /readyz to be 200 again; the seconds that took."""
    return _until(lambda: server.get("/readyz")[0] == 200)
