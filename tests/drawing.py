"""Random statements over few paths: what random walks and crash tests have their clients say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from storage.vocabulary import (
    CacheClear,
    CacheGet,
    CacheIncr,
    CacheKeys,
    CacheRemove,
    CacheSet,
    KeyRef,
    QueueAck,
    QueueActive,
    QueueAdd,
    QueueAddAndRetrieve,
    QueueCancel,
    QueueClear,
    QueueGet,
    QueueHeartbeat,
    QueueList,
    QueueMergeExtra,
    QueuePending,
    QueueResult,
    QueueResultBlocking,
    QueueRetrieve,
    Statement,
)

Weights = Mapping[type[Statement], float]


@dataclass
class Drawer:
    """Draws statements. `text` makes a payload or value, `extra` an extra, `key` names an item by path or id.

    The rest are pools that options are drawn from: one that holds a value twice draws it twice as often.
    """

    random: Random
    paths: Sequence[bytes]
    cache_paths: Sequence[bytes]
    counters: Sequence[bytes]
    text: Callable[[], bytes]
    extra: Callable[[], bytes]
    key: Callable[[], KeyRef]
    prefixes: Sequence[bytes] = (b"",)
    priorities: Sequence[int] = (0, 1, 2)
    orphaned_s: Sequence[int | None] = (None,)
    exclusive: Sequence[bool] = (False,)
    external_ids: Sequence[bytes | None] = (None,)
    concurrencies: Sequence[int] = (8,)
    ttls_s: Sequence[int | None] = (None,)
    timeouts_ms: Sequence[int] = (1_000,)

    def draw(self, weights: Weights) -> Statement:
        """One statement, of a kind drawn by weight."""
        (kind,) = self.random.choices(list(weights), list(weights.values()))
        return _MAKERS[kind](self)

    def chance(self, share: float) -> bool:
        """True so often."""
        return self.random.random() < share


def _add(d: Drawer) -> Statement:
    pick = d.random.choice
    return QueueAdd(
        pick(d.paths), d.text(), pick(d.priorities), pick(d.orphaned_s), pick(d.exclusive), pick(d.external_ids)
    )


_MAKERS: dict[type[Statement], Callable[[Drawer], Statement]] = {
    QueueAdd: _add,
    QueueAddAndRetrieve: lambda d: QueueAddAndRetrieve(
        d.random.choice(d.paths), d.text(), d.random.choice(d.concurrencies)
    ),
    QueueRetrieve: lambda d: QueueRetrieve(
        d.random.choice(d.paths), d.random.choice(d.concurrencies), extended=d.chance(0.5)
    ),
    QueueGet: lambda d: QueueGet(d.key()),
    QueueList: lambda d: QueueList(d.random.choice(d.prefixes), with_payload=d.chance(0.5)),
    QueuePending: lambda d: QueuePending(d.random.choice(d.prefixes), with_payload=d.chance(0.5)),
    QueueActive: lambda d: QueueActive(d.random.choice(d.prefixes), with_payload=d.chance(0.5)),
    QueueHeartbeat: lambda d: QueueHeartbeat(d.key()),
    QueueMergeExtra: lambda d: QueueMergeExtra(d.key(), d.extra()),
    QueueAck: lambda d: QueueAck(d.key(), None if d.chance(0.2) else d.text()),
    QueueCancel: lambda d: QueueCancel(d.key()),
    QueueResult: lambda d: QueueResult(d.random.choice(d.paths), d.random.choice(d.external_ids)),
    QueueResultBlocking: lambda d: QueueResultBlocking(d.key(), d.random.choice(d.timeouts_ms)),
    QueueClear: lambda d: QueueClear(),
    CacheSet: lambda d: CacheSet(d.random.choice(d.cache_paths), d.text(), d.random.choice(d.ttls_s), nx=d.chance(0.3)),
    CacheGet: lambda d: CacheGet(d.random.choice(d.cache_paths)),
    CacheKeys: lambda d: CacheKeys(d.random.choice(d.cache_paths).rpartition(b":")[0]),
    CacheIncr: lambda d: CacheIncr(d.random.choice(d.counters)),
    CacheRemove: lambda d: CacheRemove(d.random.choice(d.cache_paths)),
    CacheClear: lambda d: CacheClear(),
}
