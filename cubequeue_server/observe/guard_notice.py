"""Logs when the cache begins to guard tables of pre-aggregations, and when it ends (`storage.cache.drop_guard`)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

from cubequeue_server.observe.logs import log_event

_INTERVAL_S: Final = 1.0
_log = logging.getLogger("cubequeue")


class GuardNotice:
    """Looks at the gauges of the store once a second."""

    def __init__(self, gauges: Callable[[], Mapping[str, int]]) -> None:
        self._gauges = gauges
        self._until_s = 0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Look now, and from now on. That an empty cache begins with a guard is nothing to warn of."""
        level = logging.INFO if self._timer is None else logging.WARNING
        until_s = self._gauges().get("drop_guard_until_s", 0)
        if until_s > self._until_s:
            fields = {"until": datetime.fromtimestamp(until_s, UTC).isoformat(), "setting": "CUBEQUEUE_DROP_GUARD"}
            text = "marks of pre-aggregations may be missing: Cube is kept from dropping tables"
            log_event(_log, level, text, fields)
        elif not until_s and self._until_s:
            how = "its time has come" if time.time() >= self._until_s else "the marks are there"
            log_event(_log, logging.INFO, "Cube may drop tables of pre-aggregations again", {"reason": how})
        self._until_s = until_s
        self._timer = asyncio.get_running_loop().call_later(_INTERVAL_S, self.start)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
