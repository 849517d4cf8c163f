"""From the worker that acknowledges to the client that asks: RESULT and RESULT_BLOCKING (commands.md §4.11)."""

from __future__ import annotations

from collections.abc import Callable

from storage.effects import Effects
from storage.engine import Caller, Pending
from storage.errors import UserError
from storage.limits import QueueLimits
from storage.queue.items import Item
from storage.queue.results import ResultTable, StoredResult
from storage.queue.waiters import Waiter, Waiters
from storage.vocabulary import RESULT_COLUMNS, Path, QueueResult, QueueResultBlocking, Result, Value

NO_RESULT = Result(RESULT_COLUMNS, ())

_SUCCESS = b"success"
_NOBODY: list[Waiter] = []

# Called with waiters that an ACK releases, their answer, and the time.
Wake = Callable[[list[Waiter], Result, int], None]


class Handover:
    """Stored results and those who wait for one."""

    __slots__ = ("_effects", "_limits", "_wake", "results", "waiters")

    def __init__(self, limits: QueueLimits, effects: Effects, wake: Wake) -> None:
        self._limits = limits
        self._effects = effects
        self._wake = wake
        self.results = ResultTable(effects)
        self.waiters = Waiters()

    def hand_over(self, item: Item, value: Value | None, now_ms: int) -> None:
        """Store the result of an item that was just acknowledged and release all who wait for it.

        Without a value nothing is stored: whoever waits gets NULL, whoever comes later finds nothing. A woken
        waiter by id leaves the result taken, one by path leaves none. O(waiters released).
        """
        by_id = by_path = _NOBODY
        if self.waiters.count:
            by_id, by_path = self.waiters.pop(item.id), self.waiters.pop(item.path)
        if value is None:
            answer = Result(RESULT_COLUMNS, ((None, _SUCCESS, b"%d" % item.id, None),))
        else:
            expire_ms = now_ms + self._limits.results_expire_ms
            result = StoredResult(item.id, item.path, value, item.external_id, expire_ms)
            result.taken = bool(by_id)
            if not by_path:
                self.results.put(result)
            if not by_id and not by_path:
                return
            answer = _table(result)
        self._wake(by_id + by_path, answer, now_ms)

    def result(self, ask: QueueResult, caller: Caller, now_ms: int) -> Result:
        """`QUEUE RESULT`. O(1)."""
        if isinstance(ask.key, bytes):
            return self._by_path(ask.key, ask.external_id)
        return self._by_id(ask.key, ask.external_id)

    def _by_path(self, path: Path, external_id: bytes | None) -> Result:
        if external_id is not None:
            named = self.results.with_external_id(path, external_id)
            if named is not None:
                return _table(named)
        return self._take(path)

    def _take(self, path: Path) -> Result:
        """One-shot: the newest result of the path, once."""
        newest = self.results.newest(path)
        if newest is None or newest.taken:
            return NO_RESULT
        self.results.take(newest)
        return _table(newest)

    def _by_id(self, id_: int, external_id: bytes | None) -> Result:
        result = self.results.by_id.get(id_)
        if result is None:
            return NO_RESULT
        if external_id is not None and external_id != result.external_id:
            raise UserError(_mismatch(id_, external_id, result.external_id))
        return _table(result)

    def result_blocking(self, ask: QueueResultBlocking, caller: Caller, now_ms: int) -> Result | Pending:
        """`QUEUE RESULT_BLOCKING`: what RESULT answers, or a wait if that is nothing. O(1)."""
        found = self._take(ask.key) if isinstance(ask.key, bytes) else self._by_id(ask.key, None)
        if found is not NO_RESULT or ask.timeout_ms == 0:
            return found
        if self.waiters.count >= self._limits.max_waiters:
            raise UserError(
                f"QUEUE RESULT_BLOCKING refused: {self._limits.max_waiters} statements wait for a result already,"
                " which is as many as CUBEQUEUE_QUEUE_MAX_WAITERS allows"
            )
        waiter = Waiter(ask.key, ask.timeout_ms)
        self.waiters.add(waiter)
        return waiter

    def clear(self) -> ResultTable:
        """Drop all results, wake nobody; returns the old table, to be freed in slices. O(1)."""
        old, self.results = self.results, ResultTable(self._effects)
        return old


def _table(result: StoredResult) -> Result:
    return Result(RESULT_COLUMNS, ((result.value, _SUCCESS, b"%d" % result.id, result.external_id),))


def _mismatch(id_: int, expected: bytes, actual: bytes | None) -> str:
    got = "None"
    if actual is not None:
        quoted = actual.decode(errors="replace").replace("\\", "\\\\").replace('"', '\\"')
        got = f'Some("{quoted}")'
    return f"Queue result (id = {id_}) external_id mismatch: expected {expected.decode(errors='replace')}, got {got}"
