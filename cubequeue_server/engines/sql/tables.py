"""The tables that a SELECT can read: information_schema's, empty here (clients.md §6), and those of the store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from cubequeue_server import connections
from storage.system_tables import SYSTEM_COLUMNS, SystemTable
from storage.vocabulary import ColumnType

_STRING, _TIMESTAMP = ColumnType.STRING, ColumnType.TIMESTAMP

SYSTEM_TABLES: Final[Mapping[str, SystemTable]] = {table.value: table for table in SystemTable}

# Column types by table, the names in lower case.
TABLES: Final[Mapping[str, Mapping[str, ColumnType]]] = {
    "information_schema.schemata": {"schema_name": _STRING},
    "information_schema.tables": {
        "table_schema": _STRING,
        "table_name": _STRING,
        "build_range_end": _TIMESTAMP,
        "seal_at": _TIMESTAMP,
    },
    "information_schema.columns": dict.fromkeys(("table_schema", "table_name", "column_name", "data_type"), _STRING),
    connections.TABLE: dict(zip(connections.COLUMNS.names, connections.COLUMNS.types, strict=True)),
    **{
        name: dict(zip(SYSTEM_COLUMNS[table].names, SYSTEM_COLUMNS[table].types, strict=True))
        for name, table in SYSTEM_TABLES.items()
    },
}

# Those that are not empty here, but tell of this server.
OWN_TABLES: Final = tuple(name for name in TABLES if name.startswith("system."))

# Columns of the store's tables that hold large values.
LARGE_COLUMNS: Final = frozenset({"value", "extra", "value_tail"})
