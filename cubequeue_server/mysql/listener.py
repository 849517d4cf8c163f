"""The MySQL port: admits clients, and ends them (mysql.md).

Its protocol is imported with the first client, in a thread: a server without MySQL clients pays nothing for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import ssl
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from cubequeue_server.access.credentials import Credentials
from cubequeue_server.mysql.stream import GoneError, Opening, PacketStream
from cubequeue_server.mysql.turns import Turns
from cubequeue_server.server import Server, peer_of
from cubequeue_server.settings.values import Endpoint
from storage.asking import Caller

if TYPE_CHECKING:
    from cubequeue_server.mysql.connection import MysqlConnection

_log = logging.getLogger(__name__)

MAX_CONNECTIONS: Final = 128
MAX_REFUSALS: Final = 32  # connections that are being told that there are too many; one more is told nothing
MAX_SOCKETS: Final = MAX_CONNECTIONS + MAX_REFUSALS
_STOP_TIMEOUT_S: Final = 3.0
_PROTOCOL: Final = "cubequeue_server.mysql.connection"


class MysqlListener:
    """Listens at an endpoint; `server` executes the statements. With `tls` clients have to use it."""

    def __init__(
        self,
        endpoint: Endpoint,
        server: Server,
        credentials: Credentials,
        max_packet_bytes: int,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._server = server
        self._credentials = credentials
        self._max_packet_bytes = max_packet_bytes
        self._tls = tls
        self._listener: asyncio.Server | None = None
        self._clients: dict[asyncio.Task[None], MysqlConnection | None] = {}
        self._entering: dict[Opening, None] = {}  # not logged in yet, in the order they came
        self._is_stopping = False
        self._protocol: Any = None  # the module, once it is imported

    async def start(self) -> None:
        """Listen. Raises OSError when the address is not available."""
        host, port = self._endpoint
        self._turns = Turns()
        self._credentials.when_removed(self._end_removed)
        self._listener = await asyncio.get_running_loop().create_server(lambda: Opening(self._on_connected), host, port)

    @property
    def address(self) -> Endpoint:
        """The address in use, with the port that the kernel chose."""
        assert self._listener is not None
        return Endpoint(*self._listener.sockets[0].getsockname()[:2])

    async def stop(self) -> None:
        """Close the listener and every connection; commands in progress are answered first."""
        if self._listener is None:
            return
        self._is_stopping = True
        self._listener.close()
        for client in self._clients.values():
            if client is not None:
                client.stop()
        if self._clients:
            _, late = await asyncio.wait(self._clients, timeout=_STOP_TIMEOUT_S)
            for task in late:
                task.cancel()
        await self._listener.wait_closed()

    def _end_removed(self, users: frozenset[bytes]) -> None:
        """End the connections of removed users at once."""
        for client in self._clients.values():
            if client is not None and client.user in users:
                client.stream.abort()

    def _on_connected(self, opening: Opening) -> None:
        """Serve a client. When there are too many, the one that has not logged in for longest makes room."""
        counters = self._server.counters
        has_room = len(self._clients) < MAX_CONNECTIONS
        if not has_room:
            counters.mysql_refused += 1
            oldest = next(iter(self._entering), None)
            if oldest is not None:
                del self._entering[oldest]
                oldest.transport.abort()
                has_room = True
        if self._is_stopping or len(self._clients) >= MAX_CONNECTIONS + MAX_REFUSALS:
            opening.transport.abort()
            return
        if has_room:
            self._entering[opening] = None
        task = asyncio.get_running_loop().create_task(self._serve(opening, has_room))
        self._clients[task] = None
        counters.mysql_connections += 1
        task.add_done_callback(partial(self._forget, opening))

    def _forget(self, opening: Opening, task: asyncio.Task[None]) -> None:
        del self._clients[task]
        self._entering.pop(opening, None)
        self._server.counters.mysql_connections -= 1

    async def _serve(self, opening: Opening, has_room: bool) -> None:
        caller = Caller(None, peer_of(opening.transport), next(self._server.connection_numbers))
        try:
            if self._protocol is None:  # for a client that comes meanwhile, this waits for the same import
                self._protocol = await asyncio.to_thread(importlib.import_module, _PROTOCOL)
            stream = PacketStream(opening, self._max_packet_bytes, self._server.unfinished)
            client: MysqlConnection = self._protocol.MysqlConnection(
                stream,
                self._server,
                self._credentials,
                caller,
                self._max_packet_bytes,
                turns=self._turns,
                on_login=lambda: self._entering.pop(opening, None),
                tls=self._tls,
            )
            with contextlib.suppress(GoneError), contextlib.closing(stream):
                if not has_room:
                    await client.refuse()
                    return
                task = asyncio.current_task()
                assert task is not None
                self._clients[task] = client
                self._server.connections.add(caller.connection, client)
                if not await client.serve():
                    self._credentials.count_refusal(caller.peer, with_credentials=client.gave_credentials)
        except Exception as error:  # one client must not take others down
            _log.debug("a MySQL client ended with %s: %s", type(error).__name__, error)
        finally:
            opening.transport.close()
            self._server.forget_caller(caller)
