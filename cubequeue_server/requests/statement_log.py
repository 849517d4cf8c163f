"""What the log tells of single statements: the slow ones, and all at the levels debug and trace."""

from __future__ import annotations

import json
import logging
from typing import Any, Final

from cubequeue_server.observe.logs import TRACE, log_event
from cubequeue_server.requests.client import Client
from protocol.messages import Request
from storage.errors import StatementError
from storage.vocabulary import Statement

_MAX_TRACE_BYTES: Final = 4096
_log = logging.getLogger(__name__)


class UnforeseenError(StatementError):
    """What a client is told of a failure that nobody foresaw."""


class StatementLog:
    """`threshold_ns` is what a statement must take at least to be worth a call of `tell`."""

    def __init__(self, slow_ms: int) -> None:
        self._slow_ns = slow_ms * 1_000_000
        self.threshold_ns = 0 if _log.isEnabledFor(logging.DEBUG) else self._slow_ns

    def tell(self, client: Client, request: Request, statement: Statement, duration_ns: int) -> None:
        """A statement was executed. Its text is logged at trace only."""
        is_slow = duration_ns >= self._slow_ns
        level = logging.WARNING if is_slow else logging.DEBUG
        if not _log.isEnabledFor(level):
            return
        fields = {
            "family": statement.family,
            "command": statement.command,
            "duration_ms": round(duration_ns / 1e6, 3),
            "key": _key_of(statement),
            "query_bytes": len(request.query),
            **where_from(client, request),
        }
        log_event(_log, level, "slow statement" if is_slow else "statement", fields)
        if _log.isEnabledFor(TRACE):
            log_event(_log, TRACE, "text of the statement", {"message_id": request.message_id, "query": request.query})

    def tell_error(self, client: Client, request: Request, statement: Statement, error: StatementError) -> None:
        """A statement got an error: clients make many on purpose, so only what nobody foresaw is seen at info."""
        is_unforeseen = isinstance(error, UnforeseenError)
        level = logging.ERROR if is_unforeseen else logging.DEBUG
        if _log.isEnabledFor(level):
            fields = {
                "family": statement.family,
                "command": statement.command,
                "error": error.wire_text,
                "key": _key_of(statement),
                **where_from(client, request),
            }
            log_event(_log, level, "statement failed" if is_unforeseen else "statement refused", fields)


def log_undecodable(peer: str, number: int, error: str) -> None:
    """Log the 1st, 2nd, 4th, 8th … message of a connection that is no request: a log is no place to flood."""
    if number & (number - 1) == 0:
        log_event(_log, logging.WARNING, "undecodable message", {"number": number, "peer": peer, "error": error})


def where_from(client: Client, request: Request) -> dict[str, Any]:
    """Who sent a request, and what names it on both sides."""
    return {
        "peer": client.caller.peer,
        "message_id": request.message_id,
        "connection_id": request.connection_id,
        "request_id": request_id_of(request.trace),
    }


def request_id_of(trace: bytes | None) -> str | None:
    """The `requestId` of a trace object (wire.md §4), None if there is none: clients may send any text there."""
    if trace is None or len(trace) > _MAX_TRACE_BYTES:
        return None
    try:
        content = json.loads(trace)
    except (ValueError, RecursionError):
        return None
    request_id = content.get("requestId") if isinstance(content, dict) else None
    return request_id if isinstance(request_id, str) else None


def _key_of(statement: Statement) -> Any:
    """The path, prefix or id that a statement names."""
    for name in ("path", "key", "prefix"):
        key = getattr(statement, name, None)
        if key is not None:
            return key
    return None
