"""Metrics and the live page: imported once the server listens, because nothing needs them before (process.py)."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Final

from cubequeue_server.engines.upstream.counters import UpstreamCounters
from cubequeue_server.net.http_head import Answer, Head
from cubequeue_server.observe.console.routes import ConsoleData
from cubequeue_server.observe.limits import Limits
from cubequeue_server.observe.metrics.histograms import queue_histograms
from cubequeue_server.observe.metrics.sources import Sources
from cubequeue_server.observe.metrics.statsd import Statsd
from cubequeue_server.observe.page.live_statements import LiveStatements
from cubequeue_server.observe.page.routes import LivePage
from cubequeue_server.observe.status import Route
from cubequeue_server.server import Server
from cubequeue_server.settings.resolve import Settings
from storage.engine import Store

if TYPE_CHECKING:
    from cubequeue_server.observe.metrics.exposition import Exposition

_GZIP_LEVEL: Final = 3
_PROMETHEUS: Final = "text/plain; version=0.0.4; charset=utf-8"


class Pages:
    """The routes of the status port except the probes; with a StatsD target, also the sender of metrics."""

    def __init__(
        self,
        store: Store,
        server: Server,
        now_ms: Callable[[], int],
        *,
        may_cancel: Callable[[], bool],
        settings: Settings,
        failure: Callable[[], str | None],
        upstream: UpstreamCounters | None,
    ) -> None:
        self._sources = Sources(store, server.counters, server.lag.lags, lambda: server.in_flight, now_ms, upstream)
        self._exposition: Exposition | None = None
        page = LivePage(self._sources, server, may_cancel)
        self._failure = failure
        self._limits = limits = Limits(settings, store, server.counters)
        data = ConsoleData(self._sources, server, settings, failure=failure, may_cancel=may_cancel, limits=limits)
        self.routes: dict[str, Route] = {
            "/metrics": self._metrics,
            **page.routes(),
            **data.routes(),
            **LiveStatements(server).routes(),
        }
        self.actions: dict[str, Route] = page.actions()
        self._statsd = None if settings.statsd is None else Statsd(settings.statsd, self._sources)
        if self._statsd is not None:
            self._statsd.start()

    def stop(self) -> None:
        """Send no more metrics."""
        if self._statsd is not None:
            self._statsd.stop()

    async def _metrics(self, request: Head) -> Answer:
        """The metrics as Prometheus text. The first scrape imports the library, in a thread."""
        if self._exposition is None:
            module = await asyncio.to_thread(import_module, "cubequeue_server.observe.metrics.exposition")
            self._exposition = module.Exposition(self._sources)
        queues, totals = await self._sources.queues(), await self._sources.queue_totals()
        parts = [self._exposition.text(queues, totals, await self._limits.measure(), self._failure())]
        for part in queue_histograms(totals):
            parts.append(part)
            await asyncio.sleep(0)
        text = b"".join(parts)
        if b"gzip" not in (request.header(b"accept-encoding") or b"").lower():
            return Answer(200, text, _PROMETHEUS)
        packed = await asyncio.to_thread(gzip.compress, text, _GZIP_LEVEL, mtime=0)
        return Answer(200, packed, _PROMETHEUS, {"content-encoding": "gzip", "vary": "accept-encoding"})
