"""Metrics and the live page: imported once the server listens, because nothing needs them before (process.py)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Final

from cubequeue_server.engines.upstream.counters import UpstreamCounters
from cubequeue_server.net.http_head import Answer, Head
from cubequeue_server.observe.metrics.sources import Sources
from cubequeue_server.observe.metrics.statsd import Statsd
from cubequeue_server.observe.page.routes import LivePage
from cubequeue_server.observe.status import Route
from cubequeue_server.server import Server
from cubequeue_server.settings.resolve import StatsdTarget
from storage.engine import Store

if TYPE_CHECKING:
    from cubequeue_server.observe.metrics.exposition import Exposition

_PROMETHEUS: Final = "text/plain; version=0.0.4; charset=utf-8"


class Pages:
    """The routes of the status port except the probes; with a `statsd` target, also the sender of metrics."""

    def __init__(
        self,
        store: Store,
        server: Server,
        now_ms: Callable[[], int],
        may_cancel: Callable[[], bool],
        statsd: StatsdTarget | None,
        *,
        upstream: UpstreamCounters | None,
    ) -> None:
        self._sources = Sources(store, server.counters, server.lag.lags, lambda: server.in_flight, now_ms, upstream)
        self._exposition: Exposition | None = None
        page = LivePage(self._sources, server, may_cancel)
        self.routes: dict[str, Route] = {"/metrics": self._metrics, **page.routes()}
        self.actions: dict[str, Route] = page.actions()
        self._statsd = None if statsd is None else Statsd(statsd, self._sources)
        if self._statsd is not None:
            self._statsd.start()

    def stop(self) -> None:
        """Send no more metrics."""
        if self._statsd is not None:
            self._statsd.stop()

    async def _metrics(self, _request: Head) -> Answer:
        """The metrics as Prometheus text. The first scrape imports the library, in a thread."""
        if self._exposition is None:
            module = await asyncio.to_thread(import_module, "cubequeue_server.observe.metrics.exposition")
            self._exposition = module.Exposition(self._sources)
        queues, totals = await self._sources.queues(), await self._sources.queue_totals()
        return Answer(200, self._exposition.text(queues, totals), _PROMETHEUS)
