"""Where a connection begins whose port speaks TLS, and what a client of another protocol is told.

The first byte tells TLS from plain text. A client that got the scheme wrong gets an answer in its own words instead of
an end without one: HTTP to a client of HTTP, an error packet of MySQL to one that waits for the server to begin.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, cast

from cubequeue_server.net.http_head import TLS_HANDSHAKE, RefusedError, error_response
from cubequeue_server.net.lingering import Lingering

_log = logging.getLogger(__name__)

_SPEAKS_TLS: Final = RefusedError(HTTPStatus.BAD_REQUEST, "this port speaks TLS only: use wss:// or https://")
_MAX_DISCARDED_BYTES: Final = 1024 * 1024
_BAD_HANDSHAKE: Final = 1043  # MySQL's ER_HANDSHAKE_ERROR
_MYSQL_TEXT: Final = b"no MySQL here: this is the WebSocket port of cubequeue, that of MySQL is CUBESTORE_PORT (3306)"


class TlsEntrance(asyncio.Protocol):
    """Accepts a connection for `protocol`, which is told of it once the TLS handshake is done.

    It gives the socket to the loop again: `create_server` with a context would do the handshake, too, but nothing could
    count or end the handshakes, and nothing could tell a client without TLS what is wrong. `on_failure` is called when
    there will be no connection. A client that says nothing for `silence_timeout_s` gets `to_silent`.
    """

    __slots__ = (
        "_close_timeout_s", "_handshake", "_handshake_timeout_s", "_is_aborted", "_on_failure", "_protocol",
        "_silence_timeout_s", "_tls", "_to_silent"
    )  # fmt: skip

    def __init__(
        self,
        protocol: asyncio.Protocol,
        tls: ssl.SSLContext,
        on_failure: Callable[[], None],
        *,
        silence_timeout_s: float,
        handshake_timeout_s: float,
        close_timeout_s: float,
        to_silent: bytes = b"",
    ) -> None:
        self._protocol = protocol
        self._tls = tls
        self._on_failure = on_failure
        self._silence_timeout_s = silence_timeout_s
        self._handshake_timeout_s = handshake_timeout_s
        self._close_timeout_s = close_timeout_s
        self._to_silent = to_silent
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
        try:
            await _secured(
                accepted,
                self._protocol,
                self._tls,
                silence_timeout_s=self._silence_timeout_s,
                handshake_timeout_s=self._handshake_timeout_s,
                close_timeout_s=self._close_timeout_s,
                to_silent=self._to_silent,
            )
        except (OSError, asyncio.CancelledError) as error:  # of TLS, the socket or the time limit; or by `abort`
            _log.debug("a TLS handshake failed: %r", error)
            self._on_failure()
        finally:
            self._handshake = None


class _Refusal(asyncio.Protocol):
    """A connection that gets its last words at once; `is_over` is set when it is gone."""

    def __init__(self, last_words: bytes, timeout_s: float) -> None:
        self._last_words = last_words
        self._timeout_s = timeout_s
        self.is_over = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        theirs = cast(asyncio.Transport, transport)
        theirs.write(self._last_words)
        Lingering(theirs, self._timeout_s, _MAX_DISCARDED_BYTES, self.is_over.set)


async def _secured(
    accepted: socket.socket,
    protocol: asyncio.Protocol,
    tls: ssl.SSLContext,
    *,
    silence_timeout_s: float,
    handshake_timeout_s: float,
    close_timeout_s: float,
    to_silent: bytes,
) -> None:
    """Connect `protocol` inside TLS. A client that speaks none is told so; one that says nothing gets `to_silent`.

    Raises OSError, of TLS, the socket or a time limit, and when a client that spoke no TLS has gone. May be cancelled.
    """
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as unless_connected:
        unless_connected.callback(accepted.close)
        first = await _first_byte(accepted, silence_timeout_s)
        unless_connected.pop_all()
    if first == TLS_HANDSHAKE:
        timeouts = {"ssl_handshake_timeout": handshake_timeout_s, "ssl_shutdown_timeout": close_timeout_s}
        await loop.connect_accepted_socket(lambda: protocol, accepted, ssl=tls, **timeouts)
        return
    refusal = _Refusal(error_response(_SPEAKS_TLS) if first else to_silent, close_timeout_s)
    transport, _ = await loop.connect_accepted_socket(lambda: refusal, accepted)
    try:
        await refusal.is_over.wait()
    finally:
        transport.abort()
    raise ConnectionError("the client spoke no TLS")


async def _first_byte(accepted: socket.socket, timeout_s: float) -> bytes:
    """The first byte that the peer sends, left to be read; empty when it sends none in time. Raises OSError."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(accepted.fileno(), readable.set)
    try:
        async with asyncio.timeout(timeout_s):
            await readable.wait()
    except TimeoutError:
        return b""
    finally:
        loop.remove_reader(accepted.fileno())
    return accepted.recv(1, socket.MSG_PEEK)


def mysql_refusal() -> bytes:
    """An error packet for a client of MySQL, which waits for a greeting before it says anything."""
    body = b"\xff" + _BAD_HANDSHAKE.to_bytes(2, "little") + _MYSQL_TEXT
    return len(body).to_bytes(3, "little") + b"\0" + body
