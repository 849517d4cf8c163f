"""A `SharedStore` on a real engine, driven by hand: for tests that know no loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import cache
from random import Random
from typing import Any

import uvloop

from cubequeue_server.engines.shared_store.engine import SharedStore
from cubequeue_server.engines.shared_store.options import StoreOptions
from cubequeue_server.settings.store_address import parse_address
from storage.limits import AnswerLimits, CacheLimits, QueueLimits
from tests.asking import Told
from tests.shared_store.audit import audit
from tests.shared_store.deployments import ClusterOfNodes
from tests.shared_store.nodes import EngineProcess


@cache
def loop() -> asyncio.AbstractEventLoop:
    """The one loop of all driven stores of this process."""
    return uvloop.new_event_loop()


def at_once(complete: Callable[[], object]) -> None:
    complete()


async def until_linked(store: SharedStore) -> None:
    """All primaries are linked and subscribed."""
    while store.failure is not None or not all(node.is_subscribed for node in store.links.nodes):  # noqa: ASYNC110
        await asyncio.sleep(0.001)


async def settled(store: SharedStore) -> None:
    """Nothing is on its way, messages included."""
    while True:
        while store.is_busy:  # noqa: ASYNC110
            await asyncio.sleep(0)
        for node in store.links.nodes:
            pong = node.ping_subscriber()
            if pong is not None:
                await pong
        if not store.is_busy:
            return


class DrivenStore(SharedStore):
    """Audits itself, and the rows in the engine."""

    masters: list[EngineProcess]

    def check_invariants(self) -> None:
        loop().run_until_complete(settled(self))
        assert self.links.waiting >= 0
        waits = self._waits
        in_fields = {wait for some in waits._by_field.values() for wait in some}
        assert in_fields == set(waits._by_later.values())
        assert waits._leaving == sum(wait.is_leaving for wait in in_fields)
        assert all(waits._by_field.values())
        assert all(wait in waits._by_field[wait.shard, wait.field] for wait in waits._by_later.values())
        for master in self.masters:
            with master.client as client:
                audit(client, self.core.shards)


def empty(masters: list[EngineProcess]) -> None:
    """Make a store as it was before its first start."""
    for master in masters:
        with master.client as client:
            client.flushall()


def open_driven(
    engine: EngineProcess | ClusterOfNodes,
    queue: QueueLimits,
    cache: CacheLimits,
    answers: AnswerLimits,
    **options: Any,
) -> DrivenStore:
    """A store whose time is that of the statements."""

    async def make() -> DrivenStore:
        wanted = StoreOptions(parse_address(engine.url), **options)
        store = DrivenStore(
            wanted,
            queue,
            cache,
            answers,
            new_later=Told,
            random=Random(0).random,
            batch=at_once,
            is_exact=True,
        )
        store.masters = engine.masters
        await store.open()
        await until_linked(store)
        return store

    return loop().run_until_complete(make())


def settle(store: SharedStore) -> None:
    loop().run_until_complete(settled(store))


def close(*stores: SharedStore) -> None:
    """End them, and let the loop forget them."""

    async def end() -> None:
        for store in stores:
            store.close()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0)

    loop().run_until_complete(end())
