"""Opens a journal anew whose writes fail, beside the loop: closing alone takes the engine a second then."""

from __future__ import annotations

from collections.abc import Callable

from storage.journal import rows
from storage.journal.engine import Engine
from storage.journal.errors import JournalError


class Reopening:
    """One try at a time. While `is_running`, nobody else may use the engine."""

    def __init__(
        self,
        engine: Engine,
        in_thread: Callable[[Callable[[], None], Callable[[], None]], None],
        on_ended: Callable[[str | None], None],
    ) -> None:
        """`on_ended` is called with the reason why it still cannot be written, or None."""
        self._engine = engine
        self._in_thread = in_thread
        self._on_ended = on_ended
        self._failure: str | None = None
        self.is_running = False

    def begin(self) -> None:
        """Try."""
        self.is_running = True
        self._failure = "it could not be opened anew"
        self._in_thread(self._try, self._end)

    def _try(self) -> None:
        try:
            self._engine.try_disk()
            self._engine.reopen()
            self._engine.put(rows.SCHEMA_KEY, rows.encode(rows.SCHEMA))
        except JournalError as error:
            self._failure = str(error)
        else:
            self._failure = None

    def _end(self) -> None:
        self.is_running = False
        self._on_ended(self._failure)
