"""The store whose effects outlast the process (`storage.engine.Store`).

      execute ---> MemoryStore ---> Recorder: what changed       one turn of the event loop
                                        |  take
                                        v
                                      Group ---> Database.write    once a turn: `relaxed` is durable from here
                                                     |
                                                  Syncer         `strict` from here; relaxed once a second

Answers wait until `durable_seq` has reached theirs.
"""

from __future__ import annotations

import contextlib
import enum
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from storage.cache.totals import PrefixTotalsTable
from storage.effects import Effects
from storage.engine import Caller, Outcome, Pending, Reply, RequestKey
from storage.errors import UserError
from storage.ids import first_id
from storage.journal import rows
from storage.journal.aside import Aside, InThread
from storage.journal.database import Database
from storage.journal.errors import BusyError, JournalError
from storage.journal.recorder import Group, Recorder
from storage.journal.recovery import recover, stored_next_id
from storage.journal.rows import SYNCED_KEY
from storage.journal.schema import bring_up_to_date
from storage.limits import AnswerLimits, CacheLimits, QueueLimits
from storage.memory import MemoryStore
from storage.queue.stats import QueueFigures, QueueStatsTable
from storage.system_tables import SystemTable, TableReading
from storage.vocabulary import EMPTY_RESULT, CachestoreAction, Path, Statement, SysCachestore

_log = logging.getLogger(__name__)

# So much of large texts is written in one turn of the loop; then others have theirs. 1 to 2 ms.
_LARGE_BYTES_A_TURN = 1 << 19
_BUSY_DELAY_MS = 5
_RETRY_MS = 1_000
_SYNC_INTERVAL_MS = 1_000
_MEASURE_INTERVAL_MS = 5_000


class Durability(enum.Enum):
    """What an answered statement survives (decisions, "Journal")."""

    MEMORY = "memory"  # nothing
    RELAXED = "relaxed"  # the end of the process, by whatever; up to a second is lost when the machine fails
    STRICT = "strict"  # the end of the machine


@dataclass(slots=True, frozen=True)
class Surroundings:
    """What the store needs from its process.

    `later` calls back in the next turn of the loop, or after a delay in ms; `in_thread` runs beside the loop, and
    calls back in the loop when that has ended; `fail` ends the process: what the disk holds is not known any more.
    """

    later: Callable[[Callable[[], None], int], None]
    in_thread: InThread
    now_ms: Callable[[], int]
    random: Callable[[], float]
    fail: Callable[[str], None]


@dataclass(slots=True)
class JournalFigures:
    """What the journal has done since the start."""

    groups: int = 0
    rows: int = 0
    failures: int = 0
    size_bytes: int = 0


class JournaledStore:
    """A `MemoryStore` and its journal.

    A write that fails takes the state back to what is committed: the callers of what was lost get an error, reads
    go on, writes are refused until the journal can be written again, which is tried every second.
    """

    def __init__(  # noqa: PLR0917  # each is of its own type
        self,
        database: Database,
        queue_limits: QueueLimits,
        cache_limits: CacheLimits,
        answer_limits: AnswerLimits,
        surroundings: Surroundings,
        sync: Callable[[int], None] | None,
        durability: Durability,
        cache_durability: Durability,
    ) -> None:
        """Take over what the database holds. `sync` asks for a sync, which `synced` then tells of; without it nothing
        is ever synced but at the end."""
        self._database = database
        self._limits = (queue_limits, cache_limits, answer_limits)
        self._surroundings = surroundings
        self._sync = sync
        self._waits_for_sync = durability is Durability.STRICT
        self._with_cache = cache_durability is not Durability.MEMORY
        self.figures = JournalFigures()
        self._on_durable: Callable[[], None] = _nothing
        self._on_failed: Callable[[str, int], None] = _nothing_of
        self._failure: str | None = None
        self._retry_at_ms = 0
        self._next_sync_ms = 0
        self._next_measure_ms = 0
        self._written_seq = self.durable_seq = 0
        self._synced_seq = 0
        self._is_scheduled = self._is_loading = False
        self._group: Group | None = None  # the one that is being written
        self._chunks: Iterator[tuple[bytes, bytes]] = iter(())
        self._chunk: tuple[bytes, bytes] | None = None
        # What is synced, and that if no group carries it yet.
        self._position = self._mark = bytes(16) if sync is not None else b""
        self._persists: deque[tuple[int, Pending]] = deque()
        self._is_closing = False
        self._compaction = Aside(surroundings.in_thread, database.compact, self._on_compacted)
        self._new_log = Aside(surroundings.in_thread, database.begin_log, self._on_log_begun)
        self._reopening = Aside(surroundings.in_thread, self._reopen, self._on_reopened)
        bring_up_to_date(database)
        self._load(0)
        if not database.open_for_writing():  # another server was quicker, and is gone again
            self._load(0)
        self._take_for_synced()
        self._schedule(0)  # what recovery found to be deleted

    def _load(self, seq: int) -> None:
        """Make the state that the database holds the state. Commit sequence numbers go on from `seq`."""
        now_ms = self._surroundings.now_ms()
        recorder = Recorder(self._on_change)
        next_id = first_id(now_ms, stored_next_id(self._database) - 1)
        cache_effects = recorder if self._with_cache else Effects()
        memory = MemoryStore(*self._limits, next_id, self._surroundings.random, recorder, cache_effects)
        self._is_loading = True
        try:
            recover(self._database, memory, recorder, now_ms, with_cache=self._with_cache)
        finally:
            self._is_loading = False
        recorder.seq += seq
        self._recorder, self._memory = recorder, memory
        self._written_seq = recorder.seq
        self._group = self._chunk = None
        self._mark = self._position  # the group that carried it may be lost

    def _take_for_synced(self) -> None:
        """What the database found when it was opened it has written anew, and synced."""
        self.durable_seq = self._synced_seq = self._written_seq

    # Sequence numbers. `durable_seq` is an attribute: each request reads it twice.

    @property
    def applied_seq(self) -> int:
        return self._recorder.seq

    def on_durable(self, callback: Callable[[], None]) -> None:
        """Called in a turn of its own, never from within `execute`."""
        self._on_durable = callback

    def on_failed(self, callback: Callable[[str, int], None]) -> None:
        """Called with the text for those whose effects were lost, and the last `commit_seq` whose were not."""
        self._on_failed = callback

    # Statements.

    def execute(
        self, statement: Statement, caller: Caller, request_key: RequestKey | None, now_ms: int
    ) -> Reply | Pending:
        if self._failure is not None and statement.has_effects:
            raise UserError(self._failure)
        if type(statement) is SysCachestore:
            outcome = self._of_journal(statement)
            if outcome is not None:
                return outcome
        return self._memory.execute(statement, caller, request_key, now_ms)

    def _of_journal(self, statement: SysCachestore) -> Reply | Pending | None:
        match statement.action:
            case CachestoreAction.PERSIST:
                return self._persist()
            case CachestoreAction.COMPACTION:
                self._compaction.begin()  # it is answered at once: it takes seconds
            case _:
                return None
        return Reply(EMPTY_RESULT, self._recorder.seq)

    def _persist(self) -> Reply | Pending:
        """Answered once everything before is on the disk."""
        seq = self._recorder.seq
        if self._sync is None or self._synced_seq >= seq:
            return Reply(EMPTY_RESULT, seq)
        pending = Pending(None)
        self._persists.append((seq, pending))
        self._sync_if_due(0)
        return pending

    def _on_compacted(self, failure: str | None) -> None:
        if failure is not None and not self._is_closing:
            _log.error("%s", failure)

    def give_up(self, pending: Pending, now_ms: int) -> None:
        self._memory.give_up(pending, now_ms)

    def end_waits(self, now_ms: int) -> None:
        self._memory.end_waits(now_ms)
        while self._persists:
            _answer(self._persists.popleft()[1], Reply(EMPTY_RESULT, 0))

    def confirm_delivered(self, request_keys: list[RequestKey]) -> None:
        self._memory.confirm_delivered(request_keys)

    def mark_undelivered(self, request_key: RequestKey) -> None:
        self._memory.mark_undelivered(request_key)

    # Committing.

    def _on_change(self) -> None:
        """The first change since the last group: it is written in the next turn, with all others of this turn."""
        if not self._is_loading and not self._is_scheduled and self._failure is None:
            self._schedule(0)

    def _schedule(self, delay_ms: int) -> None:
        self._is_scheduled = True
        self._surroundings.later(self._commit, delay_ms)

    def _commit(self) -> None:
        self._is_scheduled = False
        if not self._is_closing:
            if self._failure is not None or self._new_log.is_running:
                return
            if self._database.is_log_due:
                self._new_log.begin()
                return
        try:
            if self._group is None:
                if not self._recorder.has_changes:
                    return
                self._group = self._recorder.take()._replace(mark=self._mark)
                self._mark = b""
                self._chunks = self._group.chunks()
            if not self._write_large():
                self._schedule(0)
                return
            self._database.write(self._group)
        except BusyError:
            self._schedule(_BUSY_DELAY_MS)
            return
        except JournalError as error:
            self._fail(str(error))
            return
        self._written(self._group)

    def _on_log_begun(self, failure: str | None) -> None:
        """Go on with what had to wait for it."""
        if self._is_closing:
            return
        if failure is not None:
            self._fail(failure)
        elif not self._is_scheduled:
            self._schedule(0)

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

    def _written(self, group: Group) -> None:
        self._group = None
        figures = self.figures
        figures.groups += 1
        figures.rows += len(group.puts) + len(group.deletes)
        self._written_seq = group.seq
        self._on_written()
        if self._recorder.has_changes and not self._is_scheduled:
            self._schedule(0)  # large texts took turns, and others went on meanwhile

    def _on_written(self) -> None:
        if self._waits_for_sync and self._sync is not None:
            self._sync(self._written_seq)
        else:
            self.durable_seq = self._written_seq
            self._on_durable()

    def synced(self, seq: int, position: bytes = b"") -> None:
        """Everything up to `seq` is on the disk, and the log up to there."""
        if position != self._position:
            self._position = self._mark = position
        self._synced_seq = max(self._synced_seq, seq)
        if self._waits_for_sync and seq > self.durable_seq:
            self.durable_seq = seq
            self._on_durable()
        while self._persists and self._persists[0][0] <= seq:
            _answer(self._persists.popleft()[1], Reply(EMPTY_RESULT, 0))

    def _sync_if_due(self, now_ms: int) -> None:
        if self._sync is None or self._waits_for_sync or self._written_seq <= self._synced_seq:
            return
        if self._persists or now_ms >= self._next_sync_ms or now_ms < self._next_sync_ms - 2 * _SYNC_INTERVAL_MS:
            self._next_sync_ms = now_ms + _SYNC_INTERVAL_MS
            self._sync(self._written_seq)

    def _write_mark(self) -> None:
        """When no group comes to carry it."""
        if not self._mark.strip(b"\0") or self._failure is not None or self._new_log.is_running:
            return
        if self._group is not None or self._recorder.has_changes:
            return
        try:
            self._database.put(SYNCED_KEY, self._mark)
            self._mark = b""
        except BusyError:
            return
        except JournalError as error:
            self._fail(str(error))

    # When it fails.

    @property
    def failure(self) -> str | None:
        """Why writes are refused now."""
        return self._failure

    def _fail(self, reason: str) -> None:
        """Go back to what is committed, and refuse writes from now on."""
        _log.error("%s; writes are refused until it can be written again", reason)
        self.figures.failures += 1
        text = f"refused: {reason}"
        self._failure = text
        self._retry_at_ms = self._surroundings.now_ms() + _RETRY_MS
        kept_seq = self._written_seq
        waiters = self._memory.queue.handover.waiters
        try:
            self._load(self._recorder.seq + 1)
        except JournalError as error:
            self._surroundings.fail(str(error))
            return
        self._memory.queue.handover.waiters = waiters
        while self._persists and self._persists[-1][0] > kept_seq:
            _answer(self._persists.pop()[1], UserError(text))
        self._on_failed(text, kept_seq)
        self._on_written()  # what the database holds may still be on its way to the disk, as before

    def _reopen(self) -> None:
        """Closing alone takes the database a second then."""
        self._database.try_disk()
        self._database.reopen()
        self._database.put(rows.SCHEMA_KEY, rows.encode(rows.SCHEMA))

    def _on_reopened(self, failure: str | None) -> None:
        """Opened anew, it holds what is committed, and takes writes again."""
        if self._is_closing:
            return
        self._retry_at_ms = self._surroundings.now_ms() + _RETRY_MS
        waiters = self._memory.queue.handover.waiters
        try:
            if failure is None:
                self._load(self._recorder.seq)
        except JournalError as error:
            failure = str(error)
        if failure is not None:
            _log.warning("the journal still cannot be written: %s", failure)
            return
        self._memory.queue.handover.waiters = waiters
        self._failure = None
        self._take_for_synced()
        self._on_durable()
        self._schedule(0)
        _log.info("the journal can be written again")

    # Looking after it.

    def tick(self, now_ms: int, max_rows: int) -> bool:
        """As the memory's; a sync once a second, and another try when the journal could not be written."""
        if self._failure is not None and now_ms >= self._retry_at_ms and not self._compaction.is_running:
            self._reopening.begin()  # it closes the database, which nobody else may be in
        self._sync_if_due(now_ms)
        self._write_mark()
        if now_ms >= self._next_measure_ms:
            self._next_measure_ms = now_ms + _MEASURE_INTERVAL_MS
            self.figures.size_bytes = self._database.size_bytes()
        return self._memory.tick(now_ms, max_rows)

    def close(self) -> None:
        """Write and sync what is left, however long that takes. Raises `JournalError` when it fails."""
        self._is_closing = True
        if self._reopening.is_running:
            return  # there is nothing left, and the directory goes with the process
        self._new_log.wait()
        self._database.wait_when_busy()
        while self._failure is None and (self._group is not None or self._recorder.has_changes):
            self._commit()
        if self._failure is None:
            self._database.sync()
        if self._compaction.is_running:
            self._database.stop_compacting()
            self._compaction.wait()
            with contextlib.suppress(JournalError):  # all is synced, and what it stopped is done again some day
                self._database.close()
        else:
            self._database.close()

    def read_table(self, table: SystemTable) -> TableReading:
        return self._memory.read_table(table)

    def queue_stats(self) -> QueueStatsTable:
        return self._memory.queue_stats()

    def queue_figures(self, now_ms: int) -> Iterable[QueueFigures]:
        return self._memory.queue_figures(now_ms)

    def waited_prefixes(self) -> Iterable[Path | None]:
        return self._memory.waited_prefixes()

    def cache_totals(self) -> PrefixTotalsTable:
        return self._memory.cache_totals()

    def gauges(self) -> dict[str, int]:
        figures = self.figures
        return {
            **self._memory.gauges(),
            "journal_bytes": figures.size_bytes,
            "journal_groups": figures.groups,
            "journal_rows": figures.rows,
            "journal_failures": figures.failures,
            "journal_lag": self._recorder.seq - self.durable_seq,
        }

    def check_invariants(self) -> None:
        self._memory.check_invariants()
        self._recorder.blobs.check_invariants()


def _answer(pending: Pending, outcome: Outcome) -> None:
    assert pending.on_outcome is not None
    pending.on_outcome(outcome)


def _nothing() -> None:
    """Nobody listens yet."""


def _nothing_of(_text: str, _kept_seq: int) -> None:
    """Nobody listens yet."""
