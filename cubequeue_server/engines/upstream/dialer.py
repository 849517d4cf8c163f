"""Opens connections to the CubeStore: many at once when it is there, and one attempt now and then while it is away.

            an attempt fails                       an attempt succeeds, or is declined
available  ─────────────────▶  away: one attempt   ────────────────────────────────────▶  available:
                               after each back-off                                       all that wait
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import re
import socket
import ssl
from typing import Final, Protocol

from cubequeue_server.engines.upstream.connection import Shared
from cubequeue_server.engines.upstream.target import Target
from cubequeue_server.net.http_client import DeclinedError, NoHttpError, Opened, open_websocket
from cubequeue_server.observe.logs import log_event

_MAX_AT_ONCE: Final = 32
_LOOK_INTERVAL_S: Final = 0.25
_DECLINES: Final = frozenset({401, 403})
_ERRNO: Final = re.compile(r"\[Errno (\d+)\]")

_log = logging.getLogger(__name__)


class Caller(Protocol):
    """Who wants a connection."""

    def headers(self) -> list[tuple[bytes, bytes]]:
        """What its handshake says."""

    def on_opened(self, opened: Opened) -> None:
        """The connection is there."""

    def on_declined(self, reason: str) -> None:
        """The CubeStore wants other credentials."""

    def fail_late(self, now_s: float) -> None:
        """Let nothing wait for longer than it may."""


class Dialer:
    """`is_away` says that the last attempt failed, `reason` why. A CubeStore that declines credentials is not away."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._target = shared.target
        self._loop = shared.loop
        self._callers: dict[Caller, None] = {}  # that wait, in the order they came
        self._dialing: dict[asyncio.Task[None], Caller] = {}
        self._retry: asyncio.TimerHandle | None = None
        self._backoff_s = self._target.backoff_s
        self._random = random.Random()  # noqa: S311  # it spreads attempts
        self._probe = _Probe(self._target)
        self._next_probe: asyncio.TimerHandle | None = None
        self._look: asyncio.TimerHandle | None = None
        self._look_interval_s = min(_LOOK_INTERVAL_S, self._target.timeout_s / 4)
        self.is_away = False
        self.reason = "no connection was tried yet"

    def want(self, caller: Caller) -> None:
        """Have a connection opened for a caller that waits for none."""
        self._callers[caller] = None
        self._pump()
        if self._look is None:
            self._look = self._loop.call_later(self._look_interval_s, self._look_for_late)

    def _look_for_late(self) -> None:
        now_s = self._loop.time()
        for caller in [*self._callers, *self._dialing.values()]:
            caller.fail_late(now_s)
        is_needed = self._callers or self._dialing
        self._look = self._loop.call_later(self._look_interval_s, self._look_for_late) if is_needed else None

    def forget(self, caller: Caller) -> None:
        """It wants none any more."""
        self._callers.pop(caller, None)
        for task, each in list(self._dialing.items()):
            if each is caller:
                task.cancel()

    def probe(self) -> None:
        """See whether the CubeStore is there. It is asked again and again while it is away, or has to be there."""
        if self._probe not in self._dialing.values():
            self.want(self._probe)

    def stop(self) -> None:
        """Open nothing more."""
        self._callers.clear()
        for timer in (self._retry, self._next_probe, self._look):
            if timer is not None:
                timer.cancel()
        for task in self._dialing:
            task.cancel()

    def _pump(self) -> None:
        while self._callers and not self.is_away and len(self._dialing) < _MAX_AT_ONCE:
            self._dial_next()

    def _dial_next(self) -> None:
        caller = next(iter(self._callers))
        del self._callers[caller]
        task = self._loop.create_task(self._dial(caller))
        self._dialing[task] = caller
        task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        del self._dialing[task]
        if not task.cancelled() and task.exception() is not None:
            _log.error("a connection to CubeStore failed unexpectedly", exc_info=task.exception())
        if self.is_away:
            self._schedule_retry()
        else:
            self._pump()

    async def _dial(self, caller: Caller) -> None:
        target = self._target
        try:
            opened = await open_websocket(target.endpoint, target.tls, caller.headers(), target.connect_timeout_s)
        except DeclinedError as error:
            if error.status in _DECLINES:
                self._on_there("")
                caller.on_declined(str(error))
            else:
                self._on_failed(caller, f"it answered {error}")
        except (OSError, NoHttpError) as error:  # TimeoutError and errors of TLS are among the former
            self._on_failed(caller, reason_of(error, target.connect_timeout_s))
        else:
            self._on_there((opened.head.header(b"x-cubestore-version") or b"").decode(errors="replace"))
            caller.on_opened(opened)

    def _on_there(self, version: str) -> None:
        counters = self._shared.counters
        if self.is_away or not counters.is_up or (version and version != counters.version):
            fields = {"address": str(self._target), "version": version or counters.version or None}
            log_event(_log, logging.INFO, "CubeStore is reached", fields)
        counters.is_up, counters.version = 1, version or counters.version
        self.is_away = False
        self._backoff_s = self._target.backoff_s
        if self._target.is_required:
            self._probe_later()

    def _on_failed(self, caller: Caller, reason: str) -> None:
        if not self.is_away:
            fields = {"address": str(self._target), "reason": reason}
            log_event(_log, logging.WARNING, "CubeStore cannot be reached", fields)
        self.is_away, self.reason = True, reason
        self._shared.counters.is_up = 0
        if caller is not self._probe:
            self._callers = {caller: None, **self._callers}

    def _schedule_retry(self) -> None:
        if self._retry is None and not self._dialing:
            delay_s = self._backoff_s * self._random.uniform(0.5, 1.5)
            self._backoff_s = min(2 * self._backoff_s, self._target.max_backoff_s)
            self._retry = self._loop.call_later(delay_s, self._try_again)

    def _try_again(self) -> None:
        self._retry = None
        self._callers = self._callers or {self._probe: None}
        self._dial_next()

    def _probe_later(self) -> None:
        if self._next_probe is not None:
            self._next_probe.cancel()
        self._next_probe = self._loop.call_later(self._target.probe_interval_s, self.probe)


class _Probe:
    """Wants to know only whether somebody is there."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def headers(self) -> list[tuple[bytes, bytes]]:
        return [*self._target.headers(None, None)]

    def on_opened(self, opened: Opened) -> None:
        opened.transport.close()

    def on_declined(self, reason: str) -> None:
        """It is there; others may have the credentials that it wants."""

    def fail_late(self, now_s: float) -> None:
        """Nothing waits for it."""


def reason_of(error: Exception, timeout_s: float) -> str:
    """Why a connection did not come about, in a few words."""
    if isinstance(error, TimeoutError) and error.errno is None:
        return f"no answer within {timeout_s:g} s"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {(error.reason or 'no TLS there').replace('_', ' ').lower()}"
    if isinstance(error, OSError) and not isinstance(error, socket.gaierror):
        found = _ERRNO.search(str(error))  # of several addresses, or with words of the loop's own
        number = error.errno or (int(found[1]) if found else 0)
        if number:
            return os.strerror(number)
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
