"""The server: listens, admits clients, keeps the clocks running, and stops in order."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from cubequeue_server.access.credentials import Credentials
from cubequeue_server.net.front import Front, TlsEntrance
from cubequeue_server.net.http_head import RefusedError
from cubequeue_server.net.unfinished import Unfinished
from cubequeue_server.net.websocket import POLICY_VIOLATION, SERVICE_RESTART, TRY_AGAIN_LATER, WebSocket
from cubequeue_server.observe.counters import Counters
from cubequeue_server.observe.logs import log_event
from cubequeue_server.observe.loop_lag import LoopLag
from cubequeue_server.options import ServerOptions
from cubequeue_server.requests.calls import Call
from cubequeue_server.requests.connection import Connection, Identity
from cubequeue_server.requests.dispatcher import Dispatcher, SqlEngine
from cubequeue_server.requests.outbox import Outbox
from cubequeue_server.settings.values import Endpoint
from storage.engine import Caller, Outcome, Store
from storage.vocabulary import Statement

__all__ = ["Server", "ServerOptions", "SqlEngine"]

_EVICTED: Final = "connection evicted to admit a newer one for the same user"
_STOPPING: Final = "cubequeue is stopping"
_REMOVED: Final = "this user was removed"

_ORDINARY_ENDS: Final = frozenset({"client", "lost", "stopping"})
_log = logging.getLogger(__name__)

_CHECK_PEERS_S: Final = 1.0
_CLOSED_AT_ONCE: Final = 100  # connections between two turns of the loop
_BUSY_TICK_S: Final = 0.001  # until the next tick when more is due: others get their turn in between
_STOP_POLL_S: Final = 0.005
_SHARE_FOR_ANSWERS: Final = 0.5  # of the time a stop may take; the rest is for closing


class Server:
    """Serves a store to WebSocket clients on one port (wire.md §1 to §3).

    `sql` answers the statements that are not the store's; it gets the wall clock in ms. `clock_ns` tells it
    in ns. `credentials` say who may connect, anybody when None; with `tls` the port speaks nothing else. `counters`
    and `lag` may be read at any time.
    """

    def __init__(
        self,
        options: ServerOptions,
        store: Store,
        sql: SqlEngine,
        clock_ns: Callable[[], int],
        *,
        credentials: Credentials | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.counters = Counters()
        self._credentials = Credentials() if credentials is None else credentials
        self._tls = tls
        self._options = options
        self._store = store
        self._sql = sql
        self._clock_ns = clock_ns
        self.lag = LoopLag()
        self._fronts: dict[Front, None] = {}  # in the order they came
        self._connections: dict[Connection, None] = {}  # in the order they came
        self._of_user: dict[bytes, dict[Connection, None]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._listener: asyncio.Server | None = None
        self._loop: asyncio.AbstractEventLoop
        self._outbox: Outbox
        self.unfinished: Unfinished
        self._dispatcher: Dispatcher

    async def start(self) -> None:
        """Listen. Raises OSError when the address cannot be had."""
        loop = self._loop = asyncio.get_running_loop()
        self._outbox = Outbox(loop)
        options = self._options
        self.unfinished = Unfinished(options.max_unfinished_bytes, options.message_timeout_s, self.counters, loop.time)
        self._dispatcher = Dispatcher(
            options=self._options,
            store=self._store,
            sql=self._sql,
            clock_ns=self._clock_ns,
            counters=self.counters,
            outbox=self._outbox,
            on_lost=self._on_lost,
            loop=loop,
        )
        self._listener = await loop.create_server(
            self._accept, self._options.host or None, self._options.port, backlog=self._options.backlog
        )
        self._credentials.when_removed(self._end_removed)
        self._tick()
        self._check_peers()
        self.lag.start()

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens; the first of several addresses."""
        assert self._listener is not None, "the server was not started"
        host, port, *_ = self._listener.sockets[0].getsockname()
        return host, port

    @property
    def in_flight(self) -> int:
        """Requests that were begun and not answered."""
        return self._dispatcher.in_flight

    def call(self, statement: Statement, caller: Caller, tell: Callable[[Outcome], None]) -> Call:
        """Execute a statement for a caller inside this process; `tell` gets its outcome, now or later."""
        return self._dispatcher.call(statement, caller, tell)

    def give_up_call(self, call: Call) -> None:
        """Nobody listens to a call any more."""
        self._dispatcher.give_up_call(call)

    async def stop(self) -> None:
        """Answer what runs, waiters with no rows, and close all with 1012. Takes at most `stop_timeout_s`."""
        if self._listener is None:
            return
        deadline_s = self._loop.time() + self._options.stop_timeout_s
        self._listener.close()
        for front in list(self._fronts):
            front.abort()
        self._dispatcher.stop_waiting()
        answers_until_s = deadline_s - _SHARE_FOR_ANSWERS * self._options.stop_timeout_s
        await self._until(lambda: not self._dispatcher.in_flight, answers_until_s)
        for connection in list(self._connections):
            connection.close(SERVICE_RESTART, _STOPPING)
        await self._until(lambda: not self._connections, deadline_s - _STOP_POLL_S)
        for connection in list(self._connections):
            connection.abort("stopping")
        for timer in self._timers.values():
            timer.cancel()
        self.lag.stop()
        self._listener = None

    async def _until(self, is_done: Callable[[], bool], deadline_s: float) -> None:
        while not is_done() and self._loop.time() < deadline_s:  # noqa: ASYNC110  # many small ends make this one
            await asyncio.sleep(_STOP_POLL_S)

    # Clients

    def _accept(self) -> asyncio.Protocol:
        if len(self._fronts) >= self._options.max_handshakes:
            next(iter(self._fronts)).abort()  # who has said nothing for longest, so that a newcomer gets its chance
            self.counters.handshakes_dropped += 1
        front = Front(self._options, self, self._credentials, self._forget_front)
        self._fronts[front] = None
        return front if self._tls is None else TlsEntrance(front, self._tls)

    def _forget_front(self, front: Front) -> None:
        self._fronts.pop(front, None)

    def check_room(self) -> None:
        if len(self._connections) >= self._options.max_connections:
            self.counters.connections_refused += 1
            text = f"{self._options.max_connections} connections are open already"
            raise RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, text)

    def admit(self, transport: asyncio.Transport, identity: Identity, already_read: bytes) -> None:
        if identity.user:
            self._make_room(identity.user)
        connection = Connection(identity, self._dispatcher, self._loop, _peer_of(transport))
        websocket = WebSocket(
            transport, connection, self._options, self.counters, self._outbox, unfinished=self.unfinished
        )
        connection.attach(websocket)
        self._connections[connection] = None
        if identity.user:
            self._of_user.setdefault(identity.user, {})[connection] = None
        self.counters.connections += 1
        self.counters.connections_accepted += 1
        websocket.start(already_read)

    def _make_room(self, user: bytes) -> None:
        limit = self._options.max_connections_per_user
        clients = self._of_user.get(user, {})
        while limit and len(clients) >= limit:
            oldest = next(iter(clients))
            del clients[oldest]
            self.counters.connections_evicted += 1
            oldest.close(TRY_AGAIN_LATER, _EVICTED)

    def _end_removed(self, users: frozenset[bytes]) -> None:
        """Close the connections of users that are users no longer, a few at a time."""
        self._close_removed([each for user in users for each in self._of_user.get(user, ())])

    def _close_removed(self, connections: list[Connection]) -> None:
        for connection in connections[:_CLOSED_AT_ONCE]:
            self.counters.connections_removed += 1
            connection.close(POLICY_VIOLATION, _REMOVED, "removed")
        rest = connections[_CLOSED_AT_ONCE:]
        if rest:
            self._loop.call_soon(self._close_removed, rest)

    def _on_lost(self, connection: Connection) -> None:
        del self._connections[connection]
        self.counters.connections -= 1
        self._log_end(connection)
        clients = self._of_user.get(connection.user)
        if clients is not None:
            clients.pop(connection, None)
            if not clients:
                del self._of_user[connection.user]

    def _log_end(self, connection: Connection) -> None:
        fields = {
            "cause": connection.end_cause,
            "peer": connection.peer,
            "user": connection.user,
            "process_id": connection.caller.process_id,
            "in_flight": connection.in_flight,
            "open_s": round(self._loop.time() - connection.opened_s, 3),
        }
        level = logging.INFO if connection.end_cause in _ORDINARY_ENDS else logging.WARNING
        log_event(_log, level, "connection ended", fields)

    # Clocks

    def _tick(self) -> None:
        is_more_due = False
        try:
            is_more_due = self._store.tick(self._clock_ns() // 1_000_000, self._options.tick_max_rows)
        finally:  # an error goes to the loop, which logs it; one must not end all expiry
            delay_s = _BUSY_TICK_S if is_more_due else self._options.tick_interval_s
            self._timers["tick"] = self._loop.call_later(delay_s, self._tick)

    def _check_peers(self) -> None:
        interval_s, timeout_s = self._options.ping_interval_s, self._options.pong_timeout_s
        for connection in list(self._connections):
            if not connection.check_peer(interval_s, timeout_s, self._options.proof_interval_s):
                self.counters.peers_silent += 1
                connection.abort("silent")
        self.unfinished.end_late()
        self._dispatcher.forget_old()
        self._outbox.flush()
        delay_s = min(
            _CHECK_PEERS_S,
            self._options.message_timeout_s / 4,
            interval_s / 4,
            timeout_s / 4,
            self._options.proof_interval_s,
        )
        self._timers["peers"] = self._loop.call_later(delay_s, self._check_peers)


def _peer_of(transport: asyncio.Transport) -> str:
    """The address of a client as `host:port`."""
    name = transport.get_extra_info("peername")
    return str(Endpoint(*name[:2])) if isinstance(name, tuple) else str(name or "")
