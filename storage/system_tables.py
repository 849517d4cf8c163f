"""The tables that a SELECT and the page can read: their names and columns (commands.md §7)."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from storage.vocabulary import Columns, ColumnType

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
        ("claimed_by", _STRING),
        ("claimed_peer", _STRING),
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
