"""The MySQL port: who may come in, how many, and how all of them end (mysql.md).

What speaks the protocol is imported with the first client, in a thread: a server without one pays nothing for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
from typing import TYPE_CHECKING, Final

from cubequeue_server.auth import Credentials
from cubequeue_server.settings_values import Endpoint

if TYPE_CHECKING:
    from cubequeue_server.mysql.connection import Backend, MysqlConnection

_log = logging.getLogger(__name__)

MAX_CONNECTIONS: Final = 128
_STOP_TIMEOUT_S: Final = 3.0
_IMPLEMENTATION: Final = "cubequeue_server.mysql.connection"


class MysqlListener:
    """Listens at an endpoint and has `backend` execute what clients ask."""

    def __init__(self, endpoint: Endpoint, backend: Backend, credentials: Credentials, max_packet_bytes: int) -> None:
        self._endpoint = endpoint
        self._backend = backend
        self._credentials = credentials
        self._max_packet_bytes = max_packet_bytes
        self._server: asyncio.Server | None = None
        self._clients: dict[asyncio.Task[None], tuple[MysqlConnection, asyncio.StreamWriter] | None] = {}
        self._last_number = 0
        self._is_stopping = False

    async def start(self) -> None:
        """Listen. Raises OSError when the address cannot be had."""
        self._server = await asyncio.start_server(self._admit, self._endpoint.host, self._endpoint.port)

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
                connection, writer = client
                connection.stop()
                if connection.is_idle:
                    writer.close()
        if self._clients:
            _, late = await asyncio.wait(self._clients, timeout=_STOP_TIMEOUT_S)
            for task in late:
                task.cancel()
        await self._server.wait_closed()

    async def _admit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        has_room = len(self._clients) < MAX_CONNECTIONS and not self._is_stopping
        self._clients[task] = None
        try:
            await self._serve(task, reader, writer, has_room)
        except Exception as error:  # one client must not take others down
            _log.debug("a MySQL client ended with %s: %s", type(error).__name__, error)
        finally:
            del self._clients[task]
            writer.close()

    async def _serve(
        self, task: asyncio.Task[None], reader: asyncio.StreamReader, writer: asyncio.StreamWriter, has_room: bool
    ) -> None:
        await asyncio.to_thread(importlib.import_module, _IMPLEMENTATION)
        from cubequeue_server.mysql.authentication import Identities  # noqa: PLC0415  # imported just now
        from cubequeue_server.mysql.connection import MysqlConnection  # noqa: PLC0415
        from cubequeue_server.mysql.stream import GoneError, PacketStream  # noqa: PLC0415

        self._last_number = self._last_number % 0xFFFFFFFF + 1
        stream = PacketStream(reader, writer, self._max_packet_bytes)
        connection = MysqlConnection(
            stream, self._backend, Identities(self._credentials), self._last_number, self._max_packet_bytes
        )
        with contextlib.suppress(GoneError):
            try:
                if not has_room:
                    await connection.refuse()
                    return
                self._clients[task] = connection, writer
                if not await connection.serve():
                    self._credentials.count_refusal(writer.get_extra_info("peername"))
            finally:
                stream.close()
