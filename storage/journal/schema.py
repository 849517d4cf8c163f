"""The version of the journal's rows, and how older ones become newer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from storage.journal import rows
from storage.journal.errors import JournalError

if TYPE_CHECKING:
    from storage.journal.engine import Engine

# From a version to the next. Each may be repeated after a stop half-way; the new version is written last.
MIGRATIONS: Mapping[int, Callable[[Engine], None]] = {}


def stored_schema(engine: Engine) -> int | None:
    """The version of an opened journal; None when it is new. Raises `JournalError` when it is no journal."""
    value = engine.get(rows.SCHEMA_KEY)
    if value is None:
        if next(engine.rows(b""), None) is not None:
            raise JournalError(f"the database in {engine.directory} is not cubequeue's journal")
        return None
    try:
        return rows.decode_number(value)
    except msgspec.DecodeError as error:
        raise JournalError(f"the schema version of the journal in {engine.directory} cannot be read") from error


def bring_up_to_date(engine: Engine, migrations: Mapping[int, Callable[[Engine], None]] = MIGRATIONS) -> None:
    """Have the journal in the schema of this version. Raises `JournalError` when a newer version wrote it."""
    schema = stored_schema(engine)
    if schema is None:
        engine.put(rows.SCHEMA_KEY, rows.encode(rows.SCHEMA))
        return
    if schema > rows.SCHEMA:
        raise JournalError(
            f"the journal in {engine.directory} has schema {schema}, which a newer cubequeue wrote: this one knows"
            f" {rows.SCHEMA} at most"
        )
    while schema < rows.SCHEMA:
        migrations[schema](engine)
        schema += 1
        engine.put(rows.SCHEMA_KEY, rows.encode(schema))
