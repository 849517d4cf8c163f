"""What the console changes: it cancels items and removes entries of the cache."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from cubequeue_server.access.credentials import basic_credentials
from cubequeue_server.net.http_head import Answer, Head
from cubequeue_server.observe.console import lists
from cubequeue_server.observe.console.cache import Cache
from cubequeue_server.observe.logs import log_event
from cubequeue_server.observe.metrics.sources import label
from cubequeue_server.observe.status import Route
from cubequeue_server.server import Server
from storage.asking import Caller, Outcome
from storage.errors import StatementError
from storage.vocabulary import CacheRemove, QueueCancel, Result, Statement

_HEADER: Final = b"x-cubequeue-action"
_log = logging.getLogger(__name__)


class RefusedStatementError(Exception):
    """The server refused the statement of an action."""


class Actions:
    """`may_change` tells whether the console may change anything."""

    def __init__(self, server: Server, cache: Cache, now_ms: Callable[[], int], may_change: Callable[[], bool]) -> None:
        self._server = server
        self._cache = cache
        self._now_ms = now_ms
        self._may_change = may_change

    def routes(self) -> dict[str, Route]:
        """Routes of POST."""
        return {"/api/cancel": self._cancel, "/api/cache/remove": self._remove}

    async def _cancel(self, request: Head) -> Answer:
        """Cancel an item; the server logs it."""
        return await self._guarded(request, "cancel", "item", self._cancel_item)

    async def _cancel_item(self, path: bytes, caller: Caller) -> dict[str, Any]:
        return {"cancelled": bool((await self._ask(QueueCancel(path), caller)).rows)}

    async def _remove(self, request: Head) -> Answer:
        """Remove an entry of the cache, and log it."""
        return await self._guarded(request, "remove", "key", self._remove_entry)

    async def _remove_entry(self, path: bytes, caller: Caller) -> dict[str, Any]:
        await self._ask(CacheRemove(path), caller)
        self._cache.forget_sizes()
        fields = {"key": label(path), "user": label(caller.user), "peer": caller.peer}
        log_event(_log, logging.WARNING, "cache entry removed by hand", fields)
        return {"removed": True}

    async def _guarded(self, request: Head, action: str, name: str, act: Callable[..., Any]) -> Answer:
        """Act on the path of a parameter. Only scripts of this page can send the header: other sites cannot."""
        if not self._may_change():
            return lists.answer({"error": "changes are off: they need CUBEQUEUE_STATUS_CANCEL and credentials"}, 403)
        if request.header(_HEADER) != action.encode():
            return lists.answer({"error": f"the header {_HEADER.decode()} is missing: {action}"}, 403)
        caller = Caller(peer=request.peer, user=_user_of(request))
        try:
            done = await act(lists.needed_path(request, name), caller)
        except lists.BadRequestError as error:
            return lists.answer({"error": str(error)}, 400)
        except RefusedStatementError as error:
            return lists.answer({"error": str(error)}, 409)
        by = {"user": label(caller.user), "peer": caller.peer}
        return lists.answer({**done, "by": by, "at_ms": self._now_ms()})

    async def _ask(self, statement: Statement, caller: Caller) -> Result:
        """The result of a statement. Raises RefusedStatementError."""
        told: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._server.call(statement, caller, lambda outcome: None if told.done() else told.set_result(outcome))
        outcome = await told
        if isinstance(outcome, StatementError):
            raise RefusedStatementError(outcome.wire_text)
        assert isinstance(outcome, Result)
        return outcome


def _user_of(request: Head) -> bytes:
    """The user of an admitted request."""
    given = basic_credentials(request.header(b"authorization") or b"")
    return b"" if given is None else given[0]
