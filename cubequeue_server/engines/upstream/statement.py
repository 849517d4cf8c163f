"""One statement on its way to the CubeStore, and the bounds of all of them together."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from cubequeue_server.engines.upstream import texts
from cubequeue_server.engines.upstream.counters import UpstreamCounters
from protocol.relayed import place_of_format
from storage.vocabulary import RequestKey

# The bytes of a message, or a view of a buffer that a `holder` keeps alive.
Payload = bytes | memoryview


class Passing:
    """A statement that waits for its answer.

    `payload` is its message, None once that was let go; `is_sent` says that it runs, or may. It was sent `sends` times.
    `waits_since_s` is when it began to wait for a connection. `fail` is its link's.
    """

    __slots__ = (
        "began_s",
        "fail",
        "holder",
        "is_sent",
        "key",
        "message_id",
        "payload",
        "response_format",
        "sends",
        "size_bytes",
        "waits_since_s",
    )

    def __init__(
        self, message_id: int, key: RequestKey | None, payload: Payload, fail: Callable[[Passing, str], None]
    ) -> None:
        self.message_id = message_id
        self.key = key
        self.payload: Payload | None = payload
        self.holder: object = None  # keeps a payload alive that is a view
        self.size_bytes = len(payload)
        self.response_format = 0
        self.fail = fail
        self.is_sent = False
        self.sends = 0
        self.began_s = self.waits_since_s = 0.0

    def part(self, start: int, end: int, *, legacy: bool) -> bytes:
        """Some bytes of the message as they are sent: the format byte is 0 in a `legacy` one."""
        assert self.payload is not None
        part = bytes(self.payload[start:end])
        if legacy and self.response_format:
            place = place_of_format(self.payload)
            if start <= place < end and place:
                return b"%b\0%b" % (part[: place - start], part[place - start + 1 :])
        return part


class Waiting:
    """All statements that wait, of all clients. Their bytes are kept within `max_bytes`, to be sent again.

    Past it the bytes of statements that run are let go, the oldest first. O(1) a statement.
    """

    def __init__(self, max_statements: int, max_bytes: int, counters: UpstreamCounters) -> None:
        self._max_statements = max_statements
        self._max_bytes = max_bytes
        self._counters = counters
        self._running: OrderedDict[Passing, None] = OrderedDict()  # those whose bytes are kept, the oldest first

    def add(self, statement: Passing, *, may_run: bool) -> str | None:
        """A statement begins to wait; why it must not, if it must not. One that may run at once needs no room."""
        counters = self._counters
        if counters.waiting >= self._max_statements:
            return texts.too_many_waiting(self._max_statements)
        size_bytes = counters.waiting_bytes + statement.size_bytes
        if size_bytes > self._max_bytes:
            size_bytes = self._make_room(statement.size_bytes)
            if size_bytes > self._max_bytes and not may_run:
                return texts.too_many_bytes_waiting(self._max_bytes)
        counters.waiting += 1
        counters.waiting_bytes = size_bytes
        return None

    def _make_room(self, more_bytes: int) -> int:
        """Let go of what runs, as far as that is needed; how many bytes there are then with `more_bytes`."""
        counters = self._counters
        while counters.waiting_bytes + more_bytes > self._max_bytes and self._running:
            oldest, _ = self._running.popitem(last=False)
            self._let_go(oldest)
        return counters.waiting_bytes + more_bytes

    def sent(self, statement: Passing) -> None:
        """It runs."""
        statement.is_sent = True
        statement.sends += 1
        if statement.sends > 1:
            self._counters.resent += 1
        if self._counters.waiting_bytes > self._max_bytes:
            self._let_go(statement)
        else:
            self._running[statement] = None

    def halted(self, statement: Passing, now_s: float) -> None:
        """Its connection was lost: it waits to be sent, from now on."""
        statement.is_sent = False
        statement.waits_since_s = now_s
        self._running.pop(statement, None)

    def remove(self, statement: Passing) -> None:
        """It waits no longer."""
        self._running.pop(statement, None)
        self._counters.waiting -= 1
        if statement.payload is not None:
            self._counters.waiting_bytes -= statement.size_bytes
            statement.payload = statement.holder = None

    def _let_go(self, statement: Passing) -> None:
        if statement.payload is not None:
            self._counters.waiting_bytes -= statement.size_bytes
            statement.payload = statement.holder = None
