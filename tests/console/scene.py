"""A store with a clock, and requests to the data of the console, without a server."""

from __future__ import annotations

import random
from typing import Any
from urllib.parse import urlencode

from cubequeue_server.client_names import ClientNames
from cubequeue_server.net.http_head import Head, take_head
from cubequeue_server.observe.console.cache import Cache
from cubequeue_server.observe.console.history import History
from cubequeue_server.observe.console.items import Items
from cubequeue_server.observe.console.queues import Queues
from cubequeue_server.observe.counters import Counters, new_histogram
from cubequeue_server.observe.metrics.sources import Sources
from storage.asking import ANYBODY, Caller
from storage.limits import AnswerLimits, CacheLimits, QueueLimits
from storage.memory import MemoryStore
from storage.minutes import MINUTE_MS
from storage.vocabulary import QueueAck, QueueAdd, QueueRetrieve, Statement
from tests.asking import Told

START_MS = 1_700_000_000_000 // MINUTE_MS * MINUTE_MS
WORKER = Caller(b"worker-uuid", "10.0.0.1:5000", 1)


def request(**parameters: object) -> Head:
    """A request with these parameters in its address."""
    head = f"GET /api?{urlencode(parameters)} HTTP/1.1\r\nhost: x\r\n\r\n"
    read = take_head(bytearray(head.encode()), 8_192)
    assert read is not None
    return read[0]


class Scene:
    """What happens is executed by the store at `now_ms`."""

    def __init__(self, limits: QueueLimits | None = None) -> None:
        self.now_ms = START_MS
        self.store = MemoryStore(
            limits or QueueLimits(), CacheLimits(), AnswerLimits(), 1, random.Random(7).random, Told
        )
        self.counters = Counters()
        self.sources = Sources(self.store, self.counters, new_histogram(), lambda: 0, lambda: self.now_ms)
        self.names = ClientNames({"worker-uuid": "worker-1"})
        self.queues = Queues(self.sources)
        self.history = History(self.sources, self.names)
        self.items = Items(self.sources, self.names, self.history)
        self.cache = Cache(self.sources)
        self.store.tick(self.now_ms, 1_000)

    def run(self, *statements: Statement, caller: Caller = ANYBODY) -> None:
        for statement in statements:
            self.store.execute(statement, caller, None, self.now_ms)

    def later(self, ms: int) -> None:
        """Time passes; a tick at the begin of each minute."""
        end_ms = self.now_ms + ms
        while self.now_ms < end_ms:
            self.now_ms = min(end_ms, (self.now_ms // MINUTE_MS + 1) * MINUTE_MS)
            self.store.tick(self.now_ms, 10_000)

    def live(self, path: bytes, wait_ms: int = 0, run_ms: int = 0, value: bytes = b"1", payload: bytes = b"{}") -> None:
        """A whole life of an item."""
        self.run(QueueAdd(path, payload))
        self.later(wait_ms)
        self.run(QueueRetrieve(path, 100), caller=WORKER)
        self.later(run_ms)
        self.run(QueueAck(path, value), caller=WORKER)

    async def listed(self, **parameters: object) -> dict[str, Any]:
        return await self.queues.listed(request(**parameters))

    async def past(self, **parameters: object) -> dict[str, Any]:
        return await self.history.listed(request(**parameters))
