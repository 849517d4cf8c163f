"""The version of the journal's rows, and how older ones become newer."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from storage.journal import rows
from storage.journal.database import Database
from storage.journal.errors import JournalError

# From a version to the next. Each may be repeated after a stop half-way; the new version is written last.
MIGRATIONS: Mapping[int, Callable[[Database], None]] = {}


def stored_schema(database: Database) -> int | None:
    """The version of an opened journal; None when it is new.

    Raises `JournalError` when it is no journal, or a newer version wrote it.
    """
    value = database.get(rows.SCHEMA_KEY)
    if value is None:
        if next(database.rows(b""), None) is not None:
            raise JournalError(f"the database in {database.directory} is not cubequeue's journal")
        return None
    try:
        schema = rows.decode_number(value)
    except msgspec.DecodeError as error:
        raise JournalError(f"the schema version of the journal in {database.directory} cannot be read") from error
    if schema > rows.SCHEMA:
        raise JournalError(
            f"the journal in {database.directory} has schema {schema}, which a newer cubequeue wrote: this one knows"
            f" {rows.SCHEMA} at most"
        )
    return schema


def bring_up_to_date(database: Database, migrations: Mapping[int, Callable[[Database], None]] = MIGRATIONS) -> None:
    """Have the journal in the schema of this version; what is in it already stays as it is. As `stored_schema`."""
    schema = stored_schema(database)
    if schema == rows.SCHEMA:
        return
    database.open_for_writing()
    if schema is None:
        database.put(rows.SCHEMA_KEY, rows.encode(rows.SCHEMA))
        return
    while schema < rows.SCHEMA:
        migrations[schema](database)
        schema += 1
        database.put(rows.SCHEMA_KEY, rows.encode(schema))
