"""The routes of the console's data (docs/internals/console-data.md)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from functools import partial
from typing import Any, Final

from cubequeue_server.net.http_head import Answer, Head
from cubequeue_server.observe.console import lists
from cubequeue_server.observe.console.actions import Actions
from cubequeue_server.observe.console.attention import Attention
from cubequeue_server.observe.console.cache import Cache
from cubequeue_server.observe.console.clients import Clients
from cubequeue_server.observe.console.history import History
from cubequeue_server.observe.console.items import Items
from cubequeue_server.observe.console.queues import Queues
from cubequeue_server.observe.counters import count
from cubequeue_server.observe.limits import Limits
from cubequeue_server.observe.metrics.sources import Sources
from cubequeue_server.observe.status import Route
from cubequeue_server.server import Server
from cubequeue_server.settings.resolve import Settings
from cubequeue_server.version import __version__

_NOT_HERE: Final = "there is none: it has ended, or it was removed"


class ConsoleData:
    """Answers what the page asks for under `/api`, and cancels and removes for it.

    `failure` says why writes are refused now, `may_cancel` whether the page may cancel items.
    """

    def __init__(
        self,
        sources: Sources,
        server: Server,
        settings: Settings,
        *,
        failure: Callable[[], str | None],
        may_cancel: Callable[[], bool],
        limits: Limits,
    ) -> None:
        self._sources = sources
        self._settings = settings
        self._instance = server.instance
        self._failure = failure
        self._may_cancel = may_cancel
        self._started_ms = sources.now_ms()
        names = server.connections.names
        self._queues = Queues(sources)
        self._clients = Clients(sources, server.connections)
        self._history = History(sources, names)
        self._limits = limits
        self._items = Items(sources, names, self._history)
        self._cache = Cache(sources)
        self._actions = Actions(server, self._cache, sources.now_ms, may_cancel)
        self._attention = Attention(sources, self._queues, self._clients, limits, names)

    def routes(self) -> dict[str, Route]:
        """Routes of GET."""
        answers: dict[str, Callable[[Head], Awaitable[dict[str, Any]]]] = {
            "/api/server": self._server,
            "/api/queues": self._queues.listed,
            "/api/series": self._queues.series,
            "/api/history": self._history.listed,
            "/api/clients": self._clients.listed,
            "/api/items": self._items.listed,
            "/api/results": self._items.results,
            "/api/cache": self._cache.listed,
            "/api/cache/keys": self._cache.keys,
        }
        single: dict[str, Callable[[Head], Awaitable[dict[str, Any] | None]]] = {
            "/api/queue": lambda request: self._queues.one(lists.needed_path(request, "queue")),
            "/api/item": lambda request: self._items.one(lists.needed_path(request, "item")),
            "/api/cache/entry": lambda request: self._cache.one(lists.needed_path(request, "key")),
        }
        return {path: partial(_answered, content_of) for path, content_of in {**answers, **single}.items()}

    def actions(self) -> dict[str, Route]:
        """Routes of POST."""
        return self._actions.routes()

    async def _server(self, _request: Head) -> dict[str, Any]:
        sources, counters = self._sources, self._sources.counters
        gauges = sources.store.gauges()
        failure = self._failure()
        return {
            "version": __version__,
            "instance": self._instance,
            "now_ms": sources.now_ms(),
            "started_ms": self._started_ms,
            "durability": self._settings.durability,
            "may_cancel": self._may_cancel(),
            "ready": failure is None,
            "reason": failure,
            "connections": counters.connections,
            "in_flight": sources.in_flight(),
            "executed": sum(map(count, counters.durations.values())),
            "errors": counters.statement_errors + counters.syntax_errors,
            "bytes_in": counters.bytes_in,
            "bytes_out": counters.bytes_out,
            "journal_lag": gauges.get("journal_lag", 0),
            "journal_lag_ms": gauges.get("journal_lag_ms", 0),
            "limits": [asdict(limit) for limit in await self._limits.measure()],
            "attention": await self._attention.find(failure),
            "gauges": gauges,
        }


async def _answered(content_of: Callable[[Head], Awaitable[dict[str, Any] | None]], request: Head) -> Answer:
    try:
        content = await content_of(request)
    except lists.BadRequestError as error:
        return lists.answer({"error": str(error)}, 400)
    return lists.answer({"error": _NOT_HERE}, 404) if content is None else lists.answer(content)
