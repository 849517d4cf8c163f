"""Work of the journal that takes too long for the loop: a log begun, the files compacted, all opened anew."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

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
        self._try_number = 0
        self._has_ended = threading.Event()
        self._has_ended.set()
        self.is_running = False

    def begin(self) -> None:
        """Start, unless it is running. That there is no thread to be had is a failure of the work."""
        if self.is_running:
            return
        self.is_running = True
        self._has_ended.clear()
        self._try_number += 1
        try:
            self._in_thread(partial(self._try, self._try_number), self._end)
        except RuntimeError as error:
            self._try_number += 1  # a pool keeps the work, and does it when a thread is free some day
            self._failure = str(error)
            self._has_ended.set()
            self._end()

    def wait(self) -> None:
        """Block until the thread does nothing any more, whether the loop was told or not."""
        self._has_ended.wait()

    def _try(self, number: int) -> None:
        if number != self._try_number:
            return
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
