"""Writes lines in a thread: whoever reads a log slowly, or not at all, holds nobody else up."""

from __future__ import annotations

import io
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, TextIO

MAX_WAITING_BYTES: Final = 4 * 1024 * 1024
_WRITE_BYTES: Final = 64 * 1024  # of one call; what a pipe holds


class LineWriter:
    """Lines wait in memory, at most `MAX_WAITING_BYTES` of them, and are written in the order of the calls.

    What does not fit, or cannot be written, is dropped and counted in `dropped`. Where they are missing stands a line
    with their number, the text of `tell_dropped`. The thread begins with the first line. It holds no lock while it
    writes, so that nothing but itself can be blocked.
    """

    def __init__(self, tell_dropped: Callable[[int], str], max_waiting_bytes: int = MAX_WAITING_BYTES) -> None:
        self.dropped = 0
        self._tell_dropped = tell_dropped
        self._max_waiting_bytes = max_waiting_bytes
        self._untold = 0
        self._waiting: deque[tuple[TextIO, bytes]] = deque()
        self._waiting_bytes = 0  # with those that are being written
        self._changed = threading.Condition(threading.Lock())
        self._thread: threading.Thread | None = None

    def write(self, line: str, stream: TextIO) -> None:
        """Have `line`, without its end, written to `stream`. Never waits; a microsecond or two."""
        data = line.encode(errors="backslashreplace") + b"\n"
        with self._changed:
            if self._waiting_bytes and self._waiting_bytes + len(data) > self._max_waiting_bytes:
                self._drop(1)
                return
            if self._untold:
                self._tell(stream)
            self._add(stream, data)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="log", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything was written; False when that takes too long."""
        deadline_s = time.monotonic() + timeout_s
        if not self._changed.acquire(timeout=timeout_s):  # by a handler of signals, in the middle of `write`
            return False
        try:
            while self._waiting_bytes:
                left_s = deadline_s - time.monotonic()
                if left_s <= 0:
                    return False
                self._changed.wait(left_s)
            return True
        finally:
            self._changed.release()

    # Called with the lock

    def _add(self, stream: TextIO, data: bytes) -> None:
        self._waiting.append((stream, data))
        self._waiting_bytes += len(data)

    def _drop(self, count: int) -> None:
        self.dropped += count
        self._untold += count

    def _tell(self, stream: TextIO) -> None:
        self._add(stream, self._tell_dropped(self._untold).encode() + b"\n")
        self._untold = 0

    # In the thread

    def _run(self) -> None:
        while True:
            stream, data, count = self._next()
            is_written = _write(stream, data)
            with self._changed:
                if not is_written:
                    self._drop(count)
                elif self._untold and not self._waiting:
                    self._tell(stream)
                self._waiting_bytes -= len(data)
                self._changed.notify_all()

    def _next(self) -> tuple[TextIO, bytes, int]:
        """The lines that come next, as many as go to one stream in one call, and their number."""
        with self._changed:
            while not self._waiting:
                self._changed.wait()
            stream, data = self._waiting.popleft()
            lines = [data]
            size = len(data)
            while self._waiting and self._waiting[0][0] is stream and size + len(self._waiting[0][1]) <= _WRITE_BYTES:
                lines.append(self._waiting.popleft()[1])
                size += len(lines[-1])
        return stream, b"".join(lines), len(lines)


def _write(stream: TextIO, data: bytes) -> bool:
    """Write to the file below, for the lock of a stream would block others; False when that cannot be done."""
    try:
        try:
            file = stream.fileno()
        except io.UnsupportedOperation:  # a stream in memory
            stream.write(data.decode())
            return True
        view = memoryview(data)
        while view:
            view = view[os.write(file, view) :]
    except (OSError, ValueError):  # no reader, no room, closed
        return False
    return True
