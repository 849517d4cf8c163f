"""Log lines about single statements: slow ones, and all of them at the levels debug and trace."""

from __future__ import annotations

import json
import logging
from typing import Any, Final

from cubequeue_server.observe.logs import TRACE, log_event
from cubequeue_server.requests.client import Client
from cubequeue_server.requests.monitor import Monitor
from protocol.messages import Request
from storage.errors import StatementError
from storage.vocabulary import Statement

_MAX_TRACE_BYTES: Final = 4096
_log = logging.getLogger(__name__)


class UnforeseenError(StatementError):
    """What a client gets when a statement fails unexpectedly."""


class StatementLog:
    """Logs statements, and notes them for a monitor that is on. Only one of `threshold_ns` needs a call of `tell`."""

    def __init__(self, slow_ms: int, monitor: Monitor) -> None:
        self._slow_ns = slow_ms * 1_000_000
        self._monitor = monitor
        self._refusal = ""

    @property
    def threshold_ns(self) -> int:
        """How long a statement takes at least that has to be told; the monitor and the level change it."""
        return 0 if self._monitor.is_on or _log.isEnabledFor(logging.DEBUG) else self._slow_ns

    def tell(self, client: Client, request: Request, statement: Statement, duration_ns: int) -> None:
        """Log an executed statement; its text only at trace."""
        if self._monitor.is_on:
            self._monitor.note(client, request, statement, duration_ns, self._refusal)
            self._refusal = ""
        is_slow = duration_ns >= self._slow_ns
        level = logging.WARNING if is_slow else logging.DEBUG
        if _log.isEnabledFor(level):
            measured = {"duration_ms": round(duration_ns / 1e6, 3), "query_bytes": len(request.query)}
            fields = _fields(client, request, statement, measured)
            log_event(_log, level, "slow statement" if is_slow else "statement", fields)
        if _log.isEnabledFor(TRACE):
            log_event(_log, TRACE, "text of the statement", {"message_id": request.message_id, "query": request.query})

    def tell_error(self, client: Client, request: Request, statement: Statement, error: StatementError) -> None:
        """Log an error. Clients cause many on purpose, so only unforeseen ones are logged above debug."""
        if self._monitor.is_on:
            self._refusal = error.wire_text  # `tell` follows
        is_unforeseen = isinstance(error, UnforeseenError)
        level = logging.ERROR if is_unforeseen else logging.DEBUG
        if _log.isEnabledFor(level):
            fields = _fields(client, request, statement, {"error": error.wire_text})
            log_event(_log, level, "statement failed" if is_unforeseen else "statement refused", fields)


def log_undecodable(peer: str, number: int, error: str) -> None:
    """Log the 1st, 2nd, 4th, 8th … undecodable message of a connection: no client can flood the log."""
    if number & (number - 1) == 0:
        log_event(_log, logging.WARNING, "undecodable message", {"number": number, "peer": peer, "error": error})


def request_id_of(trace: bytes | None) -> str | None:
    """The `requestId` of a trace object (wire.md §4). None without one: clients may send any text there."""
    if trace is None or len(trace) > _MAX_TRACE_BYTES:
        return None
    try:
        content = json.loads(trace)
    except (ValueError, RecursionError):
        return None
    request_id = content.get("requestId") if isinstance(content, dict) else None
    return request_id if isinstance(request_id, str) else None


def _fields(client: Client, request: Request, statement: Statement, measured: dict[str, Any]) -> dict[str, Any]:
    """The statement, its path, prefix or id, and the ids of the request on both sides."""
    keys = (getattr(statement, name, None) for name in ("path", "key", "prefix"))
    return {
        "family": statement.family,
        "command": statement.command,
        **measured,
        "key": next((key for key in keys if key is not None), None),
        "peer": client.caller.peer,
        "message_id": request.message_id,
        "connection_id": request.connection_id,
        "request_id": request_id_of(request.trace),
    }
