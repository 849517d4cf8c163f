"""The end of a connection while its peer may still be sending."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

_QUIET_S: Final = 0.1


class Lingering(asyncio.Protocol):
    """Half-closes a connection, then reads and discards until the peer closes too, for `timeout_s` and `max_bytes`.

    Closing at once would reset the connection while the peer still sends, and a reset can overtake the last bytes: the
    refusal of an upload, the reason of a close. TLS has no half-close: there the connection is closed after a moment
    of silence.
    """

    __slots__ = ("_is_quiet", "_left_bytes", "_on_lost", "_quiet_timer", "_timer", "_transport")

    def __init__(
        self, transport: asyncio.Transport, timeout_s: float, max_bytes: int, on_lost: Callable[[], None]
    ) -> None:
        self._transport = transport
        self._left_bytes = max_bytes
        self._on_lost = on_lost
        self._is_quiet = True
        self._quiet_timer: asyncio.TimerHandle | None = None
        self._timer = asyncio.get_running_loop().call_later(timeout_s, transport.abort)
        transport.set_protocol(self)
        if transport.is_closing():
            return
        transport.resume_reading()
        if transport.can_write_eof():
            transport.write_eof()
        else:
            self._close_when_quiet()

    def _close_when_quiet(self) -> None:
        self._quiet_timer = asyncio.get_running_loop().call_later(_QUIET_S, self._on_quiet_timer)

    def _on_quiet_timer(self) -> None:
        if self._is_quiet:
            self._transport.close()
        else:
            self._is_quiet = True
            self._close_when_quiet()

    def data_received(self, data: bytes) -> None:
        self._is_quiet = False
        self._left_bytes -= len(data)
        if self._left_bytes < 0:
            self._transport.abort()

    def connection_lost(self, _error: Exception | None) -> None:
        self._timer.cancel()
        if self._quiet_timer is not None:
            self._quiet_timer.cancel()
        self._on_lost()
