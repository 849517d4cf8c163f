"""`/metrics` of the status port."""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import TYPE_CHECKING

from cubequeue_server.net.http_head import Answer, Head
from cubequeue_server.observe.metrics.sources import Sources

if TYPE_CHECKING:
    from cubequeue_server.observe.metrics.exposition import Exposition

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class MetricsPage:
    """A route. The first scrape imports what makes the text, in a thread: a server that nobody scrapes goes without."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._exposition: Exposition | None = None

    async def answer(self, _request: Head) -> Answer:
        """The exposition in Prometheus' text format."""
        if self._exposition is None:
            module = await asyncio.to_thread(import_module, "cubequeue_server.observe.metrics.exposition")
            self._exposition = module.Exposition(self._sources)
        queues, totals = await self._sources.queues(), await self._sources.queue_totals()
        return Answer(200, self._exposition.text(queues, totals), CONTENT_TYPE)
