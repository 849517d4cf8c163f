"""The MySQL port: who may come in, how many, and how all of them end (mysql.md).

What speaks the protocol is imported with the first client, in a thread: a server without one pays nothing for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import ssl
from typing import TYPE_CHECKING, Final

from cubequeue_server.access.credentials import Credentials
from cubequeue_server.mysql.opening import Opening
from cubequeue_server.settings.values import Endpoint

if TYPE_CHECKING:
    from cubequeue_server.mysql.connection import Backend, MysqlConnection
    from cubequeue_server.mysql.stream import PacketStream

_log = logging.getLogger(__name__)

MAX_CONNECTIONS: Final = 128
_STOP_TIMEOUT_S: Final = 3.0
_IMPLEMENTATION: Final = "cubequeue_server.mysql.connection"


class MysqlListener:
    """Listens at an endpoint and has `backend` execute what clients ask. With `tls` no client gets far without it."""

    def __init__(
        self,
        endpoint: Endpoint,
        backend: Backend,
        credentials: Credentials,
        max_packet_bytes: int,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._backend = backend
        self._credentials = credentials
        self._max_packet_bytes = max_packet_bytes
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._clients: dict[asyncio.Task[None], tuple[MysqlConnection, PacketStream] | None] = {}
        self._last_number = 0
        self._is_stopping = False

    async def start(self) -> None:
        """Listen. Raises OSError when the address cannot be had."""
        loop = asyncio.get_running_loop()
        host, port = self._endpoint
        self._credentials.when_removed(self._end_removed)
        self._server = await loop.create_server(lambda: Opening(self._on_connected), host, port)

    def _end_removed(self, users: frozenset[bytes]) -> None:
        """End the connections of users that are users no longer, whatever they wait for."""
        for client in self._clients.values():
            if client is not None and (client[0].session.username or "").encode() in users:
                client[1].abort()

    @property
    def address(self) -> Endpoint:
        """Where it really listens, the port that the kernel chose included."""
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()[:2]
        return Endpoint(host, port)

    @property
    def connections(self) -> int:
        """Clients that are connected."""
        return len(self._clients)

    async def stop(self) -> None:
        """Close the listener and every connection, those with a command in progress after its answer."""
        if self._server is None:
            return
        self._is_stopping = True
        self._server.close()
        for client in self._clients.values():
            if client is not None:
                connection, stream = client
                connection.stop()
                if connection.is_idle:
                    stream.close()
        if self._clients:
            _, late = await asyncio.wait(self._clients, timeout=_STOP_TIMEOUT_S)
            for task in late:
                task.cancel()
        await self._server.wait_closed()

    def _on_connected(self, opening: Opening) -> None:
        has_room = len(self._clients) < MAX_CONNECTIONS and not self._is_stopping
        task = asyncio.get_running_loop().create_task(self._admit(opening, has_room))
        self._clients[task] = None
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        del self._clients[task]

    async def _admit(self, opening: Opening, has_room: bool) -> None:
        try:
            await self._serve(opening, has_room)
        except Exception as error:  # one client must not take others down
            _log.debug("a MySQL client ended with %s: %s", type(error).__name__, error)
        finally:
            opening.transport.close()

    async def _serve(self, opening: Opening, has_room: bool) -> None:
        await asyncio.to_thread(importlib.import_module, _IMPLEMENTATION)
        from cubequeue_server.mysql.authentication import Identities  # noqa: PLC0415  # imported just now
        from cubequeue_server.mysql.connection import MysqlConnection  # noqa: PLC0415
        from cubequeue_server.mysql.stream import GoneError, PacketStream  # noqa: PLC0415

        self._last_number = self._last_number % 0xFFFFFFFF + 1
        stream = PacketStream(opening, self._max_packet_bytes, self._backend.unfinished)
        identities = Identities(self._credentials)
        connection = MysqlConnection(
            stream, self._backend, identities, self._last_number, self._max_packet_bytes, tls=self._tls
        )
        task = asyncio.current_task()
        assert task is not None
        with contextlib.suppress(GoneError):
            try:
                if not has_room:
                    await connection.refuse()
                    return
                self._clients[task] = connection, stream
                if not await connection.serve():
                    self._credentials.count_refusal(opening.transport.get_extra_info("peername"))
            finally:
                stream.close()
