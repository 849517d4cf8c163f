"""A second opinion on the semantics: the whole state machine as lists and scans, written from the specification alone.

`NaiveStore` is an engine (`storage.engine.Engine`) with gauges: it passes the same conformance suite as all others and
can stand beside one in `machine.py`. It is slow on purpose: nothing is indexed, nothing is counted ahead, and every
rule cites its section. What has expired is dropped, for good, whenever the clock is shown to it; so a step back of
the clock brings nothing back to life, and a `tick` changes nothing that a statement could see.
"""

from __future__ import annotations

from typing import assert_never

from storage.asking import Caller, Later
from storage.limits import AnswerLimits, CacheLimits, QueueLimits
from storage.vocabulary import (
    ADD_AND_RETRIEVE_COLUMNS,
    NO_COLUMNS,
    PAYLOAD_COLUMNS,
    RESULT_COLUMNS,
    RETRIEVE_COLUMNS,
    CacheClear,
    CacheGet,
    CacheIncr,
    CacheKeys,
    CacheRemove,
    CacheSet,
    CachestoreAction,
    Effect,
    QueueAck,
    QueueActive,
    QueueAdd,
    QueueAddAndRetrieve,
    QueueCancel,
    QueueClear,
    QueueGet,
    QueueHeartbeat,
    QueueList,
    QueueMergeExtra,
    QueueOrphaned,
    QueuePending,
    QueueResult,
    QueueResultBlocking,
    QueueRetrieve,
    QueueStalled,
    QueueToCancel,
    RequestKey,
    Result,
    Statement,
    SysCachestore,
)
from tests.model import naive_sys
from tests.model.naive_cache import NaiveCache
from tests.model.naive_queue import NaiveQueue
from tests.model.records import ACTIVE, PENDING, Answer, BoundError, Waiter


class NaiveStore:
    """Queue, cache and kept answers of one server."""

    def __init__(
        self,
        queue_limits: QueueLimits | None = None,
        cache_limits: CacheLimits | None = None,
        answer_limits: AnswerLimits | None = None,
        first_id: int = 1,
        *,
        evicts: bool = True,
    ) -> None:
        self.queue = NaiveQueue(queue_limits or QueueLimits(), first_id, self._wake)
        self.cache = NaiveCache(cache_limits or CacheLimits(), evicts=evicts)
        self.answer_limits = answer_limits or AnswerLimits()
        self.answers: list[Answer] = []

    def execute(
        self, statement: Statement, caller: Caller, request_key: RequestKey | None, now_ms: int
    ) -> Result | Later:
        self.strike(now_ms)
        keeps = statement.effect is Effect.KEPT and request_key is not None
        if keeps:
            kept = self.kept(request_key)
            if kept:
                return kept.result
            self._demand_room(statement, request_key, caller)
        outcome = self._carry_out(statement, caller, request_key, now_ms)
        if keeps and isinstance(outcome, Result):
            self._keep(request_key, outcome, now_ms, caller.host)
        return outcome

    def _carry_out(self, ask: Statement, caller: Caller, request_key: RequestKey | None, now_ms: int) -> Result | Later:
        queue, cache = self.queue, self.cache
        match ask:
            case QueueAdd():
                return queue.add(ask, caller, now_ms)
            case QueueAddAndRetrieve():
                return queue.add_and_retrieve(ask, caller, now_ms)
            case QueueRetrieve():
                return queue.retrieve(ask, caller, now_ms)
            case QueueGet():
                return queue.get(ask)
            case QueueList() | QueuePending() | QueueActive():
                return queue.list_items(ask, caller)
            case QueueStalled() | QueueOrphaned() | QueueToCancel():
                return queue.to_cancel(ask, now_ms)
            case QueueHeartbeat():
                return queue.heartbeat(ask, now_ms)
            case QueueMergeExtra():
                return queue.merge_extra(ask)
            case QueueCancel():
                return queue.cancel(ask)
            case QueueAck():
                return queue.ack(ask, now_ms)
            case QueueResult():
                return queue.result(ask)
            case QueueResultBlocking():
                return queue.result_blocking(ask, request_key)
            case QueueClear():
                return queue.clear()
            case CacheSet():
                return cache.set(ask, now_ms)
            case CacheGet():
                return cache.get(ask, now_ms)
            case CacheKeys():
                return cache.keys(ask)
            case CacheIncr():
                return cache.incr(ask, now_ms)
            case CacheRemove():
                return cache.remove(ask)
            case CacheClear():
                return cache.clear()
            case SysCachestore():
                return self._sys(ask.action, now_ms)
        raise NotImplementedError(ask)

    def _sys(self, action: CachestoreAction, now_ms: int) -> Result:
        """commands.md §6. WIPE and TRUNCATE empty everything but the ids, which go on (decisions)."""
        match action:
            case CachestoreAction.WIPE | CachestoreAction.TRUNCATE:
                self.queue.clear()
                self.cache.clear()
            case CachestoreAction.EVICTION:
                return naive_sys.evict(self.cache, now_ms)
            case CachestoreAction.INFO:
                return naive_sys.info(self.queue, self.cache)
            case CachestoreAction.COMPACTION | CachestoreAction.HEALTHCHECK | CachestoreAction.PERSIST:
                pass
            case CachestoreAction.END_DROP_GUARD:  # no key that it guards is among those of the model
                pass
            case _:
                assert_never(action)
        return Result(NO_COLUMNS, [])

    # Waiting.

    def _wake(self, waiter: Waiter, result: Result, now_ms: int) -> None:
        if waiter.request_key is not None:
            self._keep(waiter.request_key, result, now_ms)
        waiter.later.done(result)

    def give_up(self, later: Later, now_ms: int) -> None:
        """The timeout: zero rows (commands.md §4.11), unless it was answered already."""
        self.strike(now_ms)
        for waiter in [waiter for waiter in self.queue.waiters if waiter.later is later]:
            self.queue.waiters.remove(waiter)
            self._wake(waiter, Result(RESULT_COLUMNS, []), now_ms)

    def end_waits(self, now_ms: int) -> None:
        for waiter in list(self.queue.waiters):
            self.give_up(waiter.later, now_ms)

    # Kept answers (wire.md §3; decisions, "De-duplication").

    def kept(self, request_key: RequestKey | None) -> Answer | None:
        return next((answer for answer in self.answers if answer.request_key == request_key), None)

    def _keep(self, request_key: RequestKey | None, result: Result, now_ms: int, host: str = "") -> None:
        if request_key is not None:
            self.answers.append(Answer(request_key, result, now_ms, host))

    def _demand_room(self, statement: Statement, request_key: RequestKey | None, caller: Caller) -> None:
        """Confirmed answers go first; then each sender has a share of what is free (docs/protocol.md, §1).

        Left out, and met by no test here: answers to claims of large items, and one result for many requests.
        """
        assert request_key is not None
        quarter = self.answer_limits.max_bytes // 4
        room = self.answer_limits.max_bytes - quarter if statement.has_texts else quarter
        pool = [answer for answer in self.answers if _has_texts(answer) is statement.has_texts]
        while sum(map(_answer_bytes, pool)) > room // 2 and any(answer.confirmed for answer in pool):
            confirmed = next(answer for answer in pool if answer.confirmed)
            pool.remove(confirmed)
            self.answers.remove(confirmed)
        free = room - sum(map(_answer_bytes, pool))
        user, connection, _ = request_key
        same_owner = [a for a in pool if (a.request_key[0] or a.host) == (user or caller.host)]
        owner_bytes = sum(map(_answer_bytes, same_owner))
        connection_bytes = sum(_answer_bytes(answer) for answer in same_owner if answer.request_key[1] == connection)
        if free > 0 and (owner_bytes <= free or (owner_bytes <= 3 * free and 4 * connection_bytes <= free)):
            return
        raise BoundError("CUBEQUEUE_ANSWERS_MAX_SIZE")

    def confirm_delivered(self, request_keys: list[RequestKey]) -> None:
        for answer in self.answers:
            if answer.request_key in request_keys:
                answer.confirmed, answer.undelivered = True, False

    def mark_undelivered(self, request_key: RequestKey) -> None:
        for answer in self.answers:
            if answer.request_key == request_key:
                answer.confirmed, answer.undelivered = False, True

    # Time.

    def strike(self, now_ms: int) -> None:
        """Whatever has reached its end is gone."""
        self.queue.strike(now_ms)
        self.cache.strike(now_ms)
        self.answers = [answer for answer in self.answers if self.answer_end(answer) > now_ms]

    def answer_end(self, answer: Answer) -> int:
        limits = self.answer_limits
        return answer.answered_ms + (limits.keep_undelivered_ms if answer.undelivered else limits.keep_ms)

    def tick(self, now_ms: int, max_rows: int) -> bool:
        self.strike(now_ms)
        self.cache.tick(now_ms)
        return False

    def gauges(self) -> dict[str, int]:
        """Counted on the spot; of the cache only what every engine counts alike."""
        items, results = self.queue.items, self.queue.results
        return {
            "queue_items": len(items),
            "queue_pending": sum(item.status == PENDING for item in items),
            "queue_active": sum(item.status == ACTIVE for item in items),
            "queue_bytes": sum(item.size for item in items),
            "queue_results": len(results),
            "queue_result_bytes": sum(len(result.value) for result in results),
            "waiters": len(self.queue.waiters),
        }

    def check_invariants(self) -> None:
        """Ids are unique and below 2^53 (decisions, "Ids, time, texts"); a path has one item."""
        ids = [item.id for item in self.queue.items]
        paths = [item.path for item in self.queue.items]
        assert len(set(ids)) == len(ids)
        assert all(id_ < self.queue.next_id < 1 << 53 for id_ in ids)
        assert len(set(paths)) == len(paths)
        assert len({entry.path for entry in self.cache.entries}) == len(self.cache.entries)


def _has_texts(answer: Answer) -> bool:
    columns = answer.result.columns
    return columns in {ADD_AND_RETRIEVE_COLUMNS, PAYLOAD_COLUMNS, RESULT_COLUMNS, RETRIEVE_COLUMNS}


def _answer_bytes(answer: Answer) -> int:
    """Half a kilobyte and the texts (docs/protocol.md, §1)."""
    cells = [cell for row in answer.result.rows for cell in row]
    return 512 + sum(len(cell) for cell in cells if isinstance(cell, bytes) and _has_texts(answer))
