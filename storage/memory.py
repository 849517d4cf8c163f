"""The in-process store: the whole state machine in memory, every answer at once (`storage.engine.Store`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from storage.answers import Answers
from storage.cache.statements import Cache
from storage.cache.totals import PrefixTotalsTable
from storage.effects import Effects
from storage.engine import Caller, Pending, Reply, RequestKey
from storage.errors import InternalError, UserError
from storage.limits import AnswerLimits, CacheLimits, QueueLimits
from storage.paths import prefix_of
from storage.queue.handover import NO_RESULT
from storage.queue.statements import Handler, Handlers, Queue
from storage.queue.stats import QueueFigures, QueueStatsTable
from storage.queue.waiters import Waiter
from storage.system_tables import SystemTable, TableReading, read_table
from storage.vocabulary import (
    EMPTY_RESULT,
    INFO_COLUMNS,
    CachestoreAction,
    Cell,
    Path,
    QueueResult,
    QueueResultBlocking,
    QueueRetrieve,
    Result,
    Statement,
    SysCachestore,
)

# Statements that often change nothing, and then may as well be executed again: no answer is kept of those.
_KEPT_IF_CHANGED = frozenset({QueueRetrieve, QueueResult, QueueResultBlocking})


class MemoryStore:
    """Queue, cache and kept answers of one server. Nothing outlasts the process, so no reply waits for a disk.

    `first_id` is the id of the first item (`storage.ids.first_id`), `random` draws from [0, 1). `effects` is told
    what changes in the queue and in the kept answers, `cache_effects` what changes in the cache; they may be one.
    """

    def __init__(  # noqa: PLR0917  # each is of its own type
        self,
        queue_limits: QueueLimits,
        cache_limits: CacheLimits,
        answer_limits: AnswerLimits,
        first_id: int,
        random: Callable[[], float],
        effects: Effects | None = None,
        cache_effects: Effects | None = None,
    ) -> None:
        self._effects = Effects() if effects is None else effects
        self.answers = Answers(answer_limits, self._effects)
        self.queue = Queue(queue_limits, first_id, self._effects, self._wake)
        self.cache = Cache(cache_limits, random, self._effects if cache_effects is None else cache_effects)
        self._handlers: Handlers = {
            **self.queue.handlers,
            **self.cache.handlers,
            SysCachestore: self._cachestore,
        }

    # Sequence numbers: here an effect is as durable as it will ever be once it is applied.

    @property
    def applied_seq(self) -> int:
        return self._effects.seq

    @property
    def durable_seq(self) -> int:
        return self._effects.seq

    def on_durable(self, callback: Callable[[], None]) -> None:
        """Never calls back: `durable_seq` is never behind, so there is nothing that anybody could wait for."""

    def on_failed(self, callback: Callable[[str, int], None]) -> None:
        """Never calls back: nothing can be lost that was applied."""

    # Statements.

    def execute(
        self, statement: Statement, caller: Caller, request_key: RequestKey | None, now_ms: int
    ) -> Reply | Pending:
        """Carry a statement out, or give the kept answer. O(1) on top of what the statement costs."""
        handler = self._handlers.get(type(statement))
        if handler is None:
            raise InternalError(f"{type(statement).__name__} is not for the store")
        queue, answers = self.queue, self.answers
        if queue.items.due_ms <= now_ms or queue.handover.results.due_ms <= now_ms or answers.due_ms <= now_ms:
            self._expire(now_ms)
        if request_key is None or not statement.has_effects:
            outcome = handler(statement, caller, now_ms)
        elif (kept := answers.find(request_key)) is not None:
            outcome = kept
        else:
            outcome = self._execute_and_keep(handler, statement, caller, request_key, now_ms)
        return Reply(outcome, self._effects.seq) if type(outcome) is Result else outcome

    def _execute_and_keep(
        self, handler: Handler, statement: Statement, caller: Caller, request_key: RequestKey, now_ms: int
    ) -> Result | Pending:
        """Carry out a statement whose answer is kept for one who asks again."""
        if not self.answers.make_room():
            raise UserError(
                "refused: the answers kept for clients that might ask again fill the room that"
                " CUBEQUEUE_ANSWERS_MAX_SIZE allows, and none of them is known to have arrived"
            )
        seq_before = self._effects.seq
        outcome = handler(statement, caller, now_ms)
        if type(outcome) is Result:
            if self._effects.seq != seq_before:
                group = self._effects.answer_kept(request_key, outcome, now_ms)
                self.answers.keep(request_key, outcome, now_ms, group)
            elif type(statement) not in _KEPT_IF_CHANGED:
                self.answers.keep(request_key, outcome, now_ms)
        elif isinstance(outcome, Waiter):
            outcome.request_key = request_key
        return outcome

    def _cachestore(self, ask: SysCachestore, caller: Caller, now_ms: int) -> Result:
        """`SYS CACHESTORE …` (commands.md §6)."""
        match ask.action:
            case CachestoreAction.INFO:
                return Result(INFO_COLUMNS, self._info_rows(now_ms))
            case CachestoreAction.EVICTION:
                return Result(INFO_COLUMNS, self.cache.evict(now_ms))
            case CachestoreAction.WIPE | CachestoreAction.TRUNCATE:
                self.queue.clear(None, caller, now_ms)
                self.cache.clear(now_ms)
            case CachestoreAction.COMPACTION | CachestoreAction.HEALTHCHECK | CachestoreAction.PERSIST:
                pass  # expired rows go by themselves, nothing can be unusable, and nothing is on a disk
        return EMPTY_RESULT

    def _info_rows(self, now_ms: int) -> list[tuple[Cell, ...]]:
        return [
            *self.cache.table_stats(now_ms).rows("CacheItems"),
            *self.queue.items.stats().rows("QueueItems"),
            *self.queue.handover.results.stats().rows("QueueResults"),
        ]

    # Waits.

    def give_up(self, pending: Pending, now_ms: int) -> None:
        """End a wait with zero rows, unless it was answered already. O(1)."""
        if isinstance(pending, Waiter) and self.queue.handover.waiters.remove(pending):
            pending.answer(Reply(NO_RESULT, self._effects.seq))

    def end_waits(self, now_ms: int) -> None:
        """End all waits with zero rows. O(waiters)."""
        reply = Reply(NO_RESULT, self._effects.seq)
        for waiter in self.queue.handover.waiters.pop_all():
            waiter.answer(reply)

    def _wake(self, waiters: list[Waiter], result: Result, now_ms: int) -> None:
        """Answer those whom an ACK releases; their answers are kept first, whether anybody listens or not."""
        owed = {waiter.request_key for waiter in waiters} - {None}
        for waiter in waiters:
            if waiter.request_key is not None and self.answers.find(waiter.request_key) is None:
                group = self._effects.answer_kept(waiter.request_key, result, now_ms)
                self.answers.keep(waiter.request_key, result, now_ms, group, len(owed))
        reply = Reply(result, self._effects.seq)
        for waiter in waiters:
            waiter.answer(reply)

    # Kept answers.

    def confirm_delivered(self, request_keys: list[RequestKey]) -> None:
        """O(keys)."""
        for request_key in request_keys:
            self.answers.confirm(request_key)

    def mark_undelivered(self, request_key: RequestKey) -> None:
        """O(1)."""
        self.answers.mark_undelivered(request_key)

    # Looking after it.

    def tick(self, now_ms: int, max_rows: int) -> bool:
        """Background work of about `max_rows` rows; True when more is due."""
        self._expire(now_ms)
        queue_has_more = self.queue.tick(max_rows)
        cache_has_more = self.cache.tick(now_ms, max_rows)
        return queue_has_more or cache_has_more

    def _expire(self, now_ms: int) -> None:
        self.queue.expire(now_ms)
        self.answers.expire(now_ms)

    def read_table(self, table: SystemTable) -> TableReading:
        """Begin to read all rows of a table. O(rows), about ten nanoseconds each."""
        return read_table(table, self.queue, self.cache)

    def depths(self) -> Iterator[tuple[Path, int, int]]:
        """Prefix, pending and active items of each queue. O(queues)."""
        return self.queue.items.depths()

    def queue_stats(self) -> QueueStatsTable:
        """What happened in each queue since the start; to be read only."""
        return self.queue.stats

    def queue_figures(self, now_ms: int) -> Iterator[QueueFigures]:
        """How each queue stands. O(queues), and it may be read in slices."""
        queues = list(self.queue.items.queues.values())
        return (queue.figures(now_ms) for queue in queues)

    def waited_prefixes(self) -> Iterator[Path | None]:
        """The queue that each RESULT_BLOCKING waits for, None when that is not known. May be read in slices."""
        by_id = self.queue.items.by_id
        for key in self.queue.handover.waiters.keys():  # noqa: SIM118  # it is no dict
            path = key if isinstance(key, bytes) else by_id[key].path if key in by_id else None
            yield None if path is None else prefix_of(path)

    def cache_totals(self) -> PrefixTotalsTable:
        """What CACHE GET found by prefix; to be read only."""
        return self.cache.totals

    def gauges(self) -> dict[str, int]:
        """O(1)."""
        return {
            **self.queue.gauges(),
            **self.cache.gauges(),
            "answers": len(self.answers),
            "answers_unconfirmed": self.answers.unconfirmed_count,
            "answer_bytes": self.answers.size_bytes,
        }

    def check_invariants(self) -> None:
        """O(n)."""
        self.queue.check_invariants()
        self.cache.check_invariants()
        self.answers.check_invariants()
