"""The SQL engine: one statement outside QUEUE, CACHE and SYS CACHESTORE to one result.

It is there at once, but for SELECTs that read tables of the store. The engine remembers how texts compile, because
clients send the same few again and again.
"""

from __future__ import annotations

import importlib
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from cubequeue_server.engines.sql.fixed import answer_by_words, answer_foreign, answer_startup
from cubequeue_server.engines.sql.shapes import answer_shape
from storage.asking import Caller, Later, NewLater
from storage.engine import Inspectable
from storage.errors import InternalError, UserError
from storage.stateless import Stateless
from storage.vocabulary import OtherSql, RequestKey, Result, Statement, SysForeign

if TYPE_CHECKING:
    from cubequeue_server.engines.sql.database import Database
    from cubequeue_server.engines.sql.plan import Plan
    from cubequeue_server.engines.sql.table_selects import TableSelects

_MAX_PLANS: Final = 256
_MAX_REMEMBERED_BYTES: Final = 4_096
_LEADING_WORDS: Final = 4


class SqlEngine(Stateless):
    """Answers statements. Not for several threads, but for `prepare`, which may run in one of its own.

    `tables` are those of the store; a SELECT over them may take `time_limit_s`. The evaluation of SELECTs takes no more
    than `max_heap_bytes` at any time.
    """

    def __init__(
        self,
        new_later: NewLater,
        tables: Inspectable | None = None,
        time_limit_s: float = 120.0,
        max_heap_bytes: int = 128 << 20,
    ) -> None:
        self._new_later = new_later
        self._plans: OrderedDict[bytes, Plan] = OrderedDict()
        self._database: Database | None = None
        self._tables = tables
        self._time_limit_s = time_limit_s
        self._max_heap_bytes = max_heap_bytes
        self._table_selects: TableSelects | None = None

    @staticmethod
    def prepare() -> None:
        """Import the parser ahead of the first statement that needs it: about 10 MB and a tenth of a second."""
        source = importlib.import_module("cubequeue_server.engines.sql.source").normalise(b"SELECT 1", ())
        importlib.import_module("cubequeue_server.engines.sql.compiler").compile_select(source)
        importlib.import_module("cubequeue_server.engines.sql.table_selects")

    def execute(
        self, statement: Statement, caller: Caller, request_key: RequestKey | None, now_ms: int
    ) -> Result | Later:
        """The result; `now_ms` is the time that NOW() and UNIX_TIMESTAMP() tell.

        A SELECT that reads the store's tables is answered later, on the running loop. Raises UserError for what
        cannot be done and InternalError for what is no SQL. Bounded in time: 0.1 s of evaluation, and a text of at
        most 2 500 tokens to compile.
        """
        if isinstance(statement, SysForeign):
            return answer_foreign(statement.text)
        if not isinstance(statement, OtherSql):
            raise InternalError(f"{type(statement).__name__} is not SQL")
        text = statement.text
        known = answer_shape(text, now_ms) or answer_startup(text)
        if known is not None:
            return known
        plan = self._plans.get(text)
        if plan is not None and not statement.parameters:
            self._plans.move_to_end(text)
            return self._run(plan, now_ms)
        from cubequeue_server.engines.sql.source import leading_words, opens_with_bracket  # noqa: PLC0415  # see prepare

        words = leading_words(text, _LEADING_WORDS)
        if words[:1] not in (["SELECT"], ["WITH"]) and not opens_with_bracket(text):
            from cubequeue_server.engines.sql.describe import describe  # noqa: PLC0415  # for people at a prompt

            return describe(text) or answer_by_words(words, text)
        return self._run(self._compile(statement), now_ms)

    def _compile(self, statement: OtherSql) -> Plan:
        from cubequeue_server.engines.sql.compiler import compile_select  # noqa: PLC0415  # see prepare
        from cubequeue_server.engines.sql.source import normalise  # noqa: PLC0415

        plan = compile_select(normalise(statement.text, statement.parameters))
        if not statement.parameters and len(statement.text) <= _MAX_REMEMBERED_BYTES:
            self._plans[statement.text] = plan
            if len(self._plans) > _MAX_PLANS:
                self._plans.popitem(last=False)
        return plan

    def stop(self) -> None:
        """End what is being evaluated."""
        if self._table_selects is not None:
            self._table_selects.stop()

    def _run(self, plan: Plan, now_ms: int) -> Result | Later:
        if plan.reads:
            return self._selects().begin(plan, now_ms)
        if self._database is None:
            from cubequeue_server.engines.sql.database import Database  # noqa: PLC0415  # SQLite is not for every server

            self._database = Database(self._max_heap_bytes)
            self._database.close_doors()
        from cubequeue_server.engines.sql.plan import NOW  # noqa: PLC0415  # where the plan came from

        rows = self._database.select(plan.sql, {NOW: now_ms, **plan.values}, plan.columns.types)
        return Result(plan.columns, rows)

    def _selects(self) -> TableSelects:
        if self._tables is None:
            raise UserError("this server has no tables to read")
        if self._table_selects is None:
            from cubequeue_server.engines.sql.table_selects import TableSelects  # noqa: PLC0415

            self._table_selects = TableSelects(self._new_later, self._tables, self._time_limit_s, self._max_heap_bytes)
        return self._table_selects
