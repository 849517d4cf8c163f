"""Commits what changed: one group of rows a turn of the event loop.

      Recorder: what changed  --take-->  Group  --Database.write-->  the log of the database

Large texts of a group go ahead of it, in chunks, over several turns. A new log is begun in a thread before the old
one is full. A write that finds the database busy is tried again soon; one that fails is told to the store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from storage.journal.database import Database
from storage.journal.errors import BusyError, JournalError
from storage.journal.host import BackgroundJob, Host
from storage.journal.recorder import Group, Recorder
from storage.journal.rows import SYNCED_KEY

# So much of large texts is written in one turn of the loop; then others have theirs. 1 to 2 ms.
_LARGE_BYTES_A_TURN: Final = 1 << 19
_BUSY_DELAY_MS: Final = 5


@dataclass(slots=True)
class JournalFigures:
    """What the journal has done since the start."""

    groups: int = 0
    rows: int = 0
    failures: int = 0
    size_bytes: int = 0


class Writer:
    """Writes the groups of a recorder to a database.

    `mark` is what the next group carries. `on_written` is called with the commit sequence number of each group that the
    database has taken, `on_failed` with the reason why a group could not be written. Nothing is written while
    `is_stopped`.
    """

    def __init__(
        self,
        database: Database,
        host: Host,
        on_written: Callable[[int], None],
        on_failed: Callable[[str], None],
    ) -> None:
        self._database = database
        self._host = host
        self._on_written = on_written
        self._on_failed = on_failed
        self.figures = JournalFigures()
        self.mark = b""
        self.is_stopped = True
        self._is_closing = False
        self.is_scheduled = False
        self._recorder: Recorder
        self._group: Group | None = None  # the one that is being written
        self._chunks: Iterator[tuple[bytes, bytes]] = iter(())  # of its large texts
        self._chunk: tuple[bytes, bytes] | None = None
        self._new_log = BackgroundJob(host.in_thread, database.begin_log, self._on_log_begun)

    def begin(self, recorder: Recorder) -> None:
        """Write what this recorder has noted, and go on with it. A group that was not written is forgotten."""
        self._recorder = recorder
        self._group = self._chunk = None

    def schedule(self) -> None:
        """Write in the next turn of the loop what was noted by then."""
        if not self.is_scheduled and not self.is_stopped:
            self.is_scheduled = True
            self._host.call_soon(self._commit)

    def _commit(self) -> None:
        self.is_scheduled = False
        if not self._is_closing:
            if self.is_stopped or self._new_log.is_running:
                return
            if self._database.is_log_due:
                self._new_log.start()
                return
        try:
            group = self._group
            if group is None:
                if self._recorder.is_clean:
                    return
                group = self._group = self._recorder.take(self.mark)
                self.mark = b""
                if group.large:
                    self._chunks = group.chunks()
            if group.large and not self._write_large():
                self.schedule()
                return
            self._database.write(group)
        except BusyError:
            self.is_scheduled = True
            self._host.call_later(_BUSY_DELAY_MS, self._commit)
            return
        except JournalError as error:
            self._on_failed(str(error))
            return
        self._group = None
        figures = self.figures
        figures.groups += 1
        figures.rows += len(group.puts) + len(group.deletes)
        self._on_written(group.seq)
        if not self._recorder.is_clean:
            self.schedule()  # large texts took turns, and others went on meanwhile

    def _write_large(self) -> bool:
        """Write the next chunks of large texts; True when all are written."""
        budget = _LARGE_BYTES_A_TURN
        while budget > 0:
            if self._chunk is None:
                self._chunk = next(self._chunks, None)
                if self._chunk is None:
                    return True
            self._database.put(*self._chunk)  # kept until it is written: the database may be busy
            budget -= len(self._chunk[1])
            self._chunk = None
        return False

    def _on_log_begun(self, failure: str | None) -> None:
        """Go on with what had to wait for it."""
        if self._is_closing:
            return
        if failure is not None:
            self._on_failed(failure)
        else:
            self.schedule()

    def write_mark(self) -> None:
        """Write a mark that no group comes to carry. Raises nothing."""
        if self.is_stopped or not self.mark.strip(b"\0"):
            return
        if self._group is not None or not self._recorder.is_clean or self._new_log.is_running:
            return
        try:
            self._database.put(SYNCED_KEY, self.mark)
            self.mark = b""
        except BusyError:
            return
        except JournalError as error:
            self._on_failed(str(error))

    def finish(self) -> None:
        """Write all that is left, however long it takes."""
        self._is_closing = True
        self._new_log.wait()
        self._database.wait_when_busy()
        while not self.is_stopped and (self._group is not None or not self._recorder.is_clean):
            self._commit()
