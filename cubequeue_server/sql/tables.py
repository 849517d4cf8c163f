"""The tables that a SELECT can read: information_schema's, which are empty here (clients.md §6)."""

from __future__ import annotations

from collections.abc import Mapping

from storage.vocabulary import ColumnType

_STRING, _TIMESTAMP = ColumnType.STRING, ColumnType.TIMESTAMP

# Column types by table, the names in lower case.
TABLES: Mapping[str, Mapping[str, ColumnType]] = {
    "information_schema.schemata": {"schema_name": _STRING},
    "information_schema.tables": {
        "table_schema": _STRING,
        "table_name": _STRING,
        "build_range_end": _TIMESTAMP,
        "seal_at": _TIMESTAMP,
    },
    "information_schema.columns": {
        "table_schema": _STRING,
        "table_name": _STRING,
        "column_name": _STRING,
        "data_type": _STRING,
    },
}

# Tables of CubeStore's that a later version will show (commands.md §7).
NOT_YET = frozenset({"system.cache", "system.queue", "system.queue_results"})


def stored_name(table: str) -> str:
    """The quoted name of a table inside SQLite, which has no schemas of our choosing."""
    return f'"{table}"'
