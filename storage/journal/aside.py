"""Work of the journal that takes too long for the loop: a log begun, the files compacted, all opened anew."""

from __future__ import annotations

import threading
from collections.abc import Callable

from storage.journal.errors import JournalError

InThread = Callable[[Callable[[], None], Callable[[], None]], None]


class Aside:
    """One kind of such work, done in a thread, one at a time.

    `is_running` from `begin` until the loop is told by `on_ended`: with the reason why it failed, or None.
    """

    def __init__(self, in_thread: InThread, work: Callable[[], None], on_ended: Callable[[str | None], None]) -> None:
        self._in_thread = in_thread
        self._work = work
        self._on_ended = on_ended
        self._failure: str | None = None
        self._has_ended = threading.Event()
        self._has_ended.set()
        self.is_running = False

    def begin(self) -> None:
        """Start, unless it is running."""
        if not self.is_running:
            self.is_running = True
            self._has_ended.clear()
            self._in_thread(self._try, self._end)

    def wait(self) -> None:
        """Block until the thread does nothing any more, whether the loop was told or not."""
        self._has_ended.wait()

    def _try(self) -> None:
        self._failure = "it ended unexpectedly"
        try:
            self._work()
        except JournalError as error:
            self._failure = str(error)
        else:
            self._failure = None
        finally:
            self._has_ended.set()

    def _end(self) -> None:
        self.is_running = False
        self._on_ended(self._failure)
