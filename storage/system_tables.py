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
    HISTORY = "system.history"
    MINUTES = "system.queue_minutes"


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
        ("number", _INT),
        ("claimed", _TIMESTAMP),
        ("added_peer", _STRING),
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
    SystemTable.HISTORY: Columns(
        ("id", _STRING),
        ("prefix", _STRING),
        ("number", _INT),
        ("priority", _INT),
        ("created", _TIMESTAMP),
        ("claimed", _TIMESTAMP),
        ("ended", _TIMESTAMP),
        ("wait_ms", _INT),
        ("run_ms", _INT),
        ("outcome", _STRING),
        ("result_bytes", _INT),
        ("error", _STRING),
        ("request_id", _STRING),
        ("added_by", _STRING),
        ("added_peer", _STRING),
        ("claimed_by", _STRING),
        ("claimed_peer", _STRING),
        ("ended_by", _STRING),
        ("ended_peer", _STRING),
        ("ended_user", _STRING),
        ("external_id", _STRING),
        ("payload_bytes", _INT),
        ("value", _STRING),
        ("value_tail", _STRING),
    ),
    SystemTable.MINUTES: Columns(
        ("prefix", _STRING),
        ("minute", _TIMESTAMP),
        ("added", _INT),
        ("claimed", _INT),
        ("ended", _INT),
        ("failed", _INT),
        ("wait_p50_ms", _INT),
        ("wait_p95_ms", _INT),
        ("run_p50_ms", _INT),
        ("run_p95_ms", _INT),
        ("pending", _INT),
        ("active", _INT),
    ),
}
