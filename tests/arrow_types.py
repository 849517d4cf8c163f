"""The types of columns in Arrow."""

from __future__ import annotations

from protocol.cells import binary_columns
from storage.vocabulary import ColumnType, Result


def arrow_types(result: Result) -> tuple[ColumnType, ...]:
    """The types of the columns: one with a binary value is Bytes as a whole (wire.md §5)."""
    types = list(result.columns.types)
    for at in binary_columns(result.rows):
        types[at] = ColumnType.BYTES
    return tuple(types)
