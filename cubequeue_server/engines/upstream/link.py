"""One client's way to the CubeStore: what it waits for, over as many connections as that takes.

submit ──▶ waiting ──▶ Connection.send          an answer whose id waits here goes to the client as it came
              ▲                 │ lost
              └── sent again ◀──┘               once the loss has been judged, and there is a connection
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Final

from cubequeue_server.engines.upstream import texts
from cubequeue_server.engines.upstream.blame import Blame
from cubequeue_server.engines.upstream.connection import MESSAGE_TOO_BIG, Connection, Shared
from cubequeue_server.engines.upstream.dialer import Dialer
from cubequeue_server.engines.upstream.statement import Passing, Payload
from cubequeue_server.net.http_client import Opened
from cubequeue_server.observe.counters import LAST_SLOT
from protocol.encode import encode_error
from protocol.envelope import read_message_id
from protocol.pieces import Message, Pieces
from storage.vocabulary import RequestKey

_SIZE_IN_REASON: Final = re.compile(r"Message of (\d+) bytes exceeds the maximum \w+ size of (\d+) bytes")

# As many statements are sent, or failed, in one turn of the loop.
_AT_ONCE: Final = 200


class Link:
    """`deliver` gives a client its answers. `headers` are those of the client's handshake that matter upstream.

    One statement of a client is named by its message id; one that waits here already is not sent a second time.
    """

    __slots__ = (
        "_blame",
        "_connection",
        "_deliver",
        "_dialer",
        "_forget",
        "_headers",
        "_is_closed",
        "_is_dialing",
        "_is_paused",
        "_shared",
        "_was_connected",
        "waiting",
    )

    def __init__(
        self,
        shared: Shared,
        dialer: Dialer,
        blame: Blame,
        *,
        headers: list[tuple[bytes, bytes]],
        deliver: Callable[[Message], None],
        forget: Callable[[Link], None],
    ) -> None:
        self._shared = shared
        self._dialer = dialer
        self._blame = blame
        self._headers = headers
        self._deliver = deliver
        self._forget = forget
        self._connection: Connection | None = None
        self._is_dialing = self._is_paused = self._is_closed = self._was_connected = False
        self.waiting: dict[int, Passing] = {}  # by message id, in the order they came

    # Statements

    def submit(
        self,
        message_id: int,
        key: RequestKey | None,
        payload: Payload,
        response_format: int,
        holder: object = None,
    ) -> None:
        """Have a statement answered. `holder` keeps a payload alive that is a view. Raises nothing."""
        if message_id in self.waiting or self._is_closed:
            return
        shared, blame = self._shared, self._blame
        statement = Passing(message_id, key, payload, self._fail_blamed)
        statement.response_format, statement.holder = response_format, holder
        statement.began_s = statement.waits_since_s = shared.loop.time()
        verdict = blame.verdict(statement) if blame.records else None
        if verdict is not None:
            shared.counters.statements_lost += 1
            self._deliver(encode_error(message_id, verdict))
            return
        connection = self._connection
        may_run = connection is not None and connection.is_open
        refusal = shared.waiting.add(statement, may_run=may_run)
        if refusal is not None:
            shared.counters.statements_refused += 1
            self._deliver(encode_error(message_id, refusal))
            return
        self.waiting[message_id] = statement
        if connection is None or not may_run:
            self._dial()
        elif blame.records and blame.goes_in_turn(statement):
            blame.wait_for_turn(statement, self._send)
        else:
            connection.send(statement)

    def _send(self, statement: Passing) -> bool:
        connection = self._connection
        if connection is None or not connection.is_open or self.waiting.get(statement.message_id) is not statement:
            return False
        connection.send(statement)
        return True

    def _fail(self, statement: Passing, text: str) -> None:
        self._remove(statement)
        self._deliver(encode_error(statement.message_id, text))

    def _fail_blamed(self, statement: Passing, text: str) -> None:
        if self.waiting.get(statement.message_id) is statement:
            self._shared.counters.statements_lost += 1
            self._fail(statement, text)

    def _remove(self, statement: Passing) -> None:
        del self.waiting[statement.message_id]
        self._shared.waiting.remove(statement)

    def fail_late(self, now_s: float) -> None:
        """Fail what has waited for a connection for too long: some of it, the rest is for the next time."""
        target, counters = self._shared.target, self._shared.counters
        if self._connection is not None:
            return
        for statement in list(islice(self.waiting.values(), _AT_ONCE)):
            if now_s - statement.waits_since_s < target.timeout_s:
                break
            counters.statements_unreachable += 1
            self._fail(statement, texts.unreachable(target, self._dialer.reason, target.timeout_s))

    # Connections

    def headers(self) -> list[tuple[bytes, bytes]]:
        return self._headers

    def _dial(self) -> None:
        if self._connection is None and not self._is_dialing and not self._is_closed:
            self._is_dialing = True
            self._dialer.want(self)

    def on_opened(self, opened: Opened) -> None:
        counters = self._shared.counters
        self._is_dialing = False
        counters.reconnects += self._was_connected
        self._was_connected = True
        connection = self._connection = Connection(opened, self, self._shared)
        if self._is_paused:
            connection.pause()
        self._send_all(connection, deque(self.waiting.values()))

    def _send_all(self, connection: Connection, statements: deque[Passing]) -> None:
        """Send what waited, in parts: others have their turn in between, new statements of this client too."""
        for _ in range(min(_AT_ONCE, len(statements))):
            statement = statements.popleft()
            if not (self._blame.records and self._blame.goes_in_turn(statement)):
                self._send(statement)
            elif self.waiting.get(statement.message_id) is statement:
                self._blame.wait_for_turn(statement, self._send)
        if statements and self._connection is connection:
            self._shared.loop.call_soon(self._send_all, connection, statements)

    def on_declined(self, reason: str) -> None:
        self._is_dialing = False
        self._fail_all(deque(self.waiting.values()), texts.declined(self._shared.target, reason))

    def _fail_all(self, statements: deque[Passing], text: str) -> None:
        for _ in range(min(_AT_ONCE, len(statements))):
            statement = statements.popleft()
            if self.waiting.get(statement.message_id) is statement:
                self._shared.counters.statements_declined += 1
                self._fail(statement, text)
        if statements:
            self._shared.loop.call_soon(self._fail_all, statements, text)

    def on_lost(self, code: int, reason: str) -> None:
        shared = self._shared
        self._connection = None
        self._dialer.probe()
        at_work = [statement for statement in self.waiting.values() if statement.is_sent]
        too_large = _too_large(at_work, reason) if code == MESSAGE_TOO_BIG else []
        now_s = shared.loop.time()
        for statement in [*self.waiting.values()]:
            if not statement.is_sent:
                self._blame.forget(statement)  # its turn is asked for again with the next connection
            shared.waiting.halted(statement, now_s)
        for statement in at_work:
            if statement in too_large:
                shared.counters.statements_oversized += 1
                self._fail(statement, texts.message_too_large(reason))
            elif statement.payload is None:
                shared.counters.statements_lost += 1
                self._fail(statement, texts.lost_unkept(reason))
        blamed = [] if too_large else [statement for statement in at_work if statement.message_id in self.waiting]
        self._blame.on_lost(blamed, reason, self._dial_if_wanted)

    def _dial_if_wanted(self) -> None:
        if self.waiting:
            self._dial()

    # Answers

    def on_message(self, message: Message) -> None:
        shared = self._shared
        counters = shared.counters
        counters.bytes_received += len(message)
        statement = self._waiting_for(message.pieces[0] if isinstance(message, Pieces) else message)
        if statement is None:
            return
        counters.statements_answered += 1
        histogram, duration_ns = counters.seconds, int((shared.loop.time() - statement.began_s) * 1e9) or 1
        histogram[min(duration_ns.bit_length(), LAST_SLOT)] += 1
        histogram[0] += duration_ns
        del self.waiting[statement.message_id]
        shared.waiting.remove(statement)
        if self._blame.records:
            self._blame.answered(statement)
        self._deliver(message)

    def on_oversized(self, head: bytes, size_bytes: int) -> None:
        statement = self._waiting_for(head)
        if statement is not None:
            self._shared.counters.statements_oversized += 1
            if self._blame.records:
                self._blame.answered(statement)
            self._fail(statement, texts.reply_too_large(size_bytes))

    def _waiting_for(self, head: bytes) -> Passing | None:
        """The statement that an answer is for. A client must not get a second one, nor one that is for nobody."""
        message_id = read_message_id(head)
        statement = None if message_id is None else self.waiting.get(message_id)
        if statement is None or not statement.is_sent:
            self._shared.counters.replies_unknown += 1
            return None
        return statement

    # The client

    def on_client_flow(self, is_stalled: bool) -> None:
        """The client does, or does not, keep up with its answers."""
        self._is_paused = is_stalled
        if self._connection is None:
            return
        if is_stalled:
            self._connection.pause()
        else:
            self._connection.resume()

    def close(self) -> None:
        """The client has gone: nobody waits for anything any more."""
        self._is_closed = True
        self._dialer.forget(self)
        for statement in list(self.waiting.values()):
            self._shared.counters.statements_abandoned += 1
            self._blame.forget(statement)
            self._remove(statement)
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._forget(self)


def _too_large(at_work: list[Passing], reason: str) -> list[Passing]:
    """The statements that a close with 1009 is about: of the size that it names, or above twice the maximum it names.

    The size is that of the message, or of as much of it as had arrived in fragments (wire.md §2).
    """
    found = _SIZE_IN_REASON.search(reason)
    if found is None:
        return []
    size, maximum = int(found[1]), int(found[2])
    exact = [statement for statement in at_work if statement.size_bytes == size]
    return exact or [statement for statement in at_work if statement.size_bytes > 2 * maximum]
