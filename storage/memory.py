"""The state machine in memory (`storage.engine.Store`): it answers at once, but for RESULT_BLOCKING."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from itertools import islice
from typing import Final, TypeVar

from storage import vocabulary
from storage.answers import Answers
from storage.asking import Caller, Later, NewLater, Outcome, Turns, at_once
from storage.cache.entry import NEVER, Entry
from storage.cache.statements import Cache
from storage.errors import InternalError
from storage.keys import prefix_of
from storage.limits import LARGE_TEXT_BYTES, AnswerLimits, CacheLimits, QueueLimits
from storage.minutes import MINUTE_MS
from storage.queue.history import EndedItem
from storage.queue.items import Item, StoredResult
from storage.queue.result_statements import NO_RESULT
from storage.queue.statements import Handlers, Queue
from storage.recorder import Recorder
from storage.releases import STEP, Kept, Release
from storage.shares import Pool
from storage.stats import PrefixTotalsTable, QueueFigures, QueueStats, QueueStatsTable
from storage.system_tables import SystemTable
from storage.vocabulary import CachestoreAction, Effect, Path, RequestKey, Result, Row, Statement

# These statements often change nothing. Then no answer is kept: they may be executed again.
_KEPT_IF_CHANGED: Final = frozenset({vocabulary.QueueRetrieve, vocabulary.QueueResult, vocabulary.QueueResultBlocking})
_KEPT: Final = Effect.KEPT

# Queues or waits in one slice of a reading: half a millisecond.
_SLICE: Final = 200
# Rows of a table in one slice, about a microsecond each.
_SLICE_ROWS: Final = 64

T = TypeVar("T")


class MemoryStore:
    """Queue, cache and kept answers of one server. Nothing outlasts the process, so no answer waits for a disk.

    `first_id` is the id of the first item (`storage.keys.first_id`), `random` draws from [0, 1). `recorder` is called
    for changes of the queue and of the kept answers, `cache_recorder` for changes of the cache; they may be one object.
    Requests that a statement releases are passed to `complete` with their answer; without it, to `Later.done`. What
    takes long is done by `turns`, in steps.
    """

    def __init__(  # noqa: PLR0917  # each is of its own type
        self,
        queue_limits: QueueLimits,
        cache_limits: CacheLimits,
        answer_limits: AnswerLimits,
        first_id: int,
        random: Callable[[], float],
        new_later: NewLater,
        recorder: Recorder | None = None,
        cache_recorder: Recorder | None = None,
        complete: Callable[[Later, Outcome], None] | None = None,
        turns: Turns = at_once,
    ) -> None:
        self._recorder = recorder
        self._complete = _complete if complete is None else complete
        self._turns = turns
        self._new_later = new_later
        self._owing: list[Kept] = []  # to requests that are being answered in steps
        self.answers = Answers(answer_limits, recorder)
        self.queue = Queue(queue_limits, first_id, recorder, new_later, self._wake, self.answers.item_gone)
        self.cache = Cache(cache_limits, random, cache_recorder)
        self._handlers: Handlers = {
            **self.queue.handlers,
            **self.cache.handlers,
            vocabulary.SysCachestore: self._cachestore,
        }

    # Statements.

    def execute(
        self, statement: Statement, caller: Caller, request_key: RequestKey | None, now_ms: int
    ) -> Result | Later:
        """Execute a statement, or return the kept answer. O(1) on top of the cost of the statement."""
        handler = self._handlers.get(type(statement))
        if handler is None:
            raise InternalError(f"{type(statement).__name__} is not for the store")
        queue, answers = self.queue, self.answers
        if queue.items.due_ms <= now_ms or queue.results.table.due_ms <= now_ms or answers.due_ms <= now_ms:
            self._expire(now_ms)
        if request_key is None or statement.effect is not _KEPT:
            return handler(statement, caller, now_ms)
        kept = answers.find(request_key)
        if kept is None and self._owing:
            kept = next((found for each in self._owing if (found := each.find(request_key)) is not None), None)
        if kept is not None:
            return kept
        pool = answers.texts if statement.has_texts else answers.small
        if pool.size_bytes >= pool.give_way_bytes:
            answers.make_room(pool)
            pool.demand_room(request_key, caller.host)
        recorder = self._recorder
        seq = 0 if recorder is None else recorder.seq
        changes = queue.claims + queue.results.takes
        outcome = handler(statement, caller, now_ms)
        if type(outcome) is not Result:
            outcome.request_key = request_key
            outcome.host = caller.host
        elif changes != queue.claims + queue.results.takes or type(statement) not in _KEPT_IF_CHANGED:
            changed = recorder is not None and recorder.seq != seq
            group = recorder.answer_kept(request_key, outcome, now_ms) if recorder is not None and changed else None
            size_bytes = answers.keep(request_key, outcome, now_ms, caller.host, pool, group)
            if size_bytes > LARGE_TEXT_BYTES:
                self.count_payload_once(request_key, outcome)
        return outcome

    def write_ahead(self, statement: Statement) -> None:
        """There is nowhere to write."""

    def let_go(self, statement: Statement) -> None:
        """Nothing was written."""

    def count_payload_once(self, request_key: RequestKey, result: Result) -> None:
        """Let the payload that the kept answer to a claim has count as its item's alone, while that is there."""
        [row] = result.rows
        if result.columns is vocabulary.RETRIEVE_COLUMNS:
            item_id = row[4]
        elif result.columns is vocabulary.ADD_AND_RETRIEVE_COLUMNS and row[4] is not None:
            item_id = row[0]
        else:
            return
        item = self.queue.items.by_id.get(int(item_id)) if isinstance(item_id, bytes) else None
        if item is not None and len(item.payload) > LARGE_TEXT_BYTES:
            self.answers.claims_item(request_key, item.id, len(item.payload))

    def _cachestore(self, ask: vocabulary.SysCachestore, caller: Caller, now_ms: int) -> Result | Later:
        """`SYS CACHESTORE …` (commands.md §6)."""
        match ask.action:
            case CachestoreAction.INFO:
                rows = self.cache.info(now_ms) + self.queue.items.info() + self.queue.results.table.info()
                return Result(vocabulary.INFO_COLUMNS, rows)
            case CachestoreAction.EVICTION:
                return self._in_steps(self.cache.evict(now_ms), now_ms)
            case CachestoreAction.WIPE | CachestoreAction.TRUNCATE:
                self.queue.clear(None, caller, now_ms)
                self.cache.clear(now_ms)
            case CachestoreAction.END_DROP_GUARD:
                self.cache.guard.end()
            case CachestoreAction.COMPACTION | CachestoreAction.HEALTHCHECK | CachestoreAction.PERSIST:
                pass  # ticks remove expired rows, no row can be damaged, and no data is on a disk
        return vocabulary.EMPTY_RESULT

    # Waits.

    def give_up(self, later: Later, now_ms: int) -> None:
        """End a wait with zero rows, unless it was answered already. O(1)."""
        if self.queue.results.waiters.remove(later):
            self._complete(later, NO_RESULT)

    def end_waits(self, now_ms: int) -> None:
        """End all waits with zero rows. O(waits), and many are answered in steps."""
        self._complete(Release(self.queue.results.waiters.pop_all(), None, self._turns), NO_RESULT)

    def _wake(self, released: list[Later], result: Result, now_ms: int) -> bool:
        """Answer requests that a statement releases. Their answers are kept, even if nobody listens any more.

        False when there is no room for one of the answers.
        """
        find = self.answers.find
        owed = {key: later for later in released if (key := later.request_key) is not None and find(key) is None}
        is_room = self._leave_out(owed, self.answers.pool_of(result))
        kept = Kept(owed, result, self.answers, self._recorder, now_ms)
        if len(released) > STEP:
            self._owing.append(kept)
            self._complete(Release(released, kept, self._turns, lambda: self._owing.remove(kept)), result)
            return is_room
        for later in released:
            kept.keep(later)
        for later in released:
            self._complete(later, result)
        return is_room

    def _leave_out(self, owed: dict[RequestKey, Later], pool: Pool) -> bool:
        """Drop the requests from `owed` whose senders have used up their share; False when there are any."""
        if pool.size_bytes < pool.give_way_bytes:
            return True
        self.answers.make_room(pool)
        without = [key for key, later in owed.items() if not pool.has_room(key, later.host)]
        for key in without:
            del owed[key]
        pool.refusals += len(without)
        return not without

    # Work in steps.

    def _in_steps(self, steps: Generator[None, None, Result], now_ms: int) -> Result | Later:
        """Carry a statement out in steps. What takes a single one is answered at once."""
        try:
            next(steps)
            while self._turns is at_once:
                next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result
        later = self._new_later(None)
        self._turns(self._go_on(steps, later, now_ms))
        return later

    def _go_on(self, steps: Generator[None, None, Result], later: Later, now_ms: int) -> Iterator[None]:
        result = yield from steps
        self._wake([later], result, now_ms)

    # Kept answers.

    def confirm_delivered(self, request_keys: list[RequestKey]) -> None:
        """O(keys)."""
        self.answers.confirm(request_keys)

    def mark_undelivered(self, request_key: RequestKey) -> None:
        """O(1)."""
        self.answers.mark_undelivered(request_key)

    # Background work.

    def tick(self, now_ms: int, max_rows: int) -> bool:
        """Background work of about `max_rows` rows; True when more is due."""
        self._expire(now_ms)
        queue_has_more = self.queue.tick(now_ms, max_rows)
        cache_has_more = self.cache.tick(now_ms, max_rows)
        answers_have_more = self.answers.tick(max_rows)
        return queue_has_more or cache_has_more or answers_have_more

    def _expire(self, now_ms: int) -> None:
        self.queue.expire(now_ms)
        self.answers.expire(now_ms)

    # `storage.engine.Inspectable`.

    losses = 0

    def settled(self, losses: int) -> Later | None:
        """None: there is no disk to wait for."""
        return None

    def read_table(self, table: SystemTable) -> AsyncIterator[list[Row]]:
        """Begin to read all rows of a table (commands.md §7). O(rows), about ten nanoseconds each.

        The rows are those of this moment, in the order of their ids or insertion. Each is read when its slice is; a
        row that is gone by then is left out. Values are references, not copies.
        """
        match table:
            case SystemTable.QUEUE:
                return _rows(list(self.queue.items.by_id.values()), self._item_row)
            case SystemTable.RESULTS:
                return _rows(list(self.queue.results.table.by_id.values()), self._result_row)
            case SystemTable.CACHE:
                return _rows(self.cache.entries(), self._entry_row)
            case SystemTable.HISTORY:
                return _rows(self.queue.history.entries(), EndedItem.row)
            case SystemTable.MINUTES:
                return _slices(self._minute_rows())

    def _item_row(self, item: Item) -> Row | None:
        if self.queue.items.by_id.get(item.id) is not item:  # in the current table: CLEAR replaces it
            return None
        prefix, colon, key = item.path.rpartition(b":")
        return (
            key,
            prefix if colon else None,
            item.created_ms,
            b"Active" if item.active else b"Pending",
            item.priority,
            item.heartbeat_ms,
            item.orphaned_ms,
            item.payload,
            item.extra,
            item.added_by.process_id,
            item.exclusive,
            item.external_id,
            None if item.claimed_by is None else item.claimed_by.process_id,
            None if item.claimed_by is None else item.claimed_by.peer.encode() or None,
        )

    def _result_row(self, result: StoredResult) -> Row | None:
        if self.queue.results.table.by_id.get(result.id) is not result:
            return None
        return result.id, result.path, result.expire_ms, result.taken, result.value, result.external_id

    def _entry_row(self, entry: Entry) -> Row | None:
        if not self.cache.holds(entry):
            return None
        prefix, colon, key = entry.path.rpartition(b":")
        expires_ms = None if entry.expires_ms == NEVER else entry.expires_ms
        return key, prefix if colon else None, expires_ms, entry.value

    def _minute_rows(self) -> Iterator[Row]:
        stats = self.queue.stats
        queues: list[tuple[Path | None, QueueStats]] = [*stats.named.items(), (None, stats.other)]
        for prefix, each in queues:
            for minute, *cells in list(each.minutes.rows()):
                yield prefix, minute * MINUTE_MS, *cells

    def take_cancels(self) -> list[EndedItem]:
        """The items that were cancelled by hand since the last call."""
        return self.queue.history.take_cancels()

    async def queue_stats(self) -> QueueStatsTable:
        """Totals of each queue since the start; read-only."""
        return self.queue.stats

    def queue_figures(self, now_ms: int) -> AsyncIterator[list[QueueFigures]]:
        """How each queue stands."""
        queues = list(self.queue.items.queues.values())
        return _slices(queue.figures(now_ms) for queue in queues)

    def waited_prefixes(self) -> AsyncIterator[list[Path | None]]:
        """The queue that each RESULT_BLOCKING waits for, None if it is not known."""
        return _slices(self._waited_prefixes())

    def _waited_prefixes(self) -> Iterator[Path | None]:
        by_id = self.queue.items.by_id
        for key in self.queue.results.waiters.keys():  # noqa: SIM118  # it is no dict
            path = key if isinstance(key, bytes) else by_id[key].path if key in by_id else None
            yield None if path is None else prefix_of(path)

    async def cache_totals(self) -> PrefixTotalsTable:
        """Totals of CACHE GET by prefix since the start; read-only."""
        return self.cache.totals

    def gauges(self) -> dict[str, int]:
        """O(1)."""
        return {
            **self.queue.gauges(),
            **self.cache.gauges(),
            **self.answers.gauges(),
        }


def _complete(later: Later, outcome: Outcome) -> None:
    later.done(outcome)


async def _slices(rows: Iterable[T]) -> AsyncIterator[list[T]]:
    iterator = iter(rows)
    while some := list(islice(iterator, _SLICE)):
        yield some


async def _rows(found: list[T], row_of: Callable[[T], Row | None]) -> AsyncIterator[list[Row]]:
    for start in range(0, len(found), _SLICE_ROWS):
        rows = map(row_of, found[start : start + _SLICE_ROWS])
        yield [row for row in rows if row is not None]
