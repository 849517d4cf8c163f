"""Log lines about single statements: slow and refused ones, and all of them at the levels debug and trace."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from cubequeue_server.observe.logs import TRACE, log_event
from cubequeue_server.requests.client import Client
from cubequeue_server.requests.monitor import Monitor
from protocol.errors import ProtocolError, StatementSyntaxError
from protocol.messages import Request
from storage.asking import Caller
from storage.errors import StatementError
from storage.vocabulary import Statement

_MAX_TRACE_BYTES: Final = 4096
_MAX_SHOWN_BYTES: Final = 800
# Lines about refused statements: so many at once, and so many a second in the long run.
REFUSALS_AT_ONCE: Final = 20
_REFUSALS_A_SECOND: Final = 1.0
# Texts of SQL, to their end where they are not closed, and however their quotes are escaped.
_TEXTS: Final = re.compile(r"""(['"])(?:[^'"\\]|\\.?|(?!\1)['"]|\1\1)*+\1?""", re.DOTALL)
_log = logging.getLogger(__name__)


class UnforeseenError(StatementError):
    """What a client gets when a statement fails unexpectedly."""


class StatementLog:
    """Logs statements, and notes them for a monitor that is on. Only one of `threshold_ns` needs a call of `tell`."""

    def __init__(self, slow_ms: int, monitor: Monitor) -> None:
        self._slow_ns = slow_ms * 1_000_000
        self._rate = Rate(REFUSALS_AT_ONCE, _REFUSALS_A_SECOND)
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
        """Log the error of a statement; an unforeseen one is an error of ours."""
        if self._monitor.is_on:
            self._refusal = error.wire_text  # `tell` follows
        if isinstance(error, UnforeseenError):
            log_event(
                _log, logging.ERROR, "statement failed", _fields(client, request, statement, {"error": error.wire_text})
            )
            return
        client.refused += 1
        self.tell_refused(client.caller, client.refused, error, lambda: _fields(client, request, statement, {}))

    def tell_syntax_error(self, client: Client, request: Request, error: StatementSyntaxError) -> None:
        """Log a text that is no statement."""
        client.refused += 1
        self.tell_refused(
            client.caller,
            client.refused,
            error,
            lambda: {"text": without_texts(request.query), **_ids(client, request)},
        )

    def tell_refused(
        self,
        caller: Caller,
        number: int,
        error: StatementError | ProtocolError,
        fields: Callable[[], Mapping[str, Any]],
    ) -> None:
        """Log the 1st, 2nd, 4th, 8th … refused statement of a connection, within the rate of all; the rest at debug."""
        is_told = number & (number - 1) == 0 and self._rate.admit()
        level = logging.WARNING if is_told else logging.DEBUG
        if _log.isEnabledFor(level):
            shown = {
                "error": without_texts(error.text.encode(errors="replace")),
                "number": number,
                "peer": caller.peer,
                "process_id": caller.process_id,
            }
            log_event(_log, level, "statement refused", {**fields(), **shown})


class Rate:
    """Admits `at_once` events, and `a_second` in the long run."""

    def __init__(self, at_once: int, a_second: float) -> None:
        self._at_once = at_once
        self._a_second = a_second
        self._left = float(at_once)
        self._at_s = time.monotonic()

    def admit(self) -> bool:
        """Whether one more is admitted."""
        now_s = time.monotonic()
        self._left = min(self._at_once, self._left + (now_s - self._at_s) * self._a_second)
        self._at_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True


def without_texts(statement: bytes) -> str:
    """The head of a statement, or of an error about it, without its texts, which may be payloads. O(1)."""
    return _TEXTS.sub("'…'", statement[:_MAX_SHOWN_BYTES].decode(errors="replace"))


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
        **_ids(client, request),
    }


def _ids(client: Client, request: Request) -> dict[str, Any]:
    """What names a request on both sides."""
    return {
        "process_id": client.caller.process_id,
        "message_id": request.message_id,
        "connection_id": request.connection_id,
        "request_id": request_id_of(request.trace),
    }
