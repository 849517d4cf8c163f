"""The statements of the moment as JSON: what `cubequeue monitor` shows."""

from __future__ import annotations

import asyncio
import json
from typing import Final

from cubequeue_server.net.http_head import Answer, Head
from cubequeue_server.observe.status import Route
from cubequeue_server.server import Server

_LAPSE_S: Final = 5.0  # without a question
_MAX_ROWS: Final = 200


class LiveStatements:
    """A question begins the watch, and 5 s without one end it."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._lapse: asyncio.TimerHandle | None = None

    def routes(self) -> dict[str, Route]:
        """Routes of GET."""
        return {"/api/statements": self._statements}

    async def _statements(self, request: Head) -> Answer:
        """The sample behind the parameter `after`, the number of a statement."""
        if self._lapse is not None:
            self._lapse.cancel()
        self._lapse = asyncio.get_running_loop().call_later(_LAPSE_S, self._server.unwatch_statements)
        monitor = self._server.watch_statements()
        after = request.parameters.get("after", "")
        number = int(after) if after.isascii() and after.isdigit() and len(after) < 16 else 0
        rows = monitor.after(number, _MAX_ROWS)
        content = {"rows": rows, "last": monitor.number, "seen": monitor.seen, "instance": self._server.instance}
        return Answer(200, json.dumps(content).encode(), "application/json", {"cache-control": "no-store"})
