"""A server in this process with a stand-in behind it, and the stand-in in a thread for clients in other processes."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

from cubequeue_server.access.credentials import Credentials
from cubequeue_server.engines.sql.engine import SqlEngine
from cubequeue_server.engines.upstream.routing import UpstreamSql
from cubequeue_server.engines.upstream.target import Target
from cubequeue_server.engines.upstream.upstream import Upstream
from cubequeue_server.net.outbox import Outbox
from cubequeue_server.requests.ask import Ask
from cubequeue_server.router import Router
from cubequeue_server.server import Server, ServerOptions
from cubequeue_server.settings.values import UpstreamAddress
from tests.server.harness import WatchedStore
from tests.upstream.stand_in import StandIn

T = TypeVar("T")
TIMEOUT_S = 60


def target_for(stand_in: StandIn, **options: Any) -> Target:
    """Where a stand-in listens. Waits are short, so that tests are."""
    defaults = {"timeout_s": 5.0, "settle_s": 0.05, "backoff_s": 0.02, "max_backoff_s": 0.1, "connect_timeout_s": 2.0}
    return Target(UpstreamAddress(False, "127.0.0.1", stand_in.port), **{**defaults, **options})


@asynccontextmanager
async def standing_in(version: str | None = "1.6.60") -> AsyncIterator[StandIn]:
    """A stand-in on this loop."""
    stand_in = StandIn(version)
    await stand_in.start()
    try:
        yield stand_in
    finally:
        await stand_in.stop()


@asynccontextmanager
async def passing(
    stand_in: StandIn,
    *,
    store: WatchedStore | None = None,
    credentials: Credentials | None = None,
    server_options: dict[str, Any] | None = None,
    **options: Any,
) -> AsyncIterator[tuple[Server, Upstream]]:
    """A server on this loop that passes statements to a stand-in."""
    target = options.pop("target", None) or target_for(stand_in, **options)
    upstream = Upstream(target)
    kept = WatchedStore() if store is None else store
    router = Router(kept, UpstreamSql(SqlEngine(Ask, kept), upstream))
    server = Server(
        ServerOptions(**(server_options or {})),
        router,
        Outbox(asyncio.get_running_loop()),
        time.time_ns,
        credentials=credentials,
        upstream=upstream,
    )
    await server.start()
    try:
        yield server, upstream
    finally:
        await server.stop()
        upstream.stop()


class InThread:
    """A stand-in with a loop of its own, for servers and clients in other processes."""

    def __init__(self, stand_in: StandIn) -> None:
        self.stand_in = stand_in
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run something on its loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(TIMEOUT_S)

    def call(self, function: Callable[[], T]) -> T:
        async def called() -> T:
            return function()

        return self.run(called())

    def __enter__(self) -> StandIn:
        self._thread.start()
        self.run(self.stand_in.start())
        return self.stand_in

    def __exit__(self, *_: object) -> None:
        self.run(self.stand_in.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(TIMEOUT_S)
        self._loop.close()


@contextmanager
def standing_in_thread(version: str | None = "1.6.60") -> Iterator[InThread]:
    """A stand-in on a loop of its own."""
    thread = InThread(StandIn(version))
    with thread:
        yield thread
