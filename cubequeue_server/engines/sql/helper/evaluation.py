"""SQLite in memory evaluates a plan: one database a SELECT.

The plan consists of allowed parts only; the limits here are the second wall.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from cubequeue_server.engines.sql.frames import MAX_VALUE_BYTES
from cubequeue_server.engines.sql.helper.functions import FUNCTIONS, Value, guarded
from cubequeue_server.engines.sql.helper.queries import Plan
from cubequeue_server.engines.sql.helper.writer import LARGE_VALUE
from storage.errors import UserError
from storage.vocabulary import ColumnType

Cell = bytes | int | float | bool | None

_ROWS_AT_ONCE: Final = 64
_BYTES_AT_ONCE: Final = 256 << 10
# The server copies a text in one step, which must be short. Large values of the store are not sent back.
_MAX_TEXT_BYTES: Final = 8 << 20
_LIMITS: Final = {
    sqlite3.SQLITE_LIMIT_LENGTH: MAX_VALUE_BYTES,  # also of all values of a row together
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 4 << 20,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 0,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}
_ALLOWED: Final = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION})
_TOO_DEEP: Final = ("stack overflow", "too large (maximum depth", "too many levels")


def limit_heap(max_bytes: int) -> None:
    """Limit the memory of all evaluations of this process together."""
    with sqlite3.connect(":memory:") as connection:
        connection.execute(f"PRAGMA hard_heap_limit = {max_bytes}")


class Evaluation:
    """`insert` the rows of the plan's tables, then take the `rows` of the result, then `close`.

    `large_value` gives the text of a reference. Raises UserError, and MemoryError past the limit of the heap.
    """

    def __init__(self, plan: Plan, large_value: Callable[[int], str | None]) -> None:
        self._plan = plan
        self._error: Exception | None = None  # of a function
        self._connection = sqlite3.connect(":memory:", isolation_level=None, cached_statements=8)
        self._connection.text_factory = bytes
        for pragma in ("journal_mode = OFF", "case_sensitive_like = ON"):
            self._connection.execute(f"PRAGMA {pragma}")
        for name, function in {**FUNCTIONS, LARGE_VALUE: large_value}.items():
            self._create_function(name, guarded(name, function, self._note))
        self._create_function("cq_concatenate", lambda *texts: "".join(filter(None, texts)))
        self._inserts = []
        for table, columns in plan.reads.items():
            # At least one column: SQLite has no table without. A column without a type keeps values as they are.
            names = [f'"{column}"' for column in columns] or ["unused"]
            self._connection.execute(f'CREATE TABLE "{table}" ({", ".join(names)})')
            self._inserts.append(f'INSERT INTO "{table}" VALUES ({", ".join("?" * len(names))})')  # noqa: S608  # ours
        self._connection.execute("BEGIN")

    def insert(self, table: int, rows: Sequence[Sequence[Cell]]) -> None:
        """Insert rows of a table, which is named by its place in the plan's `reads`."""
        bound = [[v.decode(errors="replace") if isinstance(v, bytes) else v for v in row] or [None] for row in rows]
        self._connection.executemany(self._inserts[table], bound)

    def rows(self, now_ms: int) -> Iterator[list[list[Cell]]]:
        """The rows of the result, in parts."""
        for limit, value in _LIMITS.items():
            self._connection.setlimit(limit, value)
        self._connection.set_authorizer(_authorize)
        converters = [
            _integer if at in self._plan.references else _CONVERTERS.get(type_, _integer)
            for at, (_, type_) in enumerate(self._plan.columns)
        ]
        part: list[list[Cell]] = []
        size = 0
        try:
            for row in self._connection.execute(self._plan.sql, {"now": now_ms, **self._plan.values}):
                part.append(
                    [None if value is None else convert(value) for convert, value in zip(converters, row, strict=True)]
                )
                size += sum(len(value) for value in row if isinstance(value, bytes))
                if len(part) >= _ROWS_AT_ONCE or size > _BYTES_AT_ONCE:
                    yield part
                    part, size = [], 0
            if part:
                yield part
        except (sqlite3.Error, OverflowError) as error:
            raise self._explained(error) from error

    def close(self) -> None:
        """Free the memory."""
        self._connection.close()

    def _create_function(self, name: str, function: Callable[..., Value]) -> None:
        self._connection.create_function(name, -1, function, deterministic=True)

    def _note(self, error: Exception) -> None:
        self._error = error

    def _explained(self, error: Exception) -> Exception:
        if self._error is not None:
            return self._error
        if any(sign in str(error) for sign in _TOO_DEEP):
            return UserError("SELECT is nested too deeply")
        return UserError(f"SELECT could not be evaluated: {error}")


def _authorize(action: int, *_details: str | None) -> int:
    return sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY


def _text(value: bytes | float) -> bytes:
    if not isinstance(value, bytes):
        return str(value).encode()
    if len(value) > _MAX_TEXT_BYTES:
        raise UserError(f"a text of more than {_MAX_TEXT_BYTES} bytes that is made by a SELECT is not supported")
    return value


def _integer(value: bytes | float) -> int:
    if not isinstance(value, int):
        raise UserError("integer overflow")
    return value


_CONVERTERS: Final[dict[ColumnType, Callable[[bytes | float], Cell]]] = {
    ColumnType.STRING: _text,
    ColumnType.BOOLEAN: bool,
    ColumnType.FLOAT: float,
}
