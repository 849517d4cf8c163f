"""The server: listens, admits clients, keeps the clocks running, and stops in order."""

from __future__ import annotations

import asyncio
import itertools
import logging
import ssl
import uuid
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from cubequeue_server.access.credentials import Credentials
from cubequeue_server.connections import Connections
from cubequeue_server.net.front import Front, TakeUpload, host_of, peer_of
from cubequeue_server.net.http_head import RefusedError
from cubequeue_server.net.outbox import Outbox
from cubequeue_server.net.unfinished import Unfinished
from cubequeue_server.net.unread import UnreadAnswers
from cubequeue_server.net.websocket import POLICY_VIOLATION, SERVICE_RESTART, TRY_AGAIN_LATER, Receiver, WebSocket
from cubequeue_server.observe.counters import Counters, LoopLag
from cubequeue_server.observe.logs import log_event
from cubequeue_server.options import ServerOptions
from cubequeue_server.requests.ask import Ask
from cubequeue_server.requests.client import Client
from cubequeue_server.requests.dispatcher import MAX_SELECT_REPLY_BYTES, Dispatcher
from cubequeue_server.requests.monitor import Monitor
from cubequeue_server.requests.relay import Relay
from cubequeue_server.requests.statement_log import without_texts
from cubequeue_server.router import Router
from protocol.errors import ProtocolError
from storage.asking import ANYBODY, Caller, Outcome
from storage.errors import StatementError
from storage.vocabulary import Statement

if TYPE_CHECKING:
    from cubequeue_server.engines.upstream.upstream import Upstream

__all__ = ["Server", "ServerOptions", "peer_of"]

_EVICTED: Final = "connection evicted to admit a newer one for the same user"
_STOPPING: Final = "cubequeue is stopping"
_REMOVED: Final = "this user was removed"

_ORDINARY_ENDS: Final = frozenset({"client", "lost", "stopping"})
_log = logging.getLogger(__name__)

_CHECK_PEERS_S: Final = 1.0
_CLOSED_AT_ONCE: Final = 100  # connections between two turns of the loop
_BUSY_TICK_S: Final = 0.001  # until the next tick when more is due: others get their turn in between
_CANCELS_LOGGED: Final = 10  # lines a tick
_STOP_POLL_S: Final = 0.005
_SHARE_FOR_ANSWERS: Final = 0.5  # of the time a stop may take; the rest is for closing


class Server:
    """Serves the engines of a router to WebSocket clients on one port (wire.md §1 to §3). Made in a running loop.

    `clock_ns` is the wall clock in ns. `credentials` say who may connect, anybody when None; with `tls` the port
    speaks nothing else. `counters` and `lag` may be read at any time; `instance` is another text after each start.
    What the router relays goes to `upstream`.
    """

    def __init__(
        self,
        options: ServerOptions,
        router: Router,
        outbox: Outbox,
        clock_ns: Callable[[], int],
        *,
        credentials: Credentials | None = None,
        tls: ssl.SSLContext | None = None,
        counters: Counters | None = None,
        connections: Connections | None = None,
        upstream: Upstream | None = None,
    ) -> None:
        self._relay = None if upstream is None else Relay(upstream, MAX_SELECT_REPLY_BYTES)
        self.take_upload: TakeUpload | None = None if upstream is None else partial(upstream.take_upload, options)
        self._forwards_credentials = upstream is not None and upstream.target.forwards_credentials
        self.connections = Connections() if connections is None else connections
        self.counters = Counters() if counters is None else counters
        self._credentials = Credentials() if credentials is None else credentials
        self._tls = tls
        self._options = options
        self._router = router
        self._outbox = outbox
        self._clock_ns = clock_ns
        self._loop = asyncio.get_running_loop()
        self.instance = uuid.uuid4().hex
        version = options.announce_version
        self.announced = b"X-CubeStore-Version: %b\r\n" % version.encode() if version else b""
        self.lag = LoopLag()
        self.unfinished = Unfinished(
            options.max_unfinished_bytes, options.message_timeout_s, self.counters, self._loop.time
        )
        self._unread = UnreadAnswers(options.max_unread_bytes, self.counters)
        self._dispatcher = Dispatcher(
            options=options,
            router=router,
            clock_ns=clock_ns,
            counters=self.counters,
            outbox=outbox,
            loop=self._loop,
            relay=self._relay,
        )
        self._fronts: dict[Front, None] = {}  # in the order they came
        self._clients: dict[Client, None] = {}  # in the order they came
        self.connection_numbers = itertools.count(1)  # of the MySQL port too
        self._of_user: dict[bytes, dict[Client, None]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._listener: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen. Raises OSError when the address cannot be had."""
        self._listener = await self._loop.create_server(
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

    def announce_status_port(self, port: int) -> None:
        """Tell clients from now on which port has the figures of this server; `instance` names it there as well."""
        self.announced += b"X-Cubequeue-Status: %d %b\r\n" % (port, self.instance.encode())

    def call(self, statement: Statement, caller: Caller, tell: Callable[[Outcome], None]) -> Ask | None:
        """Execute a statement for a caller inside this process; `tell` gets its outcome, now or later.

        Returns the request if it waits.
        """
        return self._dispatcher.call(statement, caller, tell)

    def forget_caller(self, caller: Caller) -> None:
        """A caller inside this process has gone."""
        self.connections.remove(caller.connection)
        if self._relay is not None:
            self._relay.forget_caller(caller)

    def watch_statements(self) -> Monitor:
        """Note a sample of the statements from now on."""
        self._dispatcher.watch(is_on=True)
        return self._dispatcher.monitor

    def unwatch_statements(self) -> None:
        """Note no statements any more."""
        self._dispatcher.watch(is_on=False)

    def give_up_call(self, ask: Ask) -> None:
        """Nobody listens to a call any more."""
        self._dispatcher.give_up_call(ask)

    def tell_refused(self, caller: Caller, number: int, error: StatementError | ProtocolError, text: bytes) -> None:
        """Log a refused statement of a caller inside this process: its refusal no. `number`."""
        self._dispatcher.statement_log.tell_refused(caller, number, error, lambda: {"text": without_texts(text)})

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
        for client in list(self._clients):
            client.websocket.close(SERVICE_RESTART, _STOPPING)
        await self._until(lambda: not self._clients, deadline_s - _STOP_POLL_S)
        for client in list(self._clients):
            client.websocket.abort("stopping")
        self._log_cancels()
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
        return front if self._tls is None else front.inside(self._tls)

    def _forget_front(self, front: Front) -> None:
        self._fronts.pop(front, None)

    def check_room(self) -> None:
        if len(self._clients) >= self._options.max_connections:
            self.counters.connections_refused += 1
            text = f"{self._options.max_connections} connections are open already"
            raise RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, text)

    def count_foreign(self) -> None:
        self.counters.foreign_refused += 1

    def admit(
        self,
        transport: asyncio.Transport,
        user: bytes,
        process_id: bytes | None,
        already_read: bytes,
        *,
        agent: bytes,
        authorization: bytes | None,
    ) -> None:
        if user:
            self._make_room(user)
        caller = Caller(process_id, peer_of(transport), next(self.connection_numbers), user, host_of(transport))
        client = Client(
            caller,
            self._loop.time(),
            self._clock_ns() // 1_000_000,
            agent,
            authorization if self._forwards_credentials else None,
            passes_on=self._relay is not None,
        )
        dispatcher = self._dispatcher
        receiver = Receiver(
            partial(dispatcher.receive, client),
            partial(dispatcher.receive_large, client),
            partial(dispatcher.receive_oversized, client),
            partial(dispatcher.on_pong, client),
            partial(self._on_lost, client),
            client.session.large_bytes,
        )
        websocket = WebSocket(
            transport, receiver, self._options, self.counters, self._outbox, self.unfinished, self._unread
        )
        client.attach(websocket)
        self._clients[client] = None
        self.connections.add(caller.connection, client)
        if user:
            self._of_user.setdefault(user, {})[client] = None
        self.counters.connections += 1
        self.counters.connections_accepted += 1
        self.log_begin(caller, agent)
        websocket.start(already_read)

    def _make_room(self, user: bytes) -> None:
        limit = self._options.max_connections_per_user
        clients = self._of_user.get(user, {})
        while limit and len(clients) >= limit:
            oldest = next(iter(clients))
            del clients[oldest]
            self.counters.connections_evicted += 1
            oldest.websocket.close(TRY_AGAIN_LATER, _EVICTED)

    def _end_removed(self, users: frozenset[bytes]) -> None:
        """Close the connections of users that are users no longer, a few at a time."""
        self._close_removed([each for user in users for each in self._of_user.get(user, ())])

    def _close_removed(self, connections: list[Client]) -> None:
        for client in connections[:_CLOSED_AT_ONCE]:
            self.counters.connections_removed += 1
            client.websocket.close(POLICY_VIOLATION, _REMOVED, "removed")
        rest = connections[_CLOSED_AT_ONCE:]
        if rest:
            self._loop.call_soon(self._close_removed, rest)

    def _on_lost(self, client: Client) -> None:
        del self._clients[client]
        self.connections.remove(client.caller.connection)
        if self._relay is not None:
            self._relay.forget(client)
        self.counters.connections -= 1
        self._log_end(client)
        user = client.session.user
        clients = self._of_user.get(user)
        if clients is not None:
            clients.pop(client, None)
            if not clients:
                del self._of_user[user]

    def _log_cancels(self) -> None:
        """Log who cancelled which item by hand: those that STALLED or ORPHANED named are Cube's own business."""
        cancelled = self._router.store.take_cancels()
        for item in cancelled[:_CANCELS_LOGGED]:
            caller = item.ended_by or ANYBODY
            fields = {
                "key": item.path,
                "user": caller.user,
                "peer": caller.peer,
                "process_id": caller.process_id,
                "name": self.connections.names.name_of(caller.process_id, caller.peer),
                "request_id": item.request_id,
                "was_active": item.claimed_by is not None,
            }
            log_event(_log, logging.WARNING, "item cancelled by hand", fields)
        if len(cancelled) > _CANCELS_LOGGED:
            log_event(
                _log, logging.WARNING, "more items cancelled by hand", {"count": len(cancelled) - _CANCELS_LOGGED}
            )

    def log_begin(self, caller: Caller, agent: bytes = b"") -> None:
        """Log that a client was admitted."""
        self.connections.names.learn(caller.peer)
        fields = {
            "peer": caller.peer,
            "name": self.connections.names.name_of(caller.process_id, caller.peer),
            "user": caller.user,
            "process_id": caller.process_id,
            "agent": agent,
            "connection": caller.connection,
        }
        log_event(_log, logging.INFO, "client connected", fields)

    def _log_end(self, client: Client) -> None:
        cause = client.websocket.end_cause
        fields = {
            "cause": cause,
            "peer": client.caller.peer,
            "user": client.session.user,
            "process_id": client.caller.process_id,
            "in_flight": client.session.in_flight,
            "open_s": round(self._loop.time() - client.opened_s, 3),
        }
        level = logging.INFO if cause in _ORDINARY_ENDS else logging.WARNING
        log_event(_log, level, "connection ended", fields)

    # Clocks

    def _tick(self) -> None:
        is_more_due = False
        try:
            is_more_due = self._router.tick(self._clock_ns() // 1_000_000, self._options.tick_max_rows)
            self._log_cancels()
        finally:  # an error goes to the loop, which logs it; one must not end all expiry
            delay_s = _BUSY_TICK_S if is_more_due else self._options.tick_interval_s
            self._timers["tick"] = self._loop.call_later(delay_s, self._tick)

    def _check_peers(self) -> None:
        interval_s, timeout_s = self._options.ping_interval_s, self._options.pong_timeout_s
        for client in list(self._clients):
            if not client.check_peer(self._loop.time(), interval_s, timeout_s, self._options.proof_interval_s):
                self.counters.peers_silent += 1
                client.websocket.abort("silent")
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
