"""Long random walks over many paths: what only shows when indexes are full, emptied, and filled again.

The machine keeps its world small so that statements meet; a walk makes it wide. Its seed is in the test's name and in
the failure: `pytest tests/model/test_walk.py -k seed-7` walks the same way again.
"""

from __future__ import annotations

from random import Random

import pytest

from storage.limits import AnswerLimits, CacheLimits, EvictionPolicy
from storage.vocabulary import (
    CacheClear,
    CacheGet,
    CacheIncr,
    CacheRemove,
    CacheSet,
    KeyRef,
    QueueAck,
    QueueAdd,
    QueueAddAndRetrieve,
    QueueCancel,
    QueueClear,
    QueueHeartbeat,
    QueueMergeExtra,
    QueueResult,
    QueueResultBlocking,
    QueueRetrieve,
)
from tests.conformance.engines import MEMORY, Limits
from tests.drawing import Drawer, Weights
from tests.model.strategies import CALLERS
from tests.model.twins import Twins

QUEUE_PATHS = [b"%s:%d" % (prefix, number) for prefix in (b"p", b"q", b"p:q") for number in range(60)]
CACHE_PATHS = [b"c:%d" % number for number in range(90)]
FILLS: Weights = {
    QueueAdd: 6,
    QueueAddAndRetrieve: 3,
    QueueRetrieve: 3,
    QueueHeartbeat: 3,
    QueueMergeExtra: 3,
    QueueAck: 4,
    CacheSet: 3,
    CacheIncr: 3,
    CacheGet: 3,
    QueueClear: 0.01,
    CacheClear: 0.01,
}
ENDS: Weights = {
    QueueAck: 2,
    QueueCancel: 1,
    QueueResult: 1,
    QueueResultBlocking: 2,
    CacheRemove: 1,
    QueueClear: 0.004,
    CacheClear: 0.004,
}
STEPS = 4_000
STEPS_BETWEEN_LOOKS = 100


def walk(seed: int, steps: int) -> None:
    """Fill for a while, drain for a while, and compare now and then."""
    random = Random(seed)
    cache = CacheLimits(max_keys=random.choice([40, 100_000]), policy=random.choice(list(EvictionPolicy)))
    limits = Limits(cache=cache, answers=AnswerLimits())
    twins = Twins(MEMORY, limits, QUEUE_PATHS, CACHE_PATHS)
    drawer = _drawer(random, twins)
    for step in range(steps):
        drains = step // 700 % 2 == 1 and random.random() < 0.8
        pause = random.choice([0, 0, 0, 1, 40, -1]) if random.random() < 0.998 else random.choice([70_000, 7_200_000])
        twins.both(drawer.draw(ENDS if drains else FILLS), random.choice(CALLERS), random.random() < 0.1, pause)
        if random.random() < 0.1:
            twins.tick(random.randrange(1, 20), 0)
        if step % STEPS_BETWEEN_LOOKS == 0:
            twins.assert_alike()
    twins.assert_alike()
    twins.read_everything()


def _drawer(random: Random, twins: Twins) -> Drawer:
    def key() -> KeyRef:
        items = twins.model.queue.items
        if random.random() < 0.2:
            return random.choice(QUEUE_PATHS)
        return random.choice(items).id if items and random.random() < 0.8 else twins.model.queue.next_id

    return Drawer(
        random,
        QUEUE_PATHS,
        CACHE_PATHS,
        counters=CACHE_PATHS[:5],
        text=lambda: b"v" * random.randrange(50),
        extra=lambda: b'{"%d":1}' % random.randrange(3),
        key=key,
        priorities=range(-3, 4),
        orphaned_s=[None, None, None, 2, 9_000],
        exclusive=[False, False, False, True],
        external_ids=[None, None, b"e"],
        concurrencies=range(60),
        ttls_s=[None, None, 1, 60, 3_600],
    )


@pytest.mark.parametrize("seed", range(3), ids=lambda seed: f"seed-{seed}")
def test_a_walk(seed: int) -> None:
    walk(seed, STEPS)


@pytest.mark.soak
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("seed", range(100, 110), ids=lambda seed: f"seed-{seed}")
def test_a_long_walk(seed: int) -> None:
    walk(seed, 20 * STEPS)
