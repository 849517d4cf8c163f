"""SQLite in memory as the evaluator of checked SELECTs: no table can be changed, no file reached, every size and the
time bounded.

The statement that runs was written by our compiler from an allow-list; the limits here are the second wall.
"""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from cubequeue_server.sql import times
from cubequeue_server.sql.tables import TABLES, stored_name
from storage.errors import UserError
from storage.vocabulary import Cell, ColumnType

TIME_LIMIT_S: Final = 0.1
MAX_ROWS: Final = 10_000
_MAX_VALUE_BYTES: Final = 1 << 20
_MAX_HEAP_BYTES: Final = 64 << 20
_OPCODES_BETWEEN_LOOKS: Final = 2_000

_LIMITS: Final = {
    sqlite3.SQLITE_LIMIT_LENGTH: _MAX_VALUE_BYTES,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 1 << 20,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 500,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 0,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}
_ALLOWED_ACTIONS: Final = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION})

Value = int | float | str | None


class Database:
    """The evaluator. One for the process: it keeps nothing between statements."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect(
            ":memory:", isolation_level=None, check_same_thread=False, cached_statements=64
        )
        self._deadline = 0.0
        self._refusal: UserError | None = None
        self._connection.execute(f"PRAGMA hard_heap_limit = {_MAX_HEAP_BYTES}")
        self._create_tables()
        for name, function in _FUNCTIONS.items():
            self._connection.create_function(name, -1, self._guarded(function), deterministic=True)
        for limit, value in _LIMITS.items():
            self._connection.setlimit(limit, value)
        self._connection.set_authorizer(_authorize)
        self._connection.set_progress_handler(self._is_late, _OPCODES_BETWEEN_LOOKS)

    def select(self, sql: str, values: Mapping[str, Value], types: Sequence[ColumnType]) -> list[tuple[Cell, ...]]:
        """The rows of a SELECT, its cells as `types` say. Raises UserError, also past the time or row limit."""
        self._deadline = time.monotonic() + TIME_LIMIT_S
        self._refusal = None
        try:
            rows = self._connection.execute(sql, values).fetchmany(MAX_ROWS + 1)
        except (sqlite3.Error, OverflowError, MemoryError) as error:
            raise self._explained(error) from error
        if len(rows) > MAX_ROWS:
            raise UserError(f"SELECT of more than {MAX_ROWS} rows is not supported")
        return [tuple(map(_cell, row, types)) for row in rows]

    def _create_tables(self) -> None:
        for table, columns in TABLES.items():
            self._connection.execute(f"CREATE TABLE {stored_name(table)} ({', '.join(columns)})")

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

    def _explained(self, error: Exception) -> UserError:
        if self._refusal is not None:
            return self._refusal
        if "interrupted" in str(error):
            return UserError(f"SELECT took longer than {int(TIME_LIMIT_S * 1000)} ms")
        if isinstance(error, MemoryError):
            return UserError("SELECT needs too much memory")
        if any(sign in str(error) for sign in ("stack overflow", "too large (maximum depth")):
            return UserError("SELECT is nested too deeply")
        return UserError(f"SELECT could not be evaluated: {error}")


def _authorize(action: int, *_details: str | None) -> int:
    return sqlite3.SQLITE_OK if action in _ALLOWED_ACTIONS else sqlite3.SQLITE_DENY


def _cell(value: Value, column_type: ColumnType) -> Cell:
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


# The functions that SQLite has not, or not as CubeStore has them. NULL in, NULL out.


def _divide(dividend: Value, divisor: Value) -> Value:
    """Integers are divided as integers, towards zero."""
    left, right = _numbers(dividend, divisor)
    if left is None or right is None:
        return None
    if isinstance(left, int) and isinstance(right, int):
        quotient = abs(left) // abs(right)
        return quotient if (left < 0) == (right < 0) else -quotient
    return left / right


def _floor_of_quotient(dividend: Value, divisor: Value) -> Value:
    left, right = _numbers(dividend, divisor)
    return None if left is None or right is None else _whole(left // right)


def _ceiling_of_quotient(dividend: Value, divisor: Value) -> Value:
    left, right = _numbers(dividend, divisor)
    return None if left is None or right is None else _whole(-(-left // right))


def _remainder(dividend: Value, divisor: Value) -> Value:
    """With the sign of the dividend."""
    left, right = _numbers(dividend, divisor)
    if left is None or right is None:
        return None
    if isinstance(left, int) and isinstance(right, int):
        rest = abs(left) % abs(right)
        return -rest if left < 0 else rest
    return math.fmod(left, right)


def _numbers(dividend: Value, divisor: Value) -> tuple[int | float | None, int | float | None]:
    assert not isinstance(dividend, str)
    assert not isinstance(divisor, str)
    if divisor == 0:
        raise UserError("Divide by zero error")
    return dividend, divisor


def _whole(number: float) -> int:
    if not math.isfinite(number):
        raise UserError("the result is not a finite number")
    return math.floor(number)


def _floor(number: Value) -> Value:
    return None if number is None else _whole(float(number))


def _ceiling(number: Value) -> Value:
    return None if number is None else -_whole(-float(number))


def _power(base: float | None, exponent: float | None) -> float | None:
    if base is None or exponent is None:
        return None
    try:
        result = math.pow(base, exponent)
    except (OverflowError, ValueError) as error:
        raise UserError(f"POWER: {error}") from error
    return result


def _square_root(number: float | None) -> float | None:
    if number is None:
        return None
    if number < 0:
        raise UserError("SQRT of a negative number")
    return math.sqrt(number)


def _integer(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return int(text[:25])
    except ValueError as error:
        raise UserError(f"Cannot cast string '{text[:60]}' to value of Int64 type") from error


def _double(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return float(text[:400])
    except ValueError as error:
        raise UserError(f"Cannot cast string '{text[:60]}' to value of Float64 type") from error


def _boolean(text: str | None) -> int | None:
    if text is None:
        return None
    word = text.strip().lower()
    if word not in {"true", "false", "t", "f", "1", "0", "yes", "no"}:
        raise UserError(f"Cannot cast string '{text[:60]}' to value of Boolean type")
    return word in {"true", "t", "1", "yes"}


def _last_characters(text: str | None, count: int | None) -> str | None:
    if text is None or count is None:
        return None
    return text[-count:] if count > 0 else ""


def _concatenate(*parts: Value) -> str:
    """Of texts; a NULL counts as nothing, as CONCAT has it."""
    return "".join(str(part) for part in parts if part is not None)[: _MAX_VALUE_BYTES + 1]


_MAX_PATTERN, _MAX_MATCHED = 1_000, 10_000


def _like(text: str | None, pattern: str | None) -> int | None:
    """LIKE, case-sensitive, in time linear in the text for patterns without `_`; long ones are refused."""
    if text is None or pattern is None:
        return None
    if len(pattern) > _MAX_PATTERN or len(text) > _MAX_MATCHED:
        raise UserError(f"LIKE of more than {_MAX_PATTERN} on {_MAX_MATCHED} characters is not supported")
    if "_" in pattern:
        return _matches_by_character(text, pattern)
    first, *rest = pattern.split("%")
    if not rest:
        return text == pattern
    last = rest.pop()
    if not text.startswith(first) or not text.endswith(last) or len(text) < len(first) + len(last):
        return False
    position, end = len(first), len(text) - len(last)
    for part in rest:
        position = text.find(part, position, end)
        if position < 0:
            return False
        position += len(part)
    return True


def _matches_by_character(text: str, pattern: str) -> bool:
    """Greedy, going back to the last `%` only: O(text · pattern), hence for short ones only."""
    if len(text) * len(pattern) > 1_000_000:
        raise UserError("LIKE with _ on so long a text is not supported")
    at = in_pattern = 0
    after_percent, resume = -1, 0
    while at < len(text):
        if in_pattern < len(pattern) and pattern[in_pattern] == "%":
            in_pattern += 1
            after_percent, resume = in_pattern, at
        elif in_pattern < len(pattern) and pattern[in_pattern] in {"_", text[at]}:
            in_pattern, at = in_pattern + 1, at + 1
        elif after_percent >= 0:
            resume += 1
            in_pattern, at = after_percent, resume
        else:
            return False
    return pattern[in_pattern:].strip("%") == ""


_FUNCTIONS: Final[dict[str, Callable[..., Value]]] = {
    "cq_divide": _divide,
    "cq_floor_of_quotient": _floor_of_quotient,
    "cq_ceiling_of_quotient": _ceiling_of_quotient,
    "cq_remainder": _remainder,
    "cq_floor": _floor,
    "cq_ceiling": _ceiling,
    "cq_power": _power,
    "cq_square_root": _square_root,
    "cq_integer": _integer,
    "cq_double": _double,
    "cq_boolean": _boolean,
    "cq_concatenate": _concatenate,
    "cq_last_characters": _last_characters,
    "cq_like": _like,
    "cq_timestamp": lambda text: None if text is None else times.parse_timestamp(text),
    "cq_offset": lambda text: None if text is None else times.parse_offset(text),
    "cq_add_interval": times.add_interval,
    "cq_truncate": times.truncate,
    "cq_bin_start": times.bin_start,
    "cq_extract": times.extract,
    "cq_show_time": times.show,
}
