"""Sources of metrics with a bit of everything in them."""

from __future__ import annotations

import random

from cubequeue_server.engines.upstream.counters import UpstreamCounters
from cubequeue_server.observe.counters import Counters, new_histogram, observe
from cubequeue_server.observe.metrics.sources import Sources
from storage.asking import ANYBODY
from storage.limits import AnswerLimits, CacheLimits, QueueLimits
from storage.memory import MemoryStore
from storage.vocabulary import (
    CacheGet,
    CacheSet,
    QueueAck,
    QueueAdd,
    QueueCancel,
    QueueRetrieve,
    QueueStalled,
    Statement,
)
from tests.asking import Told

START_MS = 1_700_000_000_000

JOURNAL = {"journal_bytes": 5, "journal_groups": 4, "journal_rows": 3, "journal_failures": 2, "journal_lag": 1}
SHARED_STORE = {
    "store_primaries": 3,
    "store_memory_bytes": 70,
    "store_max_memory_bytes": 100,
    "store_calls": 60,
    "store_calls_waiting": 6,
    "store_calls_repeated": 5,
    "store_calls_unknown": 4,
    "store_late_replies": 3,
    "store_connects": 2,
    "store_link_losses": 1,
    "store_large_bytes_put": 8,
    "store_large_bytes_read": 9,
}


class Store(MemoryStore):
    """A store in memory that speaks of a journal too, and of a store that servers share."""

    def gauges(self) -> dict[str, int]:
        return {**super().gauges(), **JOURNAL, **SHARED_STORE}


class Scene:
    """A store, its counters, and a clock."""

    def __init__(self) -> None:
        self.now_ms = START_MS
        self.store = Store(QueueLimits(), CacheLimits(), AnswerLimits(), 1, random.Random(7).random, Told)
        self.counters = Counters()
        self.upstream = UpstreamCounters(version="1.6.60")
        self.sources = Sources(
            self.store, self.counters, new_histogram(), lambda: 3, lambda: self.now_ms, self.upstream
        )

    def run(self, *statements: Statement, duration_ns: int = 5_000) -> None:
        """Execute as the dispatcher does."""
        for statement in statements:
            self.store.execute(statement, ANYBODY, None, self.now_ms)
            observe(self.counters.durations[type(statement)], duration_ns)


def busy_scene() -> Scene:
    """A queue with two pending and one active item, one that was acknowledged and one cancelled as stalled."""
    scene = Scene()
    scene.run(*(QueueAdd(b"q:%d" % number, b"SELECT 1") for number in range(5)))
    scene.now_ms += 1_500
    scene.run(*(QueueRetrieve(b"q:%d" % number, 9) for number in range(3)))
    scene.run(QueueAck(b"q:0", b"result"))
    scene.now_ms += 2_000
    scene.run(QueueStalled(b"q", 1_000), QueueCancel(b"q:1"))
    scene.run(CacheSet(b"c:1", b"value"), CacheGet(b"c:1"), CacheGet(b"c:2"))
    observe(scene.counters.waits[QueueAdd], 2_000_000)
    observe(scene.sources.loop_lags, 3_000_000)
    for position, name in enumerate(sorted(scene.counters.__dataclass_fields__)):
        if name not in {"durations", "waits"}:
            setattr(scene.counters, name, 100 + position)
    for position, name in enumerate(sorted(scene.upstream.__dataclass_fields__)):
        if name not in {"seconds", "version"}:
            setattr(scene.upstream, name, 1000 + position)
    observe(scene.upstream.seconds, 7_000_000)
    return scene
