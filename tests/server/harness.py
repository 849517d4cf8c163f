"""A real server on loopback, and stores that misbehave on purpose."""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from cubequeue_server.access.credentials import Credentials
from cubequeue_server.server import Server, ServerOptions, SqlEngine
from storage.engine import Caller, Pending, Reply, RequestKey
from storage.limits import AnswerLimits, CacheLimits, QueueLimits
from storage.memory import MemoryStore
from storage.vocabulary import Columns, ColumnType, OtherSql, Result, Statement, SysForeign

FIRST_ID = 1000


def answer_one(_statement: OtherSql | SysForeign, _now_ms: int) -> Result:
    """An SQL engine that always knows."""
    return Result(Columns(("one", ColumnType.INT)), ((1,),))


class WatchedStore(MemoryStore):
    """The in-memory store, with a record of what the shell told it."""

    def __init__(self) -> None:
        super().__init__(QueueLimits(), CacheLimits(), AnswerLimits(), FIRST_ID, random.Random(7).random)
        self.executed: list[Statement] = []
        self.callers: list[Caller] = []
        self.keys: list[RequestKey | None] = []
        self.confirmed: list[RequestKey] = []
        self.undelivered: list[RequestKey] = []
        self.ticks = 0

    def execute(
        self, statement: Statement, caller: Caller, request_key: RequestKey | None, now_ms: int
    ) -> Reply | Pending:
        self.executed.append(statement)
        self.callers.append(caller)
        self.keys.append(request_key)
        return super().execute(statement, caller, request_key, now_ms)

    def confirm_delivered(self, request_keys: list[RequestKey]) -> None:
        self.confirmed.extend(request_keys)
        super().confirm_delivered(request_keys)

    def mark_undelivered(self, request_key: RequestKey) -> None:
        self.undelivered.append(request_key)
        super().mark_undelivered(request_key)

    def tick(self, now_ms: int, max_rows: int) -> bool:
        self.ticks += 1
        return super().tick(now_ms, max_rows)


class SlowDurableStore(WatchedStore):
    """A store whose effects are durable only when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self._durable_seq = 0
        self._callbacks: list[Callable[[], None]] = []

    @property
    def durable_seq(self) -> int:
        return self._durable_seq

    def on_durable(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def sync(self, seq: int | None = None) -> None:
        """Everything up to `seq`, or all, is durable now."""
        self._durable_seq = self.applied_seq if seq is None else seq
        for callback in self._callbacks:
            callback()


@asynccontextmanager
async def serving(
    store: WatchedStore | None = None,
    sql: SqlEngine = answer_one,
    *,
    credentials: Credentials | None = None,
    tls: ssl.SSLContext | None = None,
    **options: Any,
) -> AsyncIterator[Server]:
    """A started server; stopped in the end, whatever happens."""
    server = Server(
        ServerOptions(**options),
        store if store is not None else WatchedStore(),
        sql,
        time.time_ns,
        credentials=credentials,
        tls=tls,
    )
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def until(condition: Callable[[], object]) -> None:
    """Wait until something has come true."""
    while not condition():  # noqa: ASYNC110  # what is waited for has no event
        await asyncio.sleep(0.001)
