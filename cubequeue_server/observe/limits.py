"""The limits that can be reached, each beside what is used of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cubequeue_server.observe.counters import Counters
from cubequeue_server.settings.resolve import Settings
from storage.engine import Store

_MEASURED_S: Final = 5.0  # descriptors and disk are measured again after so long


@dataclass(slots=True, frozen=True)
class Limit:
    """What is used of a limit, in `unit`, and the setting that raises it."""

    name: str
    used: int
    limit: int
    unit: str
    setting: str

    @property
    def share(self) -> float:
        """The share that is used."""
        return self.used / self.limit if self.limit > 0 else 0.0


class Limits:
    """Measures limits. Descriptors and disk are those of the last measurement, at most 5 s old."""

    def __init__(self, settings: Settings, store: Store, counters: Counters) -> None:
        self._settings = settings
        self._store = store
        self._counters = counters
        self._measured_s = -_MEASURED_S
        self._system: list[Limit] = []

    async def measure(self) -> list[Limit]:
        """All limits; those of the operating system are measured in a thread."""
        if time.monotonic() - self._measured_s >= _MEASURED_S:
            self._measured_s = time.monotonic()
            self._system = await asyncio.to_thread(lambda: list(_of_system(self._settings.data_dir)))
        return [*self._of_store(), *self._system]

    def _of_store(self) -> Iterator[Limit]:
        gauges, settings = self._store.gauges(), self._settings
        queue, cache = settings.queue, settings.cache
        queue_bytes = gauges["queue_bytes"] + gauges["queue_result_bytes"]
        yield Limit("items", gauges["queue_items"], queue.max_items, "items", "CUBEQUEUE_QUEUE_MAX_ITEMS")
        yield Limit("queue_bytes", queue_bytes, queue.max_bytes, "bytes", "CUBEQUEUE_QUEUE_MAX_SIZE")
        yield Limit("waiters", gauges["waiters"], queue.max_waiters, "statements", "CUBEQUEUE_QUEUE_MAX_WAITERS")
        yield Limit("cache_bytes", gauges["cache_bytes"], cache.max_bytes, "bytes", "CUBESTORE_CACHE_MAX_SIZE")
        yield Limit("cache_keys", gauges["cache_keys"], cache.max_keys, "entries", "CUBESTORE_CACHE_MAX_KEYS")
        answers = settings.answers
        yield Limit("answer_bytes", gauges["answer_bytes"], answers.max_bytes, "bytes", "CUBEQUEUE_ANSWERS_MAX_SIZE")
        connections = self._counters.connections
        yield Limit("connections", connections, settings.max_connections, "connections", "CUBEQUEUE_MAX_CONNECTIONS")


def _of_system(data_dir: str) -> Iterator[Limit]:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError):  # a system without /proc
        count = sum(1 for _ in Path("/proc/self/fd").iterdir())
        yield Limit("descriptors", count, soft, "descriptors", "ulimit -n")
    if data_dir:
        try:
            found = os.statvfs(data_dir)
        except OSError:
            return
        size_bytes = found.f_blocks * found.f_frsize
        yield Limit(
            "disk_bytes", size_bytes - found.f_bavail * found.f_frsize, size_bytes, "bytes", "CUBESTORE_DATA_DIR"
        )
