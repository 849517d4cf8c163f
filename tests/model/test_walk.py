"""Long random walks over many paths: what only shows when indexes are full, emptied, and filled again.

The machine keeps its world small so that statements meet; a walk makes it wide. Its seed is in the test's name and in
the failure: `pytest tests/model/test_walk.py -k seed-7` walks the same way again.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from storage.limits import AnswerLimits, CacheLimits, EvictionPolicy
from storage.vocabulary import (
    CacheClear,
    CacheGet,
    CacheIncr,
    CacheRemove,
    CacheSet,
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
    Statement,
)
from tests.conformance.engines import Limits, memory
from tests.model.strategies import CALLERS
from tests.model.twins import Twins

QUEUE_PATHS = [b"%s:%d" % (prefix, number) for prefix in (b"p", b"q", b"p:q") for number in range(60)]
CACHE_PATHS = [b"c:%d" % number for number in range(90)]
STEPS = 4_000
STEPS_BETWEEN_LOOKS = 100


def walk(seed: int, steps: int) -> None:
    """Fill for a while, drain for a while, and compare now and then."""
    random = Random(seed)
    cache = CacheLimits(max_keys=random.choice([40, 100_000]), policy=random.choice(list(EvictionPolicy)))
    limits = Limits(cache=cache, answers=AnswerLimits())
    twins = Twins(memory(limits), limits, QUEUE_PATHS, CACHE_PATHS)
    for step in range(steps):
        drains = step // 700 % 2 == 1
        pause = random.choice([0, 0, 0, 1, 40, -1]) if random.random() < 0.998 else random.choice([70_000, 7_200_000])
        twins.both(_statement(random, twins, drains=drains), random.choice(CALLERS), random.random() < 0.1, pause)
        if random.random() < 0.1:
            twins.tick(random.randrange(1, 20), 0)
        if step % STEPS_BETWEEN_LOOKS == 0:
            twins.assert_alike()
    twins.assert_alike()
    twins.read_everything()


def _statement(random: Random, twins: Twins, *, drains: bool) -> Statement:
    path, cache_path = random.choice(QUEUE_PATHS), random.choice(CACHE_PATHS)
    items = twins.model.queue.items
    known = random.choice(items).id if items and random.random() < 0.8 else twins.model.queue.next_id
    fills: list[Callable[[], Statement]] = [
        lambda: QueueAdd(path, b"1", random.randrange(-3, 4), random.choice([None, 2, 9_000])),
        lambda: QueueAdd(path, b"22", 0, exclusive=random.random() < 0.5, external_id=random.choice([None, b"e"])),
        lambda: QueueAddAndRetrieve(path, b"333", random.randrange(60)),
        lambda: QueueRetrieve(path, 60, extended=True),
        lambda: QueueHeartbeat(known),
        lambda: QueueMergeExtra(known, b'{"%d":1}' % random.randrange(3)),
        lambda: CacheSet(cache_path, b"v" * random.randrange(50), random.choice([None, None, 1, 60, 3_600])),
        lambda: CacheIncr(b"c:%d" % random.randrange(5)),
        lambda: CacheGet(cache_path),
    ]
    ends: list[Callable[[], Statement]] = [
        lambda: QueueAck(known, b"r" * random.randrange(9)),
        lambda: QueueAck(path, None),
        lambda: QueueCancel(known),
        lambda: QueueResult(path, random.choice([None, b"e"])),
        lambda: QueueResultBlocking(known, 1_000),
        lambda: QueueResultBlocking(path, 1_000),
        lambda: CacheRemove(cache_path),
    ]
    if random.random() < 0.0005:
        return random.choice([QueueClear(), CacheClear()])
    return random.choice(ends if drains and random.random() < 0.8 else fills + ends[:2])()


@pytest.mark.parametrize("seed", range(3), ids=lambda seed: f"seed-{seed}")
def test_a_walk(seed: int) -> None:
    walk(seed, STEPS)


@pytest.mark.soak
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("seed", range(100, 110), ids=lambda seed: f"seed-{seed}")
def test_a_long_walk(seed: int) -> None:
    walk(seed, 20 * STEPS)
