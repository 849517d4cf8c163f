"""What can go wrong with a journal."""

from __future__ import annotations


class JournalError(Exception):
    """The journal cannot be opened, read or written; the text is one line that says why."""


class BusyError(JournalError):
    """The engine cannot take a write right now, but will soon: nothing of it was written."""
