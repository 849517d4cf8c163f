"""The tables that a SELECT can read: information_schema's, empty here (clients.md §6), and those of the store."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from storage.system_tables import SYSTEM_COLUMNS, SystemTable
from storage.vocabulary import Columns, ColumnType, Result

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
    "information_schema.columns": {
        "table_schema": _STRING,
        "table_name": _STRING,
        "column_name": _STRING,
        "data_type": _STRING,
    },
    **{
        name: dict(zip(SYSTEM_COLUMNS[table].names, SYSTEM_COLUMNS[table].types, strict=True))
        for name, table in SYSTEM_TABLES.items()
    },
}

# Columns of the store's tables that hold large values.
LARGE_COLUMNS: Final = frozenset({"value", "extra"})

_MAX_BYTES: Final = 256
_DESCRIBE: Final = re.compile(
    rb"\s*(?:DESCRIBE|DESC|EXPLAIN|SHOW\s+(?:FULL\s+)?(?:COLUMNS|FIELDS)\s+(?:FROM|IN))"
    rb"\s+`?(\w+)`?\s*\.\s*`?(\w+)`?\s*;?\s*",
    re.IGNORECASE,
)
_DESCRIPTION: Final = Columns(*((name, _STRING) for name in ("Field", "Type", "Null", "Key", "Default", "Extra")))
_MYSQL_TYPES: Final = {
    ColumnType.STRING: b"text",
    ColumnType.INT: b"bigint",
    ColumnType.FLOAT: b"double",
    ColumnType.BOOLEAN: b"boolean",
    ColumnType.TIMESTAMP: b"timestamp",
}


def describe(text: bytes) -> Result | None:
    """The answer to DESCRIBE and SHOW COLUMNS of a table, in MySQL's columns; None for other texts and tables."""
    match = _DESCRIBE.fullmatch(text) if len(text) <= _MAX_BYTES else None
    columns = None if match is None else TABLES.get(b".".join(match.groups()).decode(errors="replace").lower())
    if columns is None:
        return None
    rows = [(name.encode(), _MYSQL_TYPES[type_], b"YES", b"", None, b"") for name, type_ in columns.items()]
    return Result(_DESCRIPTION, rows)
