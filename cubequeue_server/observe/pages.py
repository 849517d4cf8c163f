"""What those see who look at a server: metrics, the live page, what StatsD is sent.

Nobody looks in the first moment, so all of this is imported once the server listens (process.py).
"""

from __future__ import annotations

from collections.abc import Callable

from cubequeue_server.observe.metrics.page import MetricsPage
from cubequeue_server.observe.metrics.sources import Sources
from cubequeue_server.observe.metrics.statsd import Statsd
from cubequeue_server.observe.page.api import PageApi
from cubequeue_server.observe.page.files import file_routes
from cubequeue_server.observe.status import Route
from cubequeue_server.server import Server
from cubequeue_server.settings.resolve import StatsdTarget
from storage.engine import Store


class Pages:
    """The routes of the status port beside the probes, and the sender of metrics if there is a `statsd` to send to."""

    def __init__(
        self,
        store: Store,
        server: Server,
        now_ms: Callable[[], int],
        may_cancel: Callable[[], bool],
        statsd: StatsdTarget | None,
    ) -> None:
        sources = Sources(store, server.counters, server.lag.lags, lambda: server.in_flight, now_ms)
        api = PageApi(sources, server, may_cancel)
        self.routes: dict[str, Route] = {"/metrics": MetricsPage(sources).answer, **file_routes(), **api.routes()}
        self.actions: dict[str, Route] = api.actions()
        self._statsd = None if statsd is None else Statsd(statsd, sources)
        if self._statsd is not None:
            self._statsd.start()

    def stop(self) -> None:
        """Send no more metrics."""
        if self._statsd is not None:
            self._statsd.stop()
