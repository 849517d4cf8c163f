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
from cubequeue_server.connections import Connections
from cubequeue_server.net.outbox import Outbox
from cubequeue_server.requests.ask import Ask
from cubequeue_server.router import Router
from cubequeue_server.server import Server, ServerOptions
from storage.asking import Caller, Later
from storage.engine import Engine, Stateless, Store
from storage.journal import rows
from storage.journal.host import Host
from storage.journal.store import Durability, JournaledStore
from storage.limits import AnswerLimits, CacheLimits, QueueLimits
from storage.memory import MemoryStore
from storage.vocabulary import Columns, ColumnType, RequestKey, Result, Statement
from tests.storage.journal.restarting import RowsEngine

FIRST_ID = 1000


def answer_one(_statement: Statement, _now_ms: int) -> Result:
    """What an SQL engine answers that always knows."""
    return Result(Columns(("one", ColumnType.INT)), ((1,),))


class Answering(Stateless):
    """An SQL engine that answers with what a function of the statement and the time gives, or refuses as that does."""

    def __init__(self, answer: Callable[[Statement, int], Result | Later] = answer_one) -> None:
        self._answer = answer

    def execute(
        self, statement: Statement, caller: Caller, request_key: RequestKey | None, now_ms: int
    ) -> Result | Later:
        return self._answer(statement, now_ms)


class Watched:
    """A record of what the shell told a store."""

    def __init__(self) -> None:
        self.executed: list[Statement] = []
        self.callers: list[Caller] = []
        self.keys: list[RequestKey | None] = []
        self.confirmed: list[RequestKey] = []
        self.undelivered: list[RequestKey] = []
        self.ticks = 0

    def note(self, statement: Statement, caller: Caller, request_key: RequestKey | None) -> None:
        self.executed.append(statement)
        self.callers.append(caller)
        self.keys.append(request_key)


class WatchedStore(MemoryStore, Watched):
    """The in-memory store, watched."""

    def __init__(self) -> None:
        Watched.__init__(self)
        draw = random.Random(7).random
        MemoryStore.__init__(self, QueueLimits(), CacheLimits(), AnswerLimits(), FIRST_ID, draw, Ask)

    def execute(
        self, statement: Statement, caller: Caller, request_key: RequestKey | None, now_ms: int
    ) -> Result | Later:
        self.note(statement, caller, request_key)
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


class SlowDurableStore(JournaledStore, Watched):
    """A strict store on rows in memory whose effects are durable, or lost, only when the test says so.

    Made in a running loop.
    """

    def __init__(self, queue: QueueLimits | None = None) -> None:
        Watched.__init__(self)
        loop = asyncio.get_running_loop()

        def in_thread(work: Callable[[], None], then: Callable[[], None]) -> None:
            loop.call_soon(work)
            loop.call_soon(then)

        self.rows = RowsEngine({rows.NEXT_ID_KEY: rows.encode(FIRST_ID), rows.SCHEMA_KEY: rows.encode(rows.SCHEMA)})
        self.outbox = Outbox(loop)
        self._due: list[Callable[[], None]] = []  # writes

        def fail(reason: str) -> None:
            raise AssertionError(reason)

        host = Host(
            self._due.append,
            lambda delay_ms, callback: loop.call_later(delay_ms / 1000, callback),
            in_thread,
            self.outbox.batch,
            lambda: 0,
            random.Random(7).random,
            fail,
            Ask,
        )
        limits = (queue or QueueLimits(), CacheLimits(), AnswerLimits())
        JournaledStore.__init__(
            self,
            self.rows,  # type: ignore[arg-type]  # its methods are the database's
            *limits,
            host,
            lambda _seq: None,
            Durability.STRICT,
            Durability.STRICT,
        )

    @property
    def applied_seq(self) -> int:
        return self._recorder.seq

    def sync(self, seq: int | None = None) -> None:
        """All is written, and everything up to `seq`, or all, is durable now."""
        self._write()
        self.synced(self.applied_seq if seq is None else seq)

    def lose(self) -> None:
        """What was not written yet cannot be: it is lost."""
        self.rows.is_broken = True
        self._write()
        self.rows.is_broken = False

    def _write(self) -> None:
        while self._due:
            self._due.pop(0)()

    def execute(
        self, statement: Statement, caller: Caller, request_key: RequestKey | None, now_ms: int
    ) -> Result | Later:
        self.note(statement, caller, request_key)
        return super().execute(statement, caller, request_key, now_ms)

    def mark_undelivered(self, request_key: RequestKey) -> None:
        self.undelivered.append(request_key)
        super().mark_undelivered(request_key)


@asynccontextmanager
async def serving(
    store: Store | None = None,
    sql: Engine | None = None,
    *,
    credentials: Credentials | None = None,
    tls: ssl.SSLContext | None = None,
    connections: Connections | None = None,
    **options: Any,
) -> AsyncIterator[Server]:
    """A started server; stopped in the end, whatever happens."""
    router = Router(WatchedStore() if store is None else store, Answering() if sql is None else sql)
    outbox = store.outbox if isinstance(store, SlowDurableStore) else Outbox(asyncio.get_running_loop())
    server = Server(
        ServerOptions(**options),
        router,
        outbox,
        time.time_ns,
        credentials=credentials,
        tls=tls,
        connections=connections,
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
