"""A process of its own that has the journal's log files written to the disk. Run by path; imports little.

A thread would have to wait for the interpreter's lock to tell that a sync has ended, up to 14 ms beside a busy event
loop; this process needs no lock. It is asked by datagrams of 8 bytes, a number each, and answers the highest number
it has been asked for once everything written before is on the disk, as `number (8 bytes) errno (4 bytes)`, and up to
where the log is synced, as `file number (8 bytes) size (8 bytes)`.
"""

import os
import socket
import struct
import sys

_ASK_BYTES = 8


class Log:
    """The write-ahead log files of a directory."""

    def __init__(self, directory: str) -> None:
        self._directory = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        self._open: dict[int, int] = {}  # descriptors by number
        self._newest = 0

    def sync(self) -> tuple[int, int]:
        """Sync all files that may have been written to since the last time. The number of the newest, and its size
        before: all of that, and all files before it, are on the disk then.

        Those are the newest one of then, and all that came after: the engine writes to its newest alone.
        """
        numbers = sorted(int(name[:-4]) for name in os.listdir(self._directory) if name.endswith(".log"))  # noqa: PTH208
        has_new = False
        for number in numbers:
            if number >= self._newest and number not in self._open:
                try:
                    self._open[number] = os.open(f"{number:06d}.log", os.O_RDONLY, dir_fd=self._directory)
                except FileNotFoundError:
                    continue  # its rows have moved to a table, which the engine has synced
                has_new = True
        newest = max(self._open, default=0)
        size_bytes = os.fstat(self._open[newest]).st_size if newest else 0
        for descriptor in self._open.values():
            os.fdatasync(descriptor)
        if has_new:
            os.fsync(self._directory)
        if numbers:
            self._newest = numbers[-1]
        for number in [number for number in self._open if number != self._newest]:
            os.close(self._open.pop(number))
        return newest, size_bytes


def main() -> None:
    """Serve until the other end closes."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    log = Log(sys.argv[2])
    while True:
        asked = channel.recv(_ASK_BYTES)
        if not asked:
            return
        newest = asked
        channel.setblocking(False)
        while True:
            try:
                more = channel.recv(_ASK_BYTES)
            except BlockingIOError:
                break
            if not more:
                return
            newest = more
        channel.setblocking(True)
        try:
            position = log.sync()
            errno = 0
        except OSError as error:
            position = (0, 0)
            errno = error.errno or 5
        channel.send(newest + struct.pack("<i", errno) + struct.pack(">QQ", *position))


if __name__ == "__main__":
    try:
        main()
    except ConnectionError:  # the server was killed, with an answer to it on the way
        sys.exit(0)
