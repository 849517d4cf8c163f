"""What the journal needs from the process that it runs in: an event loop, threads, clocks, random numbers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from storage.asking import NewLater, Turns, at_once
from storage.journal.errors import JournalError

# Runs the first function in a thread, then the second one in the event loop.
InThread: TypeAlias = Callable[[Callable[[], None], Callable[[], None]], None]


@dataclass(slots=True, frozen=True)
class Host:
    """An event loop, threads, clocks and random numbers.

    `call_soon` calls back in the next turn of the loop, `call_later` after a delay in ms. `batch` runs a function that
    completes many requests, so that their answers are written together; `turns` runs long work in steps. `fail` ends
    the process: the content of the disk is unknown.
    """

    call_soon: Callable[[Callable[[], None]], object]
    call_later: Callable[[int, Callable[[], None]], object]
    in_thread: InThread
    batch: Callable[[Callable[[], None]], None]
    now_ms: Callable[[], int]
    random: Callable[[], float]
    fail: Callable[[str], None]
    new_later: NewLater
    turns: Turns = at_once


class BackgroundJob:
    """Work that takes too long for the event loop, done in a thread: to begin a log, to compact, to open anew.

    `is_running` from `start` until the loop calls `on_done`, with the reason of a failure or None.
    """

    def __init__(self, in_thread: InThread, work: Callable[[], None], on_done: Callable[[str | None], None]) -> None:
        self._in_thread = in_thread
        self._work = work
        self._on_done = on_done
        self._failure: str | None = None
        self._ended = threading.Event()
        self._ended.set()
        self.is_running = False

    def start(self) -> None:
        """Start unless it is running. The work fails when there is no thread for it."""
        if self.is_running:
            return
        self.is_running = True
        self._ended = ended = threading.Event()
        try:
            self._in_thread(partial(self._run, ended), self._finish)
        except RuntimeError as error:
            ended.set()  # a thread pool keeps the work all the same, for a thread that is free later
            self._failure = str(error)
            self._finish()

    def wait(self) -> None:
        """Block until the thread has ended its work. The loop may not have called `on_done` yet."""
        self._ended.wait()

    def _run(self, ended: threading.Event) -> None:
        if ended.is_set():
            return
        self._failure = "it ended unexpectedly"
        try:
            self._work()
            self._failure = None
        except JournalError as error:
            self._failure = str(error)
        finally:
            ended.set()

    def _finish(self) -> None:
        self.is_running = False
        self._on_done(self._failure)
