"""Asks the process of `sync_helper` to have the journal on the disk."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from storage.journal.errors import JournalError

_ANSWER: Final = struct.Struct("<qi16s")
_HELPER: Final = Path(__file__).with_name("sync_helper.py")


class Syncer:
    """Syncs in order, many at once. `on_synced` is called with each commit sequence number that is on the disk,
    and up to where the log is, which the next group is to carry as its mark.

    `on_failed` is called once, with the reason, when a sync failed or the helper died: what the disk holds is then
    unknown, and asking again would not tell (a failed sync may report success the next time).
    The owner watches `fileno()` and calls `on_readable`.
    """

    def __init__(
        self, directory: Path, on_synced: Callable[[int, bytes], None], on_failed: Callable[[str], None]
    ) -> None:
        self._on_synced = on_synced
        self._on_failed = on_failed
        self._asked_seq = 0
        self._is_unsent = False
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel.setblocking(False)
        try:
            self._process = subprocess.Popen(  # noqa: S603  # our own file, our own interpreter
                [sys.executable, "-I", "-S", str(_HELPER), str(theirs.fileno()), str(directory)],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C in a terminal is for the server: it still needs the helper to stop
            )
        except OSError as error:
            self._channel.close()
            raise JournalError(f"cannot start the process that syncs: {error.strerror}") from error
        finally:
            theirs.close()

    def fileno(self) -> int:
        """What to watch for reading."""
        return self._channel.fileno()

    @property
    def pid(self) -> int:
        """The process id of the helper."""
        return self._process.pid

    def ask(self, seq: int) -> None:
        """Have everything up to `seq`, which was written, synced. O(1)."""
        if seq < self._asked_seq:
            return
        self._asked_seq = seq
        self._send()

    def _send(self) -> None:
        try:
            self._channel.send(self._asked_seq.to_bytes(8, "little"))
            self._is_unsent = False
        except BlockingIOError:
            self._is_unsent = True  # hundreds are under way: with the next answer there is room
        except OSError as error:
            self._on_failed(f"the process that syncs is gone: {error.strerror}")

    def on_readable(self) -> None:
        """Take what the helper answered."""
        while True:
            try:
                answer = self._channel.recv(_ANSWER.size)
            except BlockingIOError:
                return
            except OSError as error:
                self._on_failed(f"the process that syncs cannot be heard: {error.strerror}")
                return
            if len(answer) != _ANSWER.size:
                self._on_failed(f"the process that syncs ended with code {self._process.wait()}")
                return
            seq, errno, position = _ANSWER.unpack(answer)
            if errno:
                self._on_failed(f"the journal could not be synced to the disk: {os.strerror(errno)}")
                return
            if self._is_unsent:
                self._send()
            self._on_synced(seq, position)

    def close(self) -> None:
        """End the helper."""
        self._channel.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
            return
        self._process.kill()
        self._process.wait()
