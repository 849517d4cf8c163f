"""The store whose effects outlast the process (`storage.engine.Store`).

execute ---> MemoryStore ---> Recorder ---> Writer: a group of rows a turn of the loop   `relaxed`: durable now
   |                                          |
   | Result                                   +---> Syncer: once a second, or after       `strict`: durable now
   v                                                each group
the gate: each answer waits here until everything that it may have seen is durable
"""

from __future__ import annotations

import contextlib
import enum
import logging
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Final

import msgspec

from storage.asking import Caller, Later, Outcome, at_once
from storage.errors import SEEN_WAS_LOST, StatementError, UserError
from storage.journal import rows
from storage.journal.absences import Absence, Moved, decode_absences, encode_absences, with_new
from storage.journal.database import Database
from storage.journal.errors import JournalError
from storage.journal.gate import Gate
from storage.journal.host import BackgroundJob, Host
from storage.journal.recorder import LARGE_BYTES, Recorder
from storage.journal.recovery import recover, stored_next_id
from storage.journal.schema import bring_up_to_date
from storage.journal.writer import JournalFigures, Writer
from storage.keys import first_id
from storage.limits import AnswerLimits, CacheLimits, QueueLimits
from storage.memory import MemoryStore
from storage.queue.history import EndedItem
from storage.stats import PrefixTotalsTable, QueueFigures, QueueStatsTable
from storage.system_tables import SystemTable
from storage.vocabulary import (
    EMPTY_RESULT,
    CacheSet,
    CachestoreAction,
    Effect,
    Path,
    QueueAck,
    QueueAdd,
    QueueAddAndRetrieve,
    RequestKey,
    Result,
    Row,
    Statement,
    SysCachestore,
)

_log = logging.getLogger(__name__)

_RETRY_MS: Final = 1_000
_MEASURE_INTERVAL_MS: Final = 5_000
_ALIVE_INTERVAL_MS: Final = 2_000
_SYNC_INTERVAL_MS: Final = 1_000
_NEVER_SYNCED: Final = bytes(16)
_NO_EFFECT: Final = Effect.NONE


class Durability(enum.Enum):
    """What an answered statement survives (decisions, "Journal")."""

    MEMORY = "memory"  # nothing
    RELAXED = "relaxed"  # the end of the process, by whatever; up to a second is lost when the machine fails
    STRICT = "strict"  # the end of the machine


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
        host: Host,
        sync: Callable[[int], None] | None,
        durability: Durability,
        cache_durability: Durability,
    ) -> None:
        """Take over what the database holds. `sync` starts a sync of everything up to a commit sequence number, and
        `synced` reports its end. Without it only `close` syncs.
        """
        self._database = database
        self._limits = (queue_limits, cache_limits, answer_limits)
        self._host = host
        self._sync = sync
        self._waits_for_sync = durability is Durability.STRICT and sync is not None
        self._with_cache = cache_durability is not Durability.MEMORY
        self.failure: str | None = None  # why writes are refused now
        self.losses = 0
        self._retry_at_ms = 0
        self._next_sync_ms = self._next_measure_ms = self._next_alive_ms = 0
        self._absences: list[Absence] = []
        self._grace_until_ms = 0
        self._written_seq = 0
        self._gate = Gate()  # what is durable
        self._persists = Gate()  # what is on the disk, which SYS CACHESTORE PERSIST waits for
        self._position = b"" if sync is None else _NEVER_SYNCED  # up to where the log is synced
        self._lag_seq = self._lag_since_ms = 0  # a change of the last ticks that was not durable, and when
        self._is_closing = False
        self._compaction = BackgroundJob(host.in_thread, database.compact, self._on_compacted)
        self._reopening = BackgroundJob(host.in_thread, self._reopen, self._on_reopened)
        ask_sync = self._sync_ahead if self._waits_for_sync else None
        self._writer = Writer(database, host, self._on_written, self._fail, ask_sync)
        bring_up_to_date(database)
        self._end_absence()
        self._load(0)
        if not database.open_for_writing():  # another server was quicker, and is gone again
            self._end_absence()
            self._load(0)
        self._open_writer()

    def _load(self, seq: int) -> None:
        """Make the state that the database holds the state. Commit sequence numbers go on from `seq`."""
        now_ms = self._host.now_ms()
        recorder = Recorder()
        if self._absences:
            recorder.note(rows.ABSENCES_KEY, encode_absences(self._absences))
            recorder.note(rows.ALIVE_KEY, rows.encode(now_ms))
        next_id = first_id(now_ms, stored_next_id(self._database) - 1)
        memory = MemoryStore(
            *self._limits,
            next_id,
            self._host.random,
            self._host.new_later,
            recorder,
            recorder if self._with_cache else None,
            self._complete,
            self._host.turns,
        )
        memory.queue.grace_until_ms = self._grace_until_ms
        moved = Moved(self._absences)
        recorder.moved_until_ms = moved.until_ms
        recover(self._database, memory, recorder, moved, now_ms, with_cache=self._with_cache)
        recorder.seq += seq
        self._recorder, self._memory = recorder, memory
        self._written_seq = recorder.seq
        self._writer.begin(recorder)
        self._writer.mark = self._position  # the group that carried it may be lost

    def _end_absence(self) -> None:
        """A server is up again."""
        now_ms = self._host.now_ms()
        database = self._database
        try:
            absences = decode_absences(database.get(rows.ABSENCES_KEY))
            alive = database.get(rows.ALIVE_KEY)
            alive_ms = None if alive is None else rows.decode_number(alive)
        except msgspec.DecodeError as error:
            raise JournalError(f"a row of the journal in {database.directory} makes no sense: {error!r}") from error
        self._absences = with_new(absences, alive_ms, now_ms)
        if alive_ms is not None:
            self._grace_until_ms = now_ms + self._limits[0].restart_grace_ms

    def _open_writer(self) -> None:
        """Write what recovery deleted. RocksDB has rewritten and synced all that it recovered when it opened."""
        self._gate.seq = self._persists.seq = self._written_seq
        self._writer.is_stopped = False
        self._writer.schedule()

    @property
    def figures(self) -> JournalFigures:
        """What the journal has done since the start."""
        return self._writer.figures

    # Statements.

    def execute(
        self, statement: Statement, caller: Caller, request_key: RequestKey | None, now_ms: int
    ) -> Result | Later:
        """As the memory's; the answer waits at the gate for what it may have seen."""
        if self.failure is not None and statement.effect is not _NO_EFFECT:
            raise UserError(self.failure)
        recorder, gate = self._recorder, self._gate
        outcome: Result | Later | StatementError
        try:
            outcome = self._memory.execute(statement, caller, request_key, now_ms)
        except StatementError as error:
            if recorder.seq <= gate.seq:
                raise
            outcome = error.with_traceback(None)  # which would keep the request alive
        if not recorder.is_clean and not self._writer.is_scheduled:
            self._writer.schedule()
        if type(statement) is SysCachestore:
            outcome = self._of_journal(statement) or outcome
        seq = recorder.seq
        if type(outcome) is Result:
            if seq <= gate.seq:
                return outcome
        elif not isinstance(outcome, StatementError):
            return outcome
        later = self._host.new_later(None)
        gate.waiting.append((seq, later, outcome))
        return later

    def write_ahead(self, statement: Statement) -> Later | None:
        value = _large_text(statement)
        if value is None or self.failure is not None:
            return None
        if type(statement) is CacheSet and not self._with_cache:
            return None
        later = self._host.new_later(None)
        number = self._recorder.lease(value)
        self._writer.write_ahead(number, value, partial(later.done, EMPTY_RESULT))
        return later

    def let_go(self, statement: Statement) -> None:
        value = _large_text(statement)
        if value is not None:
            self._recorder.end_lease(value)
            self._writer.schedule()

    def _complete(self, later: Later, outcome: Outcome) -> None:
        """A request that waited is released by a statement: its answer may have seen what is not durable yet."""
        if self._recorder.seq <= self._gate.seq:
            later.done(outcome)
        else:
            self._gate.waiting.append((self._recorder.seq, later, outcome))

    def _of_journal(self, statement: SysCachestore) -> Later | None:
        """SYS CACHESTORE PERSIST is answered once everything before is on the disk; COMPACTION, which takes seconds,
        at once."""
        match statement.action:
            case CachestoreAction.PERSIST if self._sync is not None and self._recorder.seq > self._persists.seq:
                later = self._host.new_later(None)
                self._persists.waiting.append((self._recorder.seq, later, EMPTY_RESULT))
                self._sync_if_due(0)
                return later
            case CachestoreAction.COMPACTION:
                self._compaction.start()
        return None

    def _on_compacted(self, failure: str | None) -> None:
        if failure is not None and not self._is_closing:
            _log.error("%s", failure)

    def give_up(self, later: Later, now_ms: int) -> None:
        self._memory.give_up(later, now_ms)

    def end_waits(self, now_ms: int) -> None:
        self._memory.end_waits(now_ms)
        while self._persists.waiting:  # `close` syncs what they wait for
            _, later, outcome = self._persists.waiting.popleft()
            later.done(outcome)

    def confirm_delivered(self, request_keys: list[RequestKey]) -> None:
        self._memory.confirm_delivered(request_keys)

    def mark_undelivered(self, request_key: RequestKey) -> None:
        self._memory.mark_undelivered(request_key)

    # The gate.

    def _on_written(self, seq: int) -> None:
        self._written_seq = seq
        if not self._waits_for_sync:
            self._gate.seq = seq
            self._host.batch(self._release)
        elif self._sync is not None:
            self._sync(seq)

    def _sync_ahead(self) -> None:
        """Have on the disk what goes ahead of groups, whatever was asked for before."""
        assert self._sync is not None
        self._sync(self._written_seq)

    def synced(self, seq: int, position: bytes = b"") -> None:
        """Everything up to `seq` is on the disk, and the log up to `position`."""
        self._writer.synced()
        if position != self._position:
            self._position = self._writer.mark = position
        self._persists.seq = max(self._persists.seq, seq)
        while self._persists.release():
            pass
        if self._waits_for_sync and seq > self._gate.seq:
            self._gate.seq = seq
            self._host.batch(self._release)

    def _release(self) -> None:
        """Let out what is durable; the rest of many in the next turns of the loop."""
        gate = self._gate
        if gate.release():
            turns = at_once if self._is_closing else self._host.turns
            turns(iter(gate.release, False))

    def _sync_if_due(self, now_ms: int) -> None:
        """Have what is written synced once a second, and at once when a PERSIST waits."""
        if self._waits_for_sync or self._sync is None or self._written_seq <= self._persists.seq:
            return
        if self._persists.waiting or _is_due(now_ms, self._next_sync_ms, _SYNC_INTERVAL_MS):
            self._next_sync_ms = now_ms + _SYNC_INTERVAL_MS
            self._sync(self._written_seq)

    # When it fails.

    def _fail(self, reason: str) -> None:
        """Go back to what is committed, and refuse writes from now on."""
        _log.error("%s; writes are refused until it can be written again", reason)
        self.figures.failures += 1
        text = f"refused: {reason}"
        self.failure = text
        self._writer.is_stopped = True
        self._retry_at_ms = self._host.now_ms() + _RETRY_MS
        kept_seq = self._written_seq
        try:
            self._reload(self._recorder.seq + 1)
        except JournalError as error:
            self._host.fail(str(error))
            return
        self.losses += 1
        for gate in (self._gate, self._persists):
            self._host.batch(partial(gate.fail_above, kept_seq, text))
        # What the database holds may still be on its way to the disk, as before.
        self._on_written(self._written_seq)

    def _reload(self, seq: int) -> None:
        before = self._memory.queue
        self._load(seq)
        self._memory.queue.take_over(before)

    def _reopen(self) -> None:
        """Closing alone takes the database a second then."""
        self._database.try_disk()
        self._database.reopen()
        self._database.put(rows.SCHEMA_KEY, rows.encode(rows.SCHEMA))

    def _on_reopened(self, failure: str | None) -> None:
        """Opened anew, it holds what is committed, and takes writes again."""
        if self._is_closing:
            return
        self._retry_at_ms = self._host.now_ms() + _RETRY_MS
        try:
            if failure is None:
                self._reload(self._recorder.seq)
        except JournalError as error:
            failure = str(error)
        if failure is not None:
            _log.warning("the journal still cannot be written: %s", failure)
            return
        self.failure = None
        self._open_writer()
        self._host.batch(self._release)
        _log.info("the journal can be written again")

    # Looking after it.

    def tick(self, now_ms: int, max_rows: int) -> bool:
        """As the memory's; a sync once a second, and another try when the journal could not be written."""
        if self.failure is not None and now_ms >= self._retry_at_ms and not self._compaction.is_running:
            self._reopening.start()  # it closes the database, which nobody else may be in
        self._sync_if_due(now_ms)
        self._writer.write_mark()
        if self._lag_seq <= self._gate.seq:
            self._lag_seq, self._lag_since_ms = self._recorder.seq, now_ms
        if _is_due(now_ms, self._next_alive_ms, _ALIVE_INTERVAL_MS):
            self._next_alive_ms = now_ms + _ALIVE_INTERVAL_MS
            self._note_alive(now_ms)
        if now_ms >= self._next_measure_ms:
            self._next_measure_ms = now_ms + _MEASURE_INTERVAL_MS
            self.figures.size_bytes = self._database.size_bytes()
        has_more = self._memory.tick(now_ms, max_rows)
        if not self._recorder.is_clean:
            self._writer.schedule()
        return has_more

    def _note_alive(self, now_ms: int) -> None:
        """Only rows of the queue are moved by an absence."""
        queue = self._memory.queue
        if self.failure is None and (queue.items.by_id or queue.results.table.by_id):
            self._recorder.note(rows.ALIVE_KEY, rows.encode(now_ms))

    def close(self) -> None:
        """Write and sync what is left, however long that takes. Raises `JournalError` when it fails."""
        self._is_closing = True
        if self._reopening.is_running:
            return  # there is nothing left, and the directory goes with the process
        self._note_alive(self._host.now_ms())
        self._memory.queue.end_observation(self._host.now_ms())
        self._writer.finish()
        if self.failure is None:
            self._database.sync()
        if self._compaction.is_running:
            self._database.stop_compacting()
            self._compaction.wait()
            with contextlib.suppress(JournalError):  # all is synced, and what it stopped is done again some day
                self._database.close()
        else:
            self._database.close()

    # What people look at.

    def settled(self, losses: int) -> Later | None:
        """None when what was read is durable, else a `Later` that is done when it is."""
        if losses != self.losses:
            raise UserError(SEEN_WAS_LOST)
        if self._recorder.seq <= self._gate.seq:
            return None
        later = self._host.new_later(None)
        self._gate.waiting.append((self._recorder.seq, later, EMPTY_RESULT))
        return later

    def read_table(self, table: SystemTable) -> AsyncIterator[list[Row]]:
        return self._memory.read_table(table)

    def take_cancels(self) -> list[EndedItem]:
        return self._memory.take_cancels()

    async def queue_stats(self) -> QueueStatsTable:
        return await self._memory.queue_stats()

    def queue_figures(self, now_ms: int) -> AsyncIterator[list[QueueFigures]]:
        return self._memory.queue_figures(now_ms)

    def waited_prefixes(self) -> AsyncIterator[list[Path | None]]:
        return self._memory.waited_prefixes()

    async def cache_totals(self) -> PrefixTotalsTable:
        return await self._memory.cache_totals()

    def _lag_ms(self) -> int:
        """For how long at least the oldest change that is not durable waits; a tick notes one now and then."""
        return 0 if self._lag_seq <= self._gate.seq else max(0, self._host.now_ms() - self._lag_since_ms)

    def gauges(self) -> dict[str, int]:
        figures = self.figures
        return {
            **self._memory.gauges(),
            "journal_bytes": figures.size_bytes,
            "journal_groups": figures.groups,
            "journal_rows": figures.rows,
            "journal_failures": figures.failures,
            "journal_lag": self._recorder.seq - self._gate.seq,
            "journal_lag_ms": self._lag_ms(),
        }


def _large_text(statement: Statement) -> bytes | None:
    """The text of a statement that is stored as it is, if it is large."""
    match statement:
        case QueueAdd() | QueueAddAndRetrieve():
            text: bytes | None = statement.payload
        case QueueAck() | CacheSet():
            text = statement.value
        case _:
            return None
    return text if text is not None and len(text) > LARGE_BYTES else None


def _is_due(now_ms: int, due_ms: int, interval_ms: int) -> bool:
    """Whether it is time; also when the clock has stepped back by more than an interval."""
    return now_ms >= due_ms or now_ms < due_ms - 2 * interval_ms
