"""Writes lines in a thread, so that a slow or stuck reader of the log cannot block the server."""

from __future__ import annotations

import io
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Final, TextIO

MAX_WAITING_BYTES: Final = 4 * 1024 * 1024
_WRITE_BYTES: Final = 64 * 1024  # of one call; the capacity of a pipe


class LineWriter:
    """Queues lines in memory, within a limit, and writes them in the order of the calls.

    Lines that do not fit or cannot be written are dropped and counted in `dropped`; a line with their number, made by
    `dropped_line`, takes their place. The thread starts with the first line. It holds no lock while it writes, so
    nothing else is blocked.
    """

    def __init__(self, dropped_line: Callable[[int], str], max_waiting_bytes: int = MAX_WAITING_BYTES) -> None:
        self.dropped = 0
        self._dropped_line = dropped_line
        self._max_waiting_bytes = max_waiting_bytes
        self._unreported = 0
        self._waiting: deque[tuple[TextIO, bytes]] = deque()
        self._waiting_bytes = 0  # including the lines that are being written
        self._changed = threading.Condition(threading.Lock())
        self._thread: threading.Thread | None = None

    def write(self, line: str, stream: TextIO) -> None:
        """Write `line` and a newline to `stream`, later. A microsecond or two; never blocks."""
        data = line.encode(errors="backslashreplace") + b"\n"
        with self._changed:
            if self._waiting_bytes and self._waiting_bytes + len(data) > self._max_waiting_bytes:
                self._drop(1)
                return
            if self._unreported:
                self._report(stream)
            self._add(stream, data)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="log", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything was written. False at the timeout."""
        if not self._changed.acquire(timeout=timeout_s):  # a signal handler that interrupted `write`
            return False
        try:
            return self._changed.wait_for(lambda: not self._waiting_bytes, timeout_s)
        finally:
            self._changed.release()

    # Called with the lock

    def _add(self, stream: TextIO, data: bytes) -> None:
        self._waiting.append((stream, data))
        self._waiting_bytes += len(data)

    def _drop(self, count: int) -> None:
        self.dropped += count
        self._unreported += count

    def _report(self, stream: TextIO) -> None:
        self._add(stream, self._dropped_line(self._unreported).encode() + b"\n")
        self._unreported = 0

    # In the thread

    def _run(self) -> None:
        while True:
            stream, data, count = self._next()
            is_written = _write(stream, data)
            with self._changed:
                if not is_written:
                    self._drop(count)
                elif self._unreported and not self._waiting:
                    self._report(stream)
                self._waiting_bytes -= len(data)
                self._changed.notify_all()

    def _next(self) -> tuple[TextIO, bytes, int]:
        """Wait for lines; the next that go to one stream in one call, and their number."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting)
            stream, data = self._waiting.popleft()
            lines = [data]
            size = len(data)
            while self._waiting and self._waiting[0][0] is stream and size + len(self._waiting[0][1]) <= _WRITE_BYTES:
                lines.append(self._waiting.popleft()[1])
                size += len(lines[-1])
        return stream, b"".join(lines), len(lines)


def _write(stream: TextIO, data: bytes) -> bool:
    """Write to the file descriptor, because the lock of a stream would block others. False on failure."""
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
