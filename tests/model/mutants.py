"""Small faults to plant in the in-process store, each of a kind that a real change might bring in.

Most stand around `execute` and twist what goes in or comes out, so that they outlive changes within the store; the
others replace one method inside it for the length of a test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

import pytest
from msgspec.structs import replace

import storage.queue.statements
from storage.asking import Caller, Later
from storage.cache.eviction import LruOrder
from storage.memory import MemoryStore
from storage.queue.merge import merge_extra
from storage.queue.results import ResultTable
from storage.queue.waiters import Waiters
from storage.vocabulary import (
    EMPTY_RESULT,
    CacheIncr,
    CacheKeys,
    CacheSet,
    Path,
    QueueAck,
    QueueAdd,
    QueueAddAndRetrieve,
    QueueCancel,
    QueueClear,
    QueueGet,
    QueueHeartbeat,
    QueueList,
    QueueResult,
    QueueRetrieve,
    QueueStalled,
    RequestKey,
    Result,
    Statement,
)
from tests.asking import Told
from tests.conformance.engines import FIRST_ID, Limits

Execute: TypeAlias = Callable[[Statement, Caller, RequestKey | None, int], Result | Later]
Twist: TypeAlias = Callable[[Execute, Statement, Caller, RequestKey | None, int], Result | Later]


@dataclass(frozen=True)
class Mutant:
    """A store with a fault around `execute`, within it (`plant`), or in its background work."""

    name: str
    twist: Twist | None = None
    plant: Callable[[pytest.MonkeyPatch], None] | None = None

    def open(self, limits: Limits) -> MemoryStore:
        twist = self.twist

        class Faulty(MemoryStore):
            def execute(
                self, statement: Statement, caller: Caller, request_key: RequestKey | None, now_ms: int
            ) -> Result | Later:
                if twist is None:
                    return super().execute(statement, caller, request_key, now_ms)
                return twist(super().execute, statement, caller, request_key, now_ms)

        return Faulty(limits.queue, limits.cache, limits.answers, FIRST_ID, Random(0).random, Told)


def rewriting(rewrite: Callable[[Statement], Statement]) -> Twist:
    """A fault that is the right execution of another statement."""
    return lambda execute, ask, caller, key, now_ms: execute(rewrite(ask), caller, key, now_ms)


def _one_more_may_be_active(ask: Statement) -> Statement:
    return replace(ask, concurrency=ask.concurrency + 1) if isinstance(ask, QueueRetrieve) else ask


def _an_item_is_its_own_backlog(ask: Statement) -> Statement:
    return replace(ask, concurrency=max(ask.concurrency - 1, 0)) if isinstance(ask, QueueAddAndRetrieve) else ask


def _stalled_too_early(ask: Statement) -> Statement:
    return replace(ask, heartbeat_timeout_ms=ask.heartbeat_timeout_ms - 1) if isinstance(ask, QueueStalled) else ask


def _orphaned_in_the_wrong_unit(ask: Statement) -> Statement:
    return replace(ask, orphaned_s=ask.orphaned_s // 1_000) if isinstance(ask, QueueAdd) and ask.orphaned_s else ask


def _nx_overwrites(ask: Statement) -> Statement:
    return replace(ask, nx=False) if isinstance(ask, CacheSet) else ask


def _keys_cuts_every_tail(ask: Statement) -> Statement:
    return CacheKeys(ask.prefix.rstrip(b":*").rpartition(b":")[0]) if isinstance(ask, CacheKeys) else ask


def _external_id_is_ignored(ask: Statement) -> Statement:
    return replace(ask, external_id=None) if isinstance(ask, QueueResult) else ask


def _ack_null_stores(ask: Statement) -> Statement:
    return replace(ask, value=b"") if isinstance(ask, QueueAck) and ask.value is None else ask


def _priorities_are_ignored(
    execute: Execute, ask: Statement, caller: Caller, key: RequestKey | None, now_ms: int
) -> Result | Later:
    outcome = execute(ask, caller, key, now_ms)
    if isinstance(ask, QueueList) and isinstance(outcome, Result):
        return Result(outcome.columns, sorted(outcome.rows, key=lambda row: int(row[1] or 0)))
    return outcome


def _a_result_outlives_its_end(
    execute: Execute, ask: Statement, caller: Caller, key: RequestKey | None, now_ms: int
) -> Result | Later:
    return execute(ask, caller, key, now_ms - 1 if isinstance(ask, QueueResult) else now_ms)


def _an_item_outlives_its_end(
    execute: Execute, ask: Statement, caller: Caller, key: RequestKey | None, now_ms: int
) -> Result | Later:
    return execute(ask, caller, key, now_ms - 1 if isinstance(ask, QueueGet) else now_ms)


def _a_repeat_is_executed_again(
    execute: Execute, ask: Statement, caller: Caller, key: RequestKey | None, now_ms: int
) -> Result | Later:
    return execute(ask, caller, None, now_ms)


def _incr_drops_the_ttl(
    execute: Execute, ask: Statement, caller: Caller, key: RequestKey | None, now_ms: int
) -> Result | Later:
    outcome = execute(ask, caller, key, now_ms)
    if isinstance(ask, CacheIncr) and isinstance(outcome, Result):
        value = outcome.rows[0][0]
        assert isinstance(value, bytes)
        execute(CacheSet(ask.path, value), caller, None, now_ms)
    return outcome


def _cancel_wakes(
    execute: Execute, ask: Statement, caller: Caller, key: RequestKey | None, now_ms: int
) -> Result | Later:
    if not isinstance(ask, QueueCancel) or key is not None:
        return execute(ask, caller, key, now_ms)
    outcome = execute(QueueGet(ask.key), caller, None, now_ms)
    execute(QueueAck(ask.key, None), caller, None, now_ms)
    return outcome


def _a_heartbeat_is_lost(
    execute: Execute, ask: Statement, caller: Caller, key: RequestKey | None, now_ms: int
) -> Result | Later:
    if isinstance(ask, QueueHeartbeat):
        return EMPTY_RESULT
    return execute(ask, caller, key, now_ms)


def _only_one_waiter_is_woken(patch: pytest.MonkeyPatch) -> None:
    pop = Waiters.pop

    def first(self: Waiters, key: int | Path) -> list[Later]:
        return pop(self, key)[:1]

    patch.setattr(Waiters, "pop", first)


def _anybody_may_claim(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(storage.queue.statements, "_may_claim", lambda *_: True)


def _old_members_win(patch: pytest.MonkeyPatch) -> None:
    swapped = lambda stored, new: merge_extra(new if stored else None, stored or new)  # noqa: E731
    patch.setattr(storage.queue.statements, "merge_extra", swapped)


def _a_path_reader_takes_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ResultTable, "take", lambda *_: None)


def _a_get_is_no_use(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LruOrder, "use", lambda *_: None)


def _ids_restart_with_clear(patch: pytest.MonkeyPatch) -> None:
    clear = storage.queue.statements.Queue.clear

    def restarting(self: storage.queue.statements.Queue, ask: QueueClear | None, caller: Caller, now_ms: int) -> Result:
        self.next_id = FIRST_ID
        return clear(self, ask, caller, now_ms)

    patch.setattr(storage.queue.statements.Queue, "clear", restarting)


def _a_tick_comes_early(patch: pytest.MonkeyPatch) -> None:
    tick = MemoryStore.tick
    patch.setattr(MemoryStore, "tick", lambda self, now_ms, max_rows: tick(self, now_ms + 5_000, max_rows))


MUTANTS = [
    Mutant("one more may be active", rewriting(_one_more_may_be_active)),
    Mutant("an item is its own backlog", rewriting(_an_item_is_its_own_backlog)),
    Mutant("stalled one millisecond early", rewriting(_stalled_too_early)),
    Mutant("ORPHANED in the wrong unit", rewriting(_orphaned_in_the_wrong_unit)),
    Mutant("SET NX overwrites", rewriting(_nx_overwrites)),
    Mutant("KEYS cuts too much", rewriting(_keys_cuts_every_tail)),
    Mutant("RESULT ignores the external id", rewriting(_external_id_is_ignored)),
    Mutant("ACK NULL stores a result", rewriting(_ack_null_stores)),
    Mutant("LIST ignores priorities", _priorities_are_ignored),
    Mutant("a result outlives its end by a millisecond", _a_result_outlives_its_end),
    Mutant("an item outlives its end by a millisecond", _an_item_outlives_its_end),
    Mutant("a repeat is executed again", _a_repeat_is_executed_again),
    Mutant("INCR drops the TTL", _incr_drops_the_ttl),
    Mutant("CANCEL wakes", _cancel_wakes),
    Mutant("a heartbeat is lost", _a_heartbeat_is_lost),
    Mutant("only one waiter is woken", plant=_only_one_waiter_is_woken),
    Mutant("anybody may claim", plant=_anybody_may_claim),
    Mutant("old members win a merge", plant=_old_members_win),
    Mutant("a path reader takes nothing", plant=_a_path_reader_takes_nothing),
    Mutant("a GET is no use", plant=_a_get_is_no_use),
    Mutant("ids restart with CLEAR", plant=_ids_restart_with_clear),
    Mutant("a tick comes early", plant=_a_tick_comes_early),
]
