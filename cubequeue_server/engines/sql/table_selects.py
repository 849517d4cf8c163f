"""SELECTs over the store's tables, one after the other, beside the statements of clients and never in their way.

    rows of the tables     read and given to SQLite on the loop, in slices of a millisecond: nothing else may see them
    the evaluation         in a thread, one call of SQLite's, which gives the interpreter up meanwhile
    rows of the result     taken over on the loop, in slices again

A thread that worked on rows would ask for the interpreter at each of them, and beside a busy loop wait for it five
milliseconds each time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from cubequeue_server.engines.sql.plan import Plan
from cubequeue_server.engines.sql.table_database import TableDatabase
from cubequeue_server.requests.ask import settle
from storage.asking import Later, NewLater, Outcome
from storage.engine import Inspectable
from storage.errors import InternalError, StatementError, UserError
from storage.system_tables import SystemTable
from storage.vocabulary import Cell, Result

_log = logging.getLogger(__name__)

_SLICE_S: Final = 0.001
_PAUSE_S: Final = 0.001
_ROWS_AT_ONCE: Final = 64  # between two looks at the clock
_MAX_WAITING: Final = 100
# Of texts. What is larger would hold all others up when it is put together for the wire.
MAX_RESULT_BYTES: Final = 32 << 20
_ASK_FOR_LESS: Final = "ask for fewer columns, or rows with LIMIT"
_STOPPED: Final = "SELECT was ended: the server stops"


class TableSelects:
    """Answers SELECTs that read tables. `time_limit_s` is for each, from the start of its own reading."""

    def __init__(self, new_later: NewLater, tables: Inspectable, time_limit_s: float, max_heap_bytes: int) -> None:
        self._new_later = new_later
        self._tables = tables
        self._time_limit_s = time_limit_s
        self._max_heap_bytes = max_heap_bytes
        self._turn = asyncio.Lock()
        self._thread: ThreadPoolExecutor | None = None
        self._database: TableDatabase | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_stopped = False

    def begin(self, plan: Plan, now_ms: int) -> Later:
        """Answer later, on the running loop. Raises UserError when too many wait already."""
        if self._is_stopped:
            raise UserError(_STOPPED)
        if len(self._tasks) >= _MAX_WAITING:
            raise UserError(f"{_MAX_WAITING} SELECTs wait to be evaluated already")
        later = self._new_later(None)
        task = asyncio.get_running_loop().create_task(self._answer(later, plan, now_ms))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return later

    def stop(self) -> None:
        """Answer all with an error, soon, and let the thread go."""
        self._is_stopped = True
        for task in self._tasks:
            task.cancel()
        if self._database is not None:
            self._database.cancel()
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def _answer(self, later: Later, plan: Plan, now_ms: int) -> None:
        outcome: Outcome
        try:
            async with self._turn:
                outcome = await self._select(plan, now_ms)
        except StatementError as error:
            outcome = error
        except asyncio.CancelledError:
            outcome = UserError(_STOPPED)
        except Exception as error:  # one statement must not take others down
            _log.exception("a SELECT failed unexpectedly")
            outcome = InternalError(f"unexpected {type(error).__name__}, see the log of cubequeue")
        later.done(outcome)

    async def _select(self, plan: Plan, now_ms: int) -> Result:
        loop = asyncio.get_running_loop()
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "select")
        database = self._database = TableDatabase(plan, self._time_limit_s, self._max_heap_bytes)
        try:
            losses = self._tables.losses
            try:
                for table in plan.reads:
                    await self._load(database, table)
                await loop.run_in_executor(self._thread, database.evaluate, now_ms)
                rows = await self._rows(database)
            except StatementError:
                await settle(self._tables, losses)  # the error's text may tell of what was read
                raise
            await settle(self._tables, losses)
            return Result(plan.columns, rows)
        finally:
            self._database = None
            database.cancel()
            # To free a hundred thousand rows takes a while, too. The thread may still be at the evaluation.
            self._in_thread(database.close)

    def _in_thread(self, call: Callable[[], None]) -> None:
        assert self._thread is not None
        with contextlib.suppress(RuntimeError):  # it was shut down: the process ends
            self._thread.submit(call)

    async def _load(self, database: TableDatabase, table: SystemTable) -> None:
        pause = _Pause()
        async for rows in self._tables.read_table(table):
            database.insert(table, rows)
            await pause.when_due()

    async def _rows(self, database: TableDatabase) -> list[tuple[Cell, ...]]:
        rows: list[tuple[Cell, ...]] = []
        size_bytes = 0
        pause = _Pause()
        while some := database.read(_ROWS_AT_ONCE):
            rows += some
            size_bytes += sum(len(value) for row in some for value in row if isinstance(value, bytes))
            if size_bytes > MAX_RESULT_BYTES:
                raise UserError(f"SELECT of more than {MAX_RESULT_BYTES} bytes is not supported, {_ASK_FOR_LESS}")
            await pause.when_due()
        return rows


class _Pause:
    """Lets others have their turn once a slice has taken its time."""

    __slots__ = ("_until_s",)

    def __init__(self) -> None:
        self._until_s = time.monotonic() + _SLICE_S

    async def when_due(self) -> None:
        if time.monotonic() >= self._until_s:
            await asyncio.sleep(_PAUSE_S)
            self._until_s = time.monotonic() + _SLICE_S
