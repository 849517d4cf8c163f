"""The SQL engine: one statement outside QUEUE, CACHE and SYS CACHESTORE to one result.

It answers texts of a fixed form at once, and every other SELECT later, from a process of its own.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Final

from cubequeue_server.connections import Connections
from cubequeue_server.engines.sql.evaluator import Evaluator
from cubequeue_server.engines.sql.fixed import (
    PROCESS_LIST,
    answer_by_words,
    answer_foreign,
    answer_known,
    first_words,
    is_process_list,
)
from cubequeue_server.observe.counters import Counters
from storage.asking import Caller, Later, NewLater, Outcome
from storage.engine import Inspectable, Stateless
from storage.errors import InternalError, StatementError, UserError
from storage.vocabulary import OtherSql, RequestKey, Result, Statement, SysForeign

_log = logging.getLogger(__name__)

_SELECTS: Final = frozenset({"SELECT", "WITH", "("})
_MAX_WAITING: Final = 100
_STOPPED: Final = "SELECT was ended: the server stops"


class SqlEngine(Stateless):
    """Answers statements. `tables` are those of the store.

    A SELECT over them may take `time_limit_s`. The evaluation of SELECTs takes `max_bytes` of memory at most, in its
    own process.
    """

    def __init__(
        self,
        new_later: NewLater,
        tables: Inspectable,
        time_limit_s: float = 120.0,
        max_bytes: int = 128 << 20,
        *,
        counters: Counters | None = None,
        connections: Connections | None = None,
    ) -> None:
        self._new_later = new_later
        self._counters = Counters() if counters is None else counters
        connections = Connections() if connections is None else connections
        self._evaluator = Evaluator(tables, time_limit_s, max_bytes, self._counters, connections)
        self._waiting: dict[Later, asyncio.Task[Outcome]] = {}
        self._is_stopped = False

    def execute(
        self, statement: Statement, caller: Caller, request_key: RequestKey | None, now_ms: int
    ) -> Result | Later:
        """The result, later for a SELECT of no fixed form. NOW() and UNIX_TIMESTAMP() give `now_ms`.

        Raises UserError for unsupported statements and InternalError for a text that is not SQL.
        """
        if isinstance(statement, SysForeign):
            return answer_foreign(statement.text)
        if not isinstance(statement, OtherSql):
            raise InternalError(f"{type(statement).__name__} is not SQL")
        known = answer_known(statement.text, now_ms)
        if known is not None:
            return known
        if is_process_list(statement.text):
            return self._begin(PROCESS_LIST, now_ms)
        words = first_words(statement.text)
        if words and words[0] in _SELECTS:
            return self._begin(statement, now_ms)
        return answer_by_words(words, statement.text)

    def give_up(self, later: Later, now_ms: int) -> None:
        """End a SELECT, even during its evaluation."""
        task = self._waiting.get(later)
        if task is not None:
            task.cancel()

    def tick(self, now_ms: int, max_rows: int) -> bool:
        """End the SELECTs of clients that have gone."""
        for later in [later for later in self._waiting if not later.is_wanted]:
            self.give_up(later, now_ms)
        return False

    def end_waits(self, now_ms: int) -> None:
        """End all SELECTs and the process that evaluates them; later SELECTs are refused."""
        self._is_stopped = True
        self._evaluator.stop()
        for task in self._waiting.values():
            task.cancel()

    def _begin(self, statement: OtherSql, now_ms: int) -> Later:
        if self._is_stopped:
            raise UserError(_STOPPED)
        if len(self._waiting) >= _MAX_WAITING:
            raise UserError(f"{_MAX_WAITING} SELECTs wait to be evaluated already")
        later = self._new_later(None)
        task = asyncio.get_running_loop().create_task(self._evaluator.select(statement, now_ms))
        self._waiting[later] = task
        task.add_done_callback(partial(self._finish, later))
        return later

    def _finish(self, later: Later, task: asyncio.Task[Outcome]) -> None:
        del self._waiting[later]
        outcome: Outcome
        if task.cancelled():
            outcome = UserError(_STOPPED if self._is_stopped else "SELECT was ended: nobody waits for it")
        elif (error := task.exception()) is None:
            outcome = task.result()
        elif isinstance(error, StatementError):
            outcome = error.with_traceback(None)
        else:  # one statement must not take others down
            self._counters.internal_errors += 1
            _log.error("a SELECT failed unexpectedly", exc_info=error)
            outcome = InternalError(f"unexpected {type(error).__name__}, see the log of cubequeue")
        later.done(outcome)
