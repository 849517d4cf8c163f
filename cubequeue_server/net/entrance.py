"""The beginning of a connection inside of TLS, which can be counted and ended from its first moment."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
from collections.abc import Callable
from typing import Final, cast

_log = logging.getLogger(__name__)


class TlsEntrance(asyncio.Protocol):
    """Accepts a connection for `protocol`, which is told of it once the TLS handshake is done.

    It gives the socket to the loop again: `create_server` with a context would do the handshake, too, but nothing could
    count or end the handshakes. `on_failure` is called when there will be no connection.
    """

    __slots__ = "_handshake", "_is_aborted", "_on_failure", "_protocol", "_timeouts_s", "_tls"

    def __init__(
        self,
        protocol: asyncio.Protocol,
        tls: ssl.SSLContext,
        on_failure: Callable[[], None],
        *,
        handshake_timeout_s: float,
        shutdown_timeout_s: float,
    ) -> None:
        self._protocol = protocol
        self._tls = tls
        self._on_failure = on_failure
        self._timeouts_s: Final = handshake_timeout_s, shutdown_timeout_s
        self._handshake: asyncio.Task[None] | None = None
        self._is_aborted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        accepted: socket.socket | None = None
        if not self._is_aborted:
            with contextlib.suppress(OSError):  # too many files are open
                accepted = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
                accepted.setblocking(False)
        cast(asyncio.Transport, transport).abort()  # the loop's end; nothing was read yet
        if accepted is None:
            self._on_failure()
        else:
            self._handshake = asyncio.get_running_loop().create_task(self._shake_hands(accepted))

    def abort(self) -> None:
        """End the handshake, if it is not done."""
        self._is_aborted = True
        if self._handshake is not None:
            self._handshake.cancel()

    async def _shake_hands(self, accepted: socket.socket) -> None:
        handshake_timeout_s, shutdown_timeout_s = self._timeouts_s
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self._protocol,
                accepted,
                ssl=self._tls,
                ssl_handshake_timeout=handshake_timeout_s,
                ssl_shutdown_timeout=shutdown_timeout_s,
            )
        except (OSError, asyncio.CancelledError) as error:  # of TLS, the socket or the time limit; or by `abort`
            _log.debug("a TLS handshake failed: %r", error)
            self._on_failure()
        finally:
            self._handshake = None
