"""SQLite with the rows of the store's tables in it: made for one SELECT and thrown away after it.

Large values stay where they are: in their place SQLite gets a number, a reference. An expression that needs the text
asks for it, and a result column that is one such column is turned back into the value when its row is read.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Final

from cubequeue_server.engines.sql.database import MAX_HEAP_BYTES, Database, cell
from cubequeue_server.engines.sql.plan import LARGE_VALUE, NOW, Plan
from cubequeue_server.engines.sql.scalars import Value
from cubequeue_server.engines.sql.tables import LARGE_COLUMNS, stored_name
from protocol.cells import hex_text
from storage.errors import UserError
from storage.system_tables import SYSTEM_COLUMNS, SystemTable
from storage.vocabulary import Binary, Cell, Row

MAX_ROWS: Final = 200_000

# A look at the clock needs the interpreter, which is the loop's: some five milliseconds of work between two.
_OPCODES_BETWEEN_LOOKS: Final = 500_000
_RESULT: Final = "result"


class TableDatabase(Database):
    """One SELECT: `insert` its tables, `evaluate` it, `read` what it gave, `close`.

    All but `evaluate` and `close` are for the loop, in slices; those two may take long and may be called in a thread.
    """

    _max_value_bytes = 16 << 20

    def __init__(self, plan: Plan, time_limit_s: float, max_heap_bytes: int = MAX_HEAP_BYTES) -> None:
        super().__init__(max_heap_bytes, time_limit_s, _OPCODES_BETWEEN_LOOKS)
        self._plan = plan
        self._large: list[bytes] = []
        self._is_cancelled = False
        self._cursor: sqlite3.Cursor | None = None
        self._rows_left = MAX_ROWS
        self.create_function(LARGE_VALUE, self._large_text)
        self._connection.execute("PRAGMA journal_mode = OFF")
        self._inserts: dict[SystemTable, str] = {}
        for table, used in plan.reads.items():
            # One column at least: a row has to be something.
            names = [SYSTEM_COLUMNS[table].names[at] for at in used] or ["unused"]
            self.create_table(table.value, names)
            marks = ", ".join("?" * len(names))
            self._inserts[table] = f"INSERT INTO {stored_name(table.value)} VALUES ({marks})"  # noqa: S608  # our names
        self.create_table(_RESULT, [f"c{at}" for at in range(len(plan.columns))])
        self._connection.execute("BEGIN")
        self.start_clock()

    def insert(self, table: SystemTable, rows: Iterable[Row]) -> None:
        """Put rows of a table. O(rows), about two microseconds each. Raises UserError."""
        used = self._plan.reads[table]
        names = SYSTEM_COLUMNS[table].names
        large = [names[at] in LARGE_COLUMNS for at in used]
        bound = [[self._bound(row[at], is_large) for at, is_large in zip(used, large, strict=True)] for row in rows]
        if not used:
            bound = [[None]] * len(bound)
        try:
            self._connection.executemany(self._inserts[table], bound)
        except (sqlite3.Error, MemoryError) as error:
            raise self._explained(error) from error
        if self._is_late():
            raise self._late()

    def evaluate(self, now: int) -> None:
        """Carry the SELECT out. Needs the interpreter for little: it may run beside a busy loop. Raises UserError."""
        self.close_doors()
        self.execute(f"INSERT INTO {stored_name(_RESULT)} {self._plan.sql}", {NOW: now, **self._plan.values})

    def read(self, max_rows: int) -> list[tuple[Cell, ...]]:
        """The next rows of the result; none at its end. O(max_rows). Raises UserError past the row limit."""
        if self._cursor is None:
            self._cursor = self.execute(f"SELECT * FROM {stored_name(_RESULT)}", {})  # noqa: S608  # our name
        rows = self.fetch(self._cursor, max_rows)
        self._rows_left -= len(rows)
        if self._rows_left < 0:
            raise UserError(f"SELECT of more than {MAX_ROWS} rows is not supported, ask for fewer with LIMIT")
        types = self._plan.columns.types
        if not self._plan.references:
            return [tuple(map(cell, row, types)) for row in rows]
        is_reference = [at in self._plan.references for at in range(len(types))]
        return [
            tuple(
                self._large_value(value) if refers else cell(value, type_)
                for value, type_, refers in zip(row, types, is_reference, strict=True)
            )
            for row in rows
        ]

    def cancel(self) -> None:
        """End an evaluation soon, from any thread."""
        self._is_cancelled = True

    def _authorize(self, action: int, *details: str | None) -> int:
        if action == sqlite3.SQLITE_INSERT and details[0] == _RESULT:
            return sqlite3.SQLITE_OK
        return super()._authorize(action, *details)

    def _is_late(self) -> int:
        return self._is_cancelled or super()._is_late()

    def _bound(self, value: Cell, is_large: bool) -> Value:
        if isinstance(value, bytes):
            if not is_large:
                return value.decode(errors="replace")
            self._large.append(value)
            return len(self._large) - 1
        return value

    def _large_value(self, reference: Value) -> bytes | None:
        return self._large[reference] if isinstance(reference, int) else None

    def _large_text(self, reference: Value) -> str | None:
        value = self._large_value(reference)
        if value is None:
            return None
        return (hex_text(value) if isinstance(value, Binary) else value).decode(errors="replace")
