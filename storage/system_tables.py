"""The rows of `system.queue`, `system.queue_results` and `system.cache` (commands.md §7), read a slice at a time.

A reading begins with the rows that are there at that moment, in the order of their ids or insertion. One that goes
before its turn is left out, one that comes later is not seen, and each is told as it is when its slice is read: so a
reading may stop between any two statements and go on later.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from storage.cache.entry import NEVER, Entry
from storage.queue.items import Item
from storage.queue.results import StoredResult
from storage.vocabulary import Cell, Columns, ColumnType

if TYPE_CHECKING:
    from storage.cache.statements import Cache
    from storage.queue.statements import Queue

Row: TypeAlias = tuple[Cell, ...]

_STRING, _INT = ColumnType.STRING, ColumnType.INT
_BOOLEAN, _TIMESTAMP = ColumnType.BOOLEAN, ColumnType.TIMESTAMP


class SystemTable(enum.Enum):
    """A table that a SELECT can read, by its name there."""

    QUEUE = "system.queue"
    RESULTS = "system.queue_results"
    CACHE = "system.cache"


SYSTEM_COLUMNS: Final[Mapping[SystemTable, Columns]] = {
    SystemTable.QUEUE: Columns(
        ("id", _STRING),
        ("prefix", _STRING),
        ("created", _TIMESTAMP),
        ("status", _STRING),
        ("priority", _INT),
        ("heartbeat", _TIMESTAMP),
        ("orphaned", _TIMESTAMP),
        ("value", _STRING),
        ("extra", _STRING),
        ("process_id", _STRING),
        ("exclusive", _BOOLEAN),
        ("external_id", _STRING),
    ),
    SystemTable.RESULTS: Columns(
        ("id", _INT),
        ("path", _STRING),
        ("expire", _TIMESTAMP),
        ("deleted", _BOOLEAN),
        ("value", _STRING),
        ("external_id", _STRING),
    ),
    SystemTable.CACHE: Columns(("id", _STRING), ("prefix", _STRING), ("expire", _TIMESTAMP), ("value", _STRING)),
}


class TableReading:
    """One reading of a table. Values are given by reference, nothing is copied."""

    __slots__ = ("_found", "_position", "_row_of")

    def __init__(self, found: list[Any], row_of: Callable[[Any], Row | None]) -> None:
        self._found = found
        self._row_of = row_of
        self._position = 0

    @property
    def is_done(self) -> bool:
        """Whether all rows were read."""
        return self._position >= len(self._found)

    def read(self, max_rows: int) -> list[Row]:
        """The rows among the next `max_rows` that are still there. O(max_rows), about a microsecond a row."""
        start = self._position
        self._position = start + max_rows
        rows = map(self._row_of, self._found[start : start + max_rows])
        return [row for row in rows if row is not None]


def read_table(table: SystemTable, queue: Queue, cache: Cache) -> TableReading:
    """Begin a reading. O(rows), about ten nanoseconds each."""
    match table:
        case SystemTable.QUEUE:
            return TableReading(list(queue.items.by_id.values()), lambda item: _item_row(item, queue))
        case SystemTable.RESULTS:
            return TableReading(list(queue.handover.results.by_id.values()), lambda result: _result_row(result, queue))
        case SystemTable.CACHE:
            return TableReading(cache.entries(), lambda entry: _entry_row(entry, cache))


def _item_row(item: Item, queue: Queue) -> Row | None:
    if queue.items.by_id.get(item.id) is not item:  # of the table that is the current one: CLEAR swaps it
        return None
    prefix, colon, key = item.path.rpartition(b":")
    return (
        key,
        prefix if colon else None,
        item.created_ms,
        b"Active" if item.active else b"Pending",
        item.priority,
        item.heartbeat_ms,
        item.orphaned_ms,
        item.payload,
        item.extra,
        item.process_id,
        item.exclusive,
        item.external_id,
    )


def _result_row(result: StoredResult, queue: Queue) -> Row | None:
    if queue.handover.results.by_id.get(result.id) is not result:
        return None
    return result.id, result.path, result.expire_ms, result.taken, result.value, result.external_id


def _entry_row(entry: Entry, cache: Cache) -> Row | None:
    if not cache.holds(entry):
        return None
    prefix, colon, key = entry.path.rpartition(b":")
    expires_ms = None if entry.expires_ms == NEVER else entry.expires_ms
    return key, prefix if colon else None, expires_ms, entry.value
