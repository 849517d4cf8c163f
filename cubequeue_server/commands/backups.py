"""`cubequeue backup` and `cubequeue restore`: the journal of the configured data directory as one file."""

from __future__ import annotations

from pathlib import Path

from cubequeue_server.engines.stores import JOURNAL_FOLDER
from cubequeue_server.settings.resolve import Settings
from storage.journal.backup import backup, restore
from storage.journal.errors import JournalError

__all__ = ["JournalError", "back_up", "bring_back"]


def back_up(settings: Settings, file: str) -> str:
    """Write the backup, beside a running server or none; returns what to print. Raises `JournalError`."""
    count = backup(_directory(settings), Path(file))
    return f"{file}: {count} rows, {Path(file).stat().st_size} bytes"


def bring_back(settings: Settings, file: str) -> str:
    """Make the journal anew from a backup; returns what to print. Raises `JournalError`."""
    directory = _directory(settings)
    return f"{directory}: {restore(Path(file), directory)} rows"


def _directory(settings: Settings) -> Path:
    if not settings.data_dir:
        raise JournalError("no data directory is set (CUBESTORE_DATA_DIR or --data-dir)")
    return Path(settings.data_dir) / JOURNAL_FOLDER
