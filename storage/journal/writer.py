"""Commits what changed: one group of rows a turn of the event loop.

      Recorder: what changed  --take-->  Group  --Database.write-->  the log of the database

Large texts go ahead of the group that names them, in chunks, over several turns: those of up to a megabyte when the
group is taken, larger ones before their statement is executed (`write_ahead`), so that no group waits for them. A new
log is begun in a thread before the old one is full. A write that finds the database busy is tried again soon; one that
fails is told to the store.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from storage.journal.database import Database
from storage.journal.errors import BusyError, JournalError
from storage.journal.host import BackgroundJob, Host
from storage.journal.recorder import Group, Recorder, chunks_of
from storage.journal.rows import SYNCED_KEY

# So much of large texts is written in one turn of the loop; then others have theirs. 1 to 2 ms.
_LARGE_BYTES_A_TURN: Final = 1 << 19
# In `strict`, so much is written ahead of groups between two syncs: the next group is synced together with it.
_AHEAD_BYTES_A_SYNC: Final = 1 << 20
_BUSY_DELAY_MS: Final = 5


@dataclass(slots=True)
class JournalFigures:
    """What the journal has done since the start."""

    groups: int = 0
    rows: int = 0
    failures: int = 0
    size_bytes: int = 0


class _Chunks:
    """Large texts on their way to the database."""

    __slots__ = ("_chunk", "_chunks", "_database")

    def __init__(self, database: Database, chunks: Iterator[tuple[bytes, bytes]]) -> None:
        self._database = database
        self._chunks = chunks
        self._chunk: tuple[bytes, bytes] | None = None

    def write(self, budget: int) -> int:
        """Write chunks of `budget` bytes or a little more. The rest of the budget: above 0 once all are written."""
        while budget > 0:
            if self._chunk is None:
                self._chunk = next(self._chunks, None)
                if self._chunk is None:
                    return budget
            self._database.put(*self._chunk)  # kept until it is written: the database may be busy
            budget -= len(self._chunk[1])
            self._chunk = None
        return 0


class _Ahead(NamedTuple):
    chunks: _Chunks
    done: Callable[[], None]


class Writer:
    """Writes the groups of a recorder to a database.

    `mark` is what the next group carries. `on_written` is called with the commit sequence number of each group that the
    database has taken, `on_failed` with the reason why a group could not be written. Nothing is written while
    `is_stopped`. `ask_sync`, where it is given, has all that is written synced: `synced` is to be called then.
    """

    def __init__(
        self,
        database: Database,
        host: Host,
        on_written: Callable[[int], None],
        on_failed: Callable[[str], None],
        ask_sync: Callable[[], None] | None,
    ) -> None:
        self._database = database
        self._host = host
        self._on_written = on_written
        self._on_failed = on_failed
        self._ask_sync = ask_sync
        self.figures = JournalFigures()
        self.mark = b""
        self.is_stopped = True
        self._is_closing = False
        self.is_scheduled = False
        self._recorder: Recorder
        self._group: Group | None = None  # the one that is being written
        self._chunks = _Chunks(database, iter(()))  # of its large texts
        self._ahead: deque[_Ahead] = deque()
        self._unsynced_bytes = 0  # written ahead of groups since the last sync
        self._new_log = BackgroundJob(host.in_thread, database.begin_log, self._on_log_begun)

    def begin(self, recorder: Recorder) -> None:
        """Write what this recorder has noted, and go on with it. What was not written is forgotten."""
        self._recorder = recorder
        self._group = None
        self._unsynced_bytes = 0
        while self._ahead:
            self._ahead.popleft().done()

    def schedule(self) -> None:
        """Write in the next turn of the loop what was noted by then."""
        if not self.is_scheduled and not self.is_stopped:
            self.is_scheduled = True
            self._host.call_soon(self._commit)

    def write_ahead(self, number: int, value: bytes, done: Callable[[], None]) -> None:
        """Write a text that no group names yet. `done` is called when it is written, or cannot be written."""
        self._ahead.append(_Ahead(_Chunks(self._database, chunks_of(number, value)), done))
        self.schedule()

    def synced(self) -> None:
        """All that was written when a sync was asked for is on the disk."""
        if self._unsynced_bytes:
            self._unsynced_bytes = 0
            if self._ahead:
                self.schedule()

    def _commit(self) -> None:
        self.is_scheduled = False
        if not self._is_closing:
            if self.is_stopped or self._new_log.is_running:
                return
            if self._database.is_log_due:
                self._new_log.start()
                return
        try:
            self._write_ahead(self._write_group())
        except BusyError:
            self.is_scheduled = True
            self._host.call_later(_BUSY_DELAY_MS, self._commit)
            return
        except JournalError as error:
            self._on_failed(str(error))
            return
        if not self._is_idle or (self._ahead and self._unsynced_bytes < _AHEAD_BYTES_A_SYNC):
            self.schedule()

    @property
    def _is_idle(self) -> bool:
        return self._group is None and self._recorder.is_clean

    def _write_group(self) -> int:
        """Write the next group, or a part of its large texts. What is left for other large texts in this turn."""
        budget = _LARGE_BYTES_A_TURN
        group = self._group
        if group is None:
            if self._recorder.is_clean:
                return budget
            group = self._group = self._recorder.take(self.mark)
            self.mark = b""
            if group.large:
                self._chunks = _Chunks(self._database, group.chunks())
        if group.large:
            budget = self._chunks.write(budget)
            if budget <= 0:
                return 0
        self._database.write(group)
        self._group = None
        figures = self.figures
        figures.groups += 1
        figures.rows += len(group.puts) + len(group.deletes)
        self._on_written(group.seq)
        return budget

    def _write_ahead(self, budget: int) -> None:
        """Write chunks of the texts that go ahead."""
        while self._ahead and budget > 0 and self._unsynced_bytes < _AHEAD_BYTES_A_SYNC:
            left = self._ahead[0].chunks.write(budget)
            if self._ask_sync is not None:
                self._unsynced_bytes += budget - left
                if self._unsynced_bytes >= _AHEAD_BYTES_A_SYNC:
                    self._ask_sync()
            if left > 0:
                self._ahead.popleft().done()
            budget = left

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
        if not self._is_idle or self._new_log.is_running:
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
        while not self.is_stopped and not self._is_idle:
            self._commit()
