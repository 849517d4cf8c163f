"""Memory that was freed goes back to the system.

glibc keeps what a process frees for its next allocations: after a burst of 400 MB the process stays at 400 MB. Its
`malloc_trim` gives back all free pages. It locks the allocator for 0.1 ms a megabyte, so it runs soon after memory was
freed, when there is little to give back yet, and not at all while nothing was freed. Other C libraries give memory back
by themselves, or not at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

_INTERVAL_S: Final = 1.0
_FREED_BYTES: Final = 16 << 20  # so much less held than before makes a trim worth its while
_GROWN_BYTES: Final = 32 << 20  # so much more taken than is held more: messages of many MB leave such gaps
_LOOKS: Final = 5  # in a row that find so much more: messages under way take a lot, too, but for a moment
_RETURNED_BYTES: Final = 1 << 20  # after a trim that gave back so much another one follows: rows are freed in slices
_REST: Final = 100  # times the duration of the last trim pass before the next one
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


def taken_bytes() -> int:
    """The resident memory of this process; 0 where the system does not tell."""
    try:
        with Path("/proc/self/statm").open("rb", buffering=0) as file:
            return int(file.read(100).split()[1]) * _PAGE_BYTES
    except OSError:
        return 0


def trim_heap() -> None:
    """Call the C library's own function, if it has one."""
    import ctypes  # noqa: PLC0415  # a thread pays for it, once

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(ctypes.c_size_t(0))


class MemoryReturn:
    """Trims the heap of the process after the store has dropped data.

    `held_bytes` tells what the store holds, `taken_bytes` what the process takes, `trim` gives back
    what is free and runs in a thread. `trims` counts.
    """

    def __init__(
        self,
        held_bytes: Callable[[], int],
        taken_bytes: Callable[[], int] = taken_bytes,
        trim: Callable[[], object] = trim_heap,
    ) -> None:
        self._held_bytes = held_bytes
        self._taken_bytes = taken_bytes
        self._trim = trim
        self._last_held_bytes = self._most_held_bytes = held_bytes()  # at the last trim, and since then
        self._last_taken_bytes = taken_bytes()
        self._taken: deque[int] = deque(maxlen=_LOOKS)
        self._earliest_s = 0.0
        self._goes_on = False
        self._is_running = False
        self._timer: asyncio.TimerHandle | None = None
        self.trims = 0

    def start(self) -> None:
        """Look once a second."""
        self._timer = asyncio.get_running_loop().call_later(_INTERVAL_S, self._look)

    def stop(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self.start()
        if self.is_due():
            self._is_running = True
            asyncio.get_running_loop().run_in_executor(None, self.run)

    def is_due(self) -> bool:
        """Whether to trim now. Reads a file of /proc: 20 µs."""
        held, taken = self._held_bytes(), self._taken_bytes()
        self._most_held_bytes = max(self._most_held_bytes, held)
        self._taken.append(taken)
        if self._is_running or time.monotonic() < self._earliest_s:
            return False
        return (
            self._goes_on
            or held <= self._most_held_bytes - _FREED_BYTES
            or (
                len(self._taken) == _LOOKS
                and min(self._taken) - self._last_taken_bytes
                >= max(0, held - self._last_held_bytes) * 3 // 2 + _GROWN_BYTES
            )
        )

    def run(self) -> None:
        """Trim. Raises nothing."""
        before, began_s = self._taken_bytes(), time.monotonic()
        self._trim()
        now_s = time.monotonic()
        self._earliest_s = now_s + _REST * (now_s - began_s)
        self._last_held_bytes = self._most_held_bytes = self._held_bytes()
        self._last_taken_bytes = self._taken_bytes()
        self._taken.clear()
        self._goes_on = self._last_taken_bytes <= before - _RETURNED_BYTES
        self.trims += 1
        self._is_running = False
