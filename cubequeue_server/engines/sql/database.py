"""SQLite in memory as the evaluator of checked SELECTs: no table can be changed, no file reached, every size and the
time bounded.

The statement that runs was written by our compiler from an allow-list; the limits here are the second wall.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from cubequeue_server.engines.sql.scalars import MAX_VALUE_BYTES, SCALARS, Value
from cubequeue_server.engines.sql.tables import TABLES, stored_name
from storage.errors import UserError
from storage.vocabulary import Cell, ColumnType

TIME_LIMIT_S: Final = 0.1
MAX_ROWS: Final = 10_000
MAX_HEAP_BYTES: Final = 128 << 20
_OPCODES_BETWEEN_LOOKS: Final = 2_000

_LIMITS: Final = {
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 1 << 20,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 500,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 0,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}
_ALLOWED_ACTIONS: Final = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION})


class Database:
    """An evaluator, not for two threads at once.

    `max_heap_bytes` is for all evaluators together, because SQLite counts by process; the lowest that was ever said
    counts. `opcodes_between_looks`: how much work between looks at the clock.
    """

    _max_value_bytes: int = MAX_VALUE_BYTES  # also of all values of a row together

    def __init__(
        self,
        max_heap_bytes: int = MAX_HEAP_BYTES,
        time_limit_s: float = TIME_LIMIT_S,
        opcodes_between_looks: int = _OPCODES_BETWEEN_LOOKS,
    ) -> None:
        self._time_limit_s = time_limit_s
        self._opcodes_between_looks = opcodes_between_looks
        self._deadline = 0.0
        self._refusal: UserError | None = None
        self._connection = sqlite3.connect(
            ":memory:", isolation_level=None, check_same_thread=False, cached_statements=64
        )
        self._connection.execute(f"PRAGMA hard_heap_limit = {max_heap_bytes}")
        for table, columns in TABLES.items():
            self.create_table(table, tuple(columns))
        for name, function in SCALARS.items():
            self.create_function(name, function)

    def create_table(self, table: str, columns: Sequence[str]) -> None:
        """An empty table; before `close_doors`."""
        # The names are ours; without a type a column keeps values as they are.
        self._connection.execute(f"CREATE TABLE {stored_name(table)} ({', '.join(columns)})")

    def create_function(self, name: str, function: Callable[..., Value]) -> None:
        """A function for the statements; one that raises UserError refuses the statement with its text."""
        self._connection.create_function(name, -1, self._guarded(function), deterministic=True)

    def close_doors(self) -> None:
        """From now on nothing but what a SELECT does is possible, and that within limits."""
        for limit, value in _LIMITS.items():
            self._connection.setlimit(limit, value)
        self._connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, self._max_value_bytes)
        self._connection.set_authorizer(self._authorize)
        self._connection.set_progress_handler(self._is_late, self._opcodes_between_looks)

    def start_clock(self) -> None:
        """The time limit counts from now."""
        self._deadline = time.monotonic() + self._time_limit_s
        self._refusal = None

    def execute(self, sql: str, values: Mapping[str, Value]) -> sqlite3.Cursor:
        """Begin a statement. Raises UserError, also past the time limit."""
        try:
            return self._connection.execute(sql, values)
        except (sqlite3.Error, OverflowError, MemoryError) as error:
            raise self._explained(error) from error

    def fetch(self, cursor: sqlite3.Cursor, max_rows: int) -> list[tuple[Value, ...]]:
        """The next rows of a statement. Raises UserError as `execute` does."""
        try:
            return cursor.fetchmany(max_rows)
        except (sqlite3.Error, OverflowError, MemoryError) as error:
            raise self._explained(error) from error

    def select(self, sql: str, values: Mapping[str, Value], types: Sequence[ColumnType]) -> list[tuple[Cell, ...]]:
        """The rows of a SELECT, its cells as `types` say. Raises UserError, also past the time or row limit."""
        self.start_clock()
        rows = self.fetch(self.execute(sql, values), MAX_ROWS + 1)
        if len(rows) > MAX_ROWS:
            raise UserError(f"SELECT of more than {MAX_ROWS} rows is not supported")
        return [tuple(map(cell, row, types)) for row in rows]

    def close(self) -> None:
        """Give the memory back. O(rows)."""
        self._connection.close()

    def _authorize(self, action: int, *_details: str | None) -> int:
        return sqlite3.SQLITE_OK if action in _ALLOWED_ACTIONS else sqlite3.SQLITE_DENY

    def _guarded(self, function: Callable[..., Value]) -> Callable[..., Value]:
        def call(*arguments: Value) -> Value:
            try:
                return function(*arguments)
            except UserError as error:
                self._refusal = error
                raise

        return call

    def _is_late(self) -> int:
        return time.monotonic() > self._deadline

    def _late(self) -> UserError:
        limit = self._time_limit_s
        return UserError(f"SELECT took longer than {f'{limit:g} s' if limit >= 1 else f'{limit * 1000:g} ms'}")

    def _explained(self, error: Exception) -> UserError:
        if self._refusal is not None:
            return self._refusal
        if "interrupted" in str(error):
            return self._late()
        if isinstance(error, MemoryError):
            return UserError("SELECT needs too much memory")
        if any(sign in str(error) for sign in ("stack overflow", "too large (maximum depth")):
            return UserError("SELECT is nested too deeply")
        return UserError(f"SELECT could not be evaluated: {error}")


def cell(value: Value, column_type: ColumnType) -> Cell:
    """A value of SQLite's as a cell of a column. Raises UserError for a sum past 64 bits."""
    if value is None:
        return None
    if column_type is ColumnType.STRING:
        return str(value).encode(errors="replace")
    if column_type is ColumnType.BOOLEAN:
        return bool(value)
    if column_type is ColumnType.FLOAT:
        return float(value)
    if not isinstance(value, int):
        raise UserError("integer overflow")
    return value
