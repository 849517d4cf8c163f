"""An SQL engine on a loop of its own, for tests without one."""

from __future__ import annotations

import asyncio
import atexit
import random
from collections.abc import Callable
from functools import cache
from typing import Any

import uvloop

from cubequeue_server.engines.sql.engine import SqlEngine
from cubequeue_server.observe.counters import Counters
from cubequeue_server.requests.ask import Ask
from protocol.commands import parse_statement
from storage.asking import ANYBODY, Caller, Outcome
from storage.engine import Stateless
from storage.errors import StatementError
from storage.limits import AnswerLimits, CacheLimits, QueueLimits
from storage.memory import MemoryStore
from storage.vocabulary import Cell, OtherSql, RequestKey, Result, Statement

NOW_MS = 1_700_000_001_234  # 2023-11-14T22:13:21.234Z
STORED_MS = 1_700_000_000_000  # when what is stored was written

Execute = Callable[..., Result]


class Told:
    """Takes the outcome of one request."""

    def __init__(self) -> None:
        self.outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    def complete(self, _ask: Ask, outcome: Outcome) -> None:
        self.outcome.set_result(outcome)


def begun(engine: SqlEngine, statement: Statement, now_ms: int = NOW_MS) -> tuple[Ask | None, asyncio.Future[Outcome]]:
    """A statement that is being executed, and its outcome."""
    told = Told()
    try:
        answer = engine.execute(statement, ANYBODY, None, now_ms)
    except StatementError as error:
        told.outcome.set_result(error)
        return None, told.outcome
    if isinstance(answer, Result):
        told.outcome.set_result(answer)
        return None, told.outcome
    assert isinstance(answer, Ask)
    answer.owner = told
    return answer, told.outcome


async def outcome_of(engine: SqlEngine, statement: Statement, now_ms: int = NOW_MS) -> Outcome:
    """What a statement ends with, now or later."""
    async with asyncio.timeout(60):
        return await begun(engine, statement, now_ms)[1]


class Running:
    """A store and an SQL engine over it, on a loop of their own."""

    def __init__(self, **settings: Any) -> None:
        self.runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.runner.get_loop()
        self.store: MemoryStore
        self.empty()
        self.counters = Counters()
        self.engine = SqlEngine(Ask, _Forwarded(self), counters=self.counters, **settings)

    def empty(self) -> None:
        """Begin with a new store."""
        self.store = MemoryStore(QueueLimits(), CacheLimits(), AnswerLimits(), 100, random.Random(7).random, Ask)

    def run(self, *texts: str) -> None:
        """Execute statements of the store."""
        for text in texts:
            self.store.execute(parse_statement(text.encode(), ()), ANYBODY, None, STORED_MS)

    async def outcome(self, text: str, *parameters: Cell) -> Outcome:
        return await outcome_of(self.engine, OtherSql(text.encode(), parameters))

    def execute(self, text: str | bytes, *parameters: Cell, now_ms: int = NOW_MS) -> Result:
        encoded = text.encode() if isinstance(text, str) else text
        outcome = self.runner.run(outcome_of(self.engine, OtherSql(encoded, parameters), now_ms))
        if isinstance(outcome, StatementError):
            raise outcome
        assert isinstance(outcome, Result)
        return outcome

    def select(self, text: str, *parameters: Cell) -> list[tuple[Cell, ...]]:
        return list(self.execute(text, *parameters).rows)

    def close(self) -> None:
        self.runner.run(self._end())
        self.runner.close()

    async def _end(self) -> None:
        self.engine.end_waits(NOW_MS)
        await asyncio.sleep(0)


class _Forwarded:
    """The store that is the present one: one process evaluates for all tests."""

    def __init__(self, running: Running) -> None:
        self._running = running

    def __getattr__(self, name: str) -> Any:
        return getattr(self._running.store, name)


class AtOnce(Stateless):
    """An engine that waits for its answers, for tests of what takes statements one after the other."""

    def __init__(self) -> None:
        self._running = Running()
        atexit.register(self._running.close)

    def execute(self, statement: Statement, caller: Caller, request_key: RequestKey | None, now_ms: int) -> Result:
        outcome = self._running.runner.run(outcome_of(self._running.engine, statement, now_ms))
        if isinstance(outcome, Result):
            return outcome
        assert isinstance(outcome, StatementError)
        raise outcome


@cache
def at_once() -> AtOnce:
    """The one of this process."""
    return AtOnce()
