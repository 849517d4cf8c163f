"""Real servers on loopback over one store, each with its own links, in one event loop."""

from __future__ import annotations

import time
from asyncio import get_running_loop
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

from cubequeue_server.engines.shared_store.engine import SharedStore
from cubequeue_server.engines.shared_store.options import StoreOptions
from cubequeue_server.engines.sql.engine import SqlEngine
from cubequeue_server.net.outbox import Outbox
from cubequeue_server.requests.ask import Ask
from cubequeue_server.router import Router
from cubequeue_server.server import Server, ServerOptions
from cubequeue_server.settings.store_address import parse_address
from storage.limits import AnswerLimits, CacheLimits, QueueLimits
from tests.server.client import Address
from tests.server.harness import until


@dataclass
class Running:
    """A server and its part of the store."""

    server: Server
    store: SharedStore

    @property
    def address(self) -> Address:
        return self.server.address


@asynccontextmanager
async def running_server(
    url: str,
    *,
    queue: QueueLimits | None = None,
    cache: CacheLimits | None = None,
    answers: AnswerLimits | None = None,
    **options: Any,
) -> AsyncIterator[Running]:
    """One server; `options` are those of its store."""
    outbox = Outbox(get_running_loop())
    store = SharedStore(
        StoreOptions(parse_address(url), **options),
        queue or QueueLimits(),
        cache or CacheLimits(),
        answers or AnswerLimits(),
        new_later=Ask,
        random=Random(7).random,
        batch=outbox.batch,
    )
    await store.open()
    server = Server(ServerOptions(), Router(store, SqlEngine(Ask, store)), outbox, time.time_ns)
    await server.start()
    try:
        yield Running(server, store)
    finally:
        await server.stop()
        store.close()


@asynccontextmanager
async def running_servers(url: str, count: int = 2, **options: Any) -> AsyncIterator[list[Running]]:
    """Some servers, all of them linked to all of the store, and subscribed."""
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(running_server(url, **options)) for _ in range(count)]
        await until(lambda: all(is_linked(each.store) for each in servers))
        yield servers


def is_linked(store: SharedStore) -> bool:
    """Whether statements are answered, and messages arrive."""
    return store.failure is None and all(node.is_subscribed for node in store.links.nodes)
