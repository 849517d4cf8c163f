"""A command on a terminal of a chosen size, which shows what a person would see, bounded in time."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import pyte

from tests.cli.running import ENTRY_POINT, TIMEOUT_S, clean_environment


class _Screen(pyte.Screen):
    """A screen that answers the questions of programs, such as where the cursor is."""

    def __init__(self, size: tuple[int, int], descriptor: int) -> None:
        super().__init__(*size)
        self._descriptor = descriptor

    def write_process_input(self, data: str) -> None:
        os.write(self._descriptor, data.encode())


class Terminal:
    """What the command wrote so far, what its screen shows, and keys for it."""

    def __init__(self, process: subprocess.Popen[bytes], descriptor: int, size: tuple[int, int]) -> None:
        self.process = process
        self._screen = _Screen(size, descriptor)
        self._stream = pyte.ByteStream(self._screen)
        self.output = b""
        self._descriptor = descriptor
        self._until_s = time.monotonic() + TIMEOUT_S

    def read(self) -> bool:
        """Read what there is, for a fifth of a second at most; False at the end."""
        assert time.monotonic() < self._until_s, self.text
        if select.select([self._descriptor], [], [], 0.2)[0]:
            try:
                read = os.read(self._descriptor, 65_536)
                self.output += read
                self._stream.feed(read)
            except OSError:  # the end of a terminal whose process has gone
                return False
        return True

    def read_until(self, text: bytes, count: int = 1) -> None:
        """Read until a text was there so many times."""
        while self.output.count(text) < count:
            assert self.read(), self.output[-2_000:]

    @property
    def lines(self) -> list[str]:
        """What the screen shows, without blanks at the ends of its lines."""
        return [line.rstrip() for line in self._screen.display]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, is_shown: Callable[[str], bool]) -> None:
        """Read until the screen shows something."""
        while not is_shown(self.text):
            assert self.read(), self.text

    def read_to_the_end(self) -> int:
        """Read until the command has ended; its exit code."""
        while self.read():
            pass
        return self.process.wait(TIMEOUT_S)

    def press(self, keys: bytes) -> None:
        os.write(self._descriptor, keys)

    def resize(self, columns: int, lines: int) -> None:
        """Another size, of which the kernel tells the command."""
        self._screen.resize(lines, columns)
        fcntl.ioctl(self._descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))


@contextmanager
def on_terminal(
    *arguments: str, size: tuple[int, int] = (80, 24), variables: Mapping[str, str] | None = None
) -> Iterator[Terminal]:
    """A command of cubequeue whose terminal is of so many columns and lines."""
    columns, lines = size
    descriptor, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    environment = {name: text for name, text in clean_environment().items() if name not in {"COLUMNS", "LINES"}}
    process = subprocess.Popen(
        # Its terminal is the one whose Ctrl-C and changes of size it is told of.
        ["setsid", "--ctty", ENTRY_POINT, *arguments],
        env={**environment, **(variables or {})},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    try:
        yield Terminal(process, descriptor, size)
    finally:
        process.kill()
        process.wait(TIMEOUT_S)
        os.close(descriptor)
