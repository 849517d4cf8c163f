"""The engines under test. A new engine adds one row to `ENGINES` and passes everything in this folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Protocol

from storage.engine import Engine
from storage.limits import AnswerLimits, CacheLimits, QueueLimits
from storage.memory import MemoryStore
from tests.asking import Told
from tests.conformance.example_engine import ExampleEngine, Remote
from tests.model.naive import NaiveStore
from tests.needed import require
from tests.shared_store import nodes
from tests.shared_store.deployments import ClusterOfNodes, shared_cluster
from tests.shared_store.driven import close, empty, open_driven, settle
from tests.shared_store.nodes import EngineProcess, Product, shared
from tests.shared_store.spread import Spread
from tests.storage.journal.restarting import RestartingStore, Turns

FIRST_ID = 101


@dataclass(frozen=True)
class Limits:
    """Everything that bounds an engine."""

    queue: QueueLimits = field(default_factory=QueueLimits)
    cache: CacheLimits = field(default_factory=CacheLimits)
    answers: AnswerLimits = field(default_factory=AnswerLimits)


class Tested(Engine, Protocol):
    """What this suite asks of an engine: a `Store` has it, and the naive model."""

    def gauges(self) -> dict[str, int]:
        """What it holds, as of its last look."""


def _nothing() -> None:
    """It has all been done by then."""


@dataclass
class Opened:
    """An engine that makes `Told`s of the requests that it answers later.

    After `settle` nothing is on its way: what still waits waits for another statement, or for its time. `look` has the
    engine learn its gauges anew, by the next `settle`.
    """

    store: Tested
    settle: Callable[[], None] = _nothing
    look: Callable[[], None] = _nothing
    close: Callable[[], object] = _nothing


@dataclass(frozen=True)
class Candidate:
    """A row: an engine, how to open it, and how exact it is.

    Ids rise in any engine; where they `ids_go_by_one` from FIRST_ID, a statement may name an id that is to come. An
    engine with `exact_limits` refuses the very first statement beyond a bound, with `counts_waiters` also the first
    one too many that waits; one with `two_rooms` keeps answers with texts apart from others, and gives each client a
    share; one with `exact_eviction` knows of every use of a cache entry and is never above its hard
    limits. `answers_at_once` where no statement takes a turn; one that `keeps_order` executes statements in the order
    in which they were sent, unanswered ones too.
    Where time may not fall, a clock that steps back stands still for the engine until it has come there again.
    One that `keeps_claims` knows when an item was claimed. `is_store` where people can look into it
    (`storage.engine.Inspectable`).
    """

    name: str
    open: Callable[[Limits], Opened]
    ids_go_by_one: bool = True
    exact_limits: bool = True
    counts_waiters: bool = True
    two_rooms: bool = True
    exact_eviction: bool = True
    answers_at_once: bool = True
    keeps_order: bool = True
    time_may_fall: bool = True
    is_store: bool = True
    keeps_claims: bool = True

    def __str__(self) -> str:
        return self.name


def _naive(limits: Limits) -> Opened:
    return Opened(NaiveStore(limits.queue, limits.cache, limits.answers, FIRST_ID))


def memory_store(limits: Limits) -> MemoryStore:
    return MemoryStore(limits.queue, limits.cache, limits.answers, FIRST_ID, Random(0).random, Told)


def _journaled(limits: Limits) -> Opened:
    return Opened(RestartingStore(limits.queue, limits.cache, limits.answers, FIRST_ID, every=1))


def _example(limits: Limits) -> Opened:
    """Its ids are far from those of the scripts. It loses its link now and then, when nobody can notice."""
    turns, random = Turns(), Random(0)
    remote = Remote(limits.queue, limits.cache, limits.answers, 1_000_000, random)
    engine = ExampleEngine(
        remote, turns.call_soon, Told, random, lambda each: each.may_lose_link_unnoticed and random.random() < 0.05
    )
    return Opened(engine, turns.all, engine.look)


def _shared(product: Product, shards: int) -> Callable[[Limits], Opened]:
    """On a real engine; its ids are those of a clock and a shard."""

    def open_(limits: Limits) -> Opened:
        require(product.program, f"{product}-server")
        empty(shared(product).masters)
        engine = open_driven(shared(product), limits.queue, limits.cache, limits.answers, shards=shards)
        return Opened(engine, partial(settle, engine), engine.look, partial(close, engine))

    return open_


def _spread(of: Callable[[], EngineProcess | ClusterOfNodes], shards: int) -> Callable[[Limits], Opened]:
    """Three servers; each statement goes to any of them."""

    def open_(limits: Limits) -> Opened:
        require(nodes.REDIS.program, "redis-server")
        engine = of()
        empty(engine.masters)
        stores = [open_driven(engine, limits.queue, limits.cache, limits.answers, shards=shards) for _ in range(3)]
        spread = Spread(stores, Random(0))
        return Opened(spread, spread.settle, spread.look, partial(close, *stores))

    return open_


MEMORY = Candidate("memory", lambda limits: Opened(memory_store(limits)))
JOURNALED = Candidate("journaled", _journaled)
EXAMPLE = Candidate("example", _example, ids_go_by_one=False, answers_at_once=False)

REDIS, VALKEY, SHARDED = (
    Candidate(
        name,
        _shared(product, shards),
        ids_go_by_one=False,
        exact_limits=shards == 1,
        two_rooms=False,
        exact_eviction=False,
        answers_at_once=False,
        time_may_fall=False,
        keeps_claims=False,
    )
    for name, product, shards in (
        ("redis", nodes.REDIS, 1),
        ("valkey", nodes.VALKEY, 1),
        ("valkey, 64 shards", nodes.VALKEY, 64),
    )
)

THREE_SERVERS, THREE_ON_A_CLUSTER = (
    Candidate(
        name,
        _spread(of, shards),
        ids_go_by_one=False,
        exact_limits=False,
        counts_waiters=False,
        two_rooms=False,
        exact_eviction=False,
        answers_at_once=False,
        keeps_order=False,
        time_may_fall=False,
        is_store=False,
    )
    for name, of, shards in (
        ("three servers", partial(shared, nodes.REDIS), 1),
        ("three servers on a cluster", partial(shared_cluster, nodes.VALKEY), 64),
    )
)
ON_ENGINES = (REDIS, VALKEY, SHARDED, THREE_SERVERS, THREE_ON_A_CLUSTER)

ENGINES = (Candidate("naive", _naive, is_store=False), MEMORY, JOURNALED, EXAMPLE, *ON_ENGINES)
