"""What the journal needs from the process that it runs in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from storage.asking import NewLater
from storage.journal.aside import InThread


@dataclass(slots=True, frozen=True)
class Host:
    """An event loop, clocks and chance.

    `call_soon` calls back in the next turn of the loop, `call_later` after a delay in ms. `in_thread` runs work beside
    the loop and calls back in the loop when that has ended. `batch` runs a function that completes many requests at
    once, so that their answers are written together. `fail` ends the process: the content of the disk is unknown.
    """

    call_soon: Callable[[Callable[[], None]], object]
    call_later: Callable[[int, Callable[[], None]], object]
    in_thread: InThread
    batch: Callable[[Callable[[], None]], None]
    now_ms: Callable[[], int]
    random: Callable[[], float]
    fail: Callable[[str], None]
    new_later: NewLater
