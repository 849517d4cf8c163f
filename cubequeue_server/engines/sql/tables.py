"""The tables that a SELECT can read: information_schema's, empty here (clients.md §6), and those of the store."""

from __future__ import annotations

from collections.abc import Mapping

from storage.system_tables import SYSTEM_COLUMNS, SystemTable
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

SYSTEM_TABLES: Mapping[str, SystemTable] = {table.value: table for table in SystemTable}

# Columns of the store's tables that hold large values.
LARGE_COLUMNS = frozenset({"value", "extra"})


def columns_of(table: str) -> list[tuple[str, ColumnType]] | None:
    """Names and types of a table's columns, None when there is no such table."""
    if table in SYSTEM_TABLES:
        columns = SYSTEM_COLUMNS[SYSTEM_TABLES[table]]
        return list(zip(columns.names, columns.types, strict=True))
    return list(TABLES[table].items()) if table in TABLES else None


def stored_name(table: str) -> str:
    """The quoted name of a table inside SQLite, which has no schemas of our choosing."""
    return f'"{table}"'
