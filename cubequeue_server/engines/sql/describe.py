"""DESCRIBE and SHOW COLUMNS of the tables that a SELECT can read, in MySQL's columns: for people at a prompt."""

from __future__ import annotations

import re
from typing import Final

from cubequeue_server.engines.sql.tables import columns_of
from storage.vocabulary import Columns, ColumnType, Result

_MAX_BYTES: Final = 256
_STATEMENT: Final = re.compile(
    rb"\s*(?:DESCRIBE|DESC|EXPLAIN|SHOW\s+(?:FULL\s+)?(?:COLUMNS|FIELDS)\s+(?:FROM|IN))"
    rb"\s+`?(\w+)`?\s*\.\s*`?(\w+)`?\s*;?\s*",
    re.IGNORECASE,
)
_COLUMNS: Final = Columns(
    *((name, ColumnType.STRING) for name in ("Field", "Type", "Null", "Key", "Default", "Extra")),
)
_TYPES: Final = {
    ColumnType.STRING: b"text",
    ColumnType.INT: b"bigint",
    ColumnType.FLOAT: b"double",
    ColumnType.BOOLEAN: b"boolean",
    ColumnType.TIMESTAMP: b"timestamp",
}


def describe(text: bytes) -> Result | None:
    """The columns of a table; None when the text is no such statement, or names no table that is here."""
    match = _STATEMENT.fullmatch(text) if len(text) <= _MAX_BYTES else None
    if match is None:
        return None
    columns = columns_of(b".".join(match.groups()).decode(errors="replace").lower())
    if columns is None:
        return None
    return Result(_COLUMNS, [(name.encode(), _TYPES[type_], b"YES", b"", None, b"") for name, type_ in columns])
