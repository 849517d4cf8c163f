"""From the worker that acknowledges to the client that asks: RESULT and RESULT_BLOCKING (commands.md §4.11)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from storage.asking import Caller, Later, NewLater
from storage.errors import UserError
from storage.limits import QueueLimits
from storage.queue.items import Item, StoredResult
from storage.queue.results import ResultTable
from storage.queue.waiters import Waiters
from storage.recorder import Recorder
from storage.vocabulary import RESULT_COLUMNS, Path, QueueResult, QueueResultBlocking, Result, Value

NO_RESULT = Result(RESULT_COLUMNS, ())

_SUCCESS = b"success"
_NOBODY: list[Later] = []

# Called with the requests that an ACK releases, their answer, and the time. False when the answer of one of them cannot
# be kept: there is no room for it.
Wake: TypeAlias = Callable[[list[Later], Result, int], bool]


class Results:
    """Stored results and the requests that wait for one. `takes` counts the results that were taken by a reader."""

    __slots__ = ("_limits", "_new_later", "_recorder", "_wake", "table", "takes", "waiters")

    def __init__(self, limits: QueueLimits, recorder: Recorder | None, new_later: NewLater, wake: Wake) -> None:
        self._limits = limits
        self._recorder = recorder
        self._new_later = new_later
        self._wake = wake
        self.table = ResultTable(recorder)
        self.waiters = Waiters()
        self.takes = 0

    def hand_over(self, item: Item, value: Value | None, now_ms: int) -> None:
        """Store the result of an item that was just acknowledged and release all requests that wait for it.

        Without a value nothing is stored: requests that wait get NULL, later ones find nothing. A request that was
        released by id leaves the result taken, one by path leaves none, unless its answer cannot be kept: then it finds
        the result if it asks again. O(requests released), 0.5 µs each; many are answered later, in steps.
        """
        by_id = by_path = _NOBODY
        if self.waiters.count:
            by_id, by_path = self.waiters.pop(item.id), self.waiters.pop(item.path)
        if value is None:
            self._wake(by_id + by_path, Result(RESULT_COLUMNS, ((None, _SUCCESS, b"%d" % item.id, None),)), now_ms)
            return
        expire_ms = now_ms + self._limits.results_expire_ms
        result = StoredResult(item.id, item.path, value, item.external_id, expire_ms)
        if not by_path:
            result.taken = bool(by_id)
            self.table.put(result)
        if (by_id or by_path) and not self._wake(by_id + by_path, _table(result), now_ms) and by_path:
            self.table.put(result)

    def result(self, ask: QueueResult, caller: Caller, now_ms: int) -> Result:
        """`QUEUE RESULT`. O(1)."""
        key, external_id = ask.key, ask.external_id
        if isinstance(key, int):
            return self._by_id(key, external_id)
        if external_id is not None:
            named = self.table.with_external_id(key, external_id)
            if named is not None:
                return _table(named)
        return self._take(key)

    def _take(self, path: Path) -> Result:
        """One-shot: the newest result of the path, once."""
        newest = self.table.newest.get(path)
        if newest is None or newest.taken:
            return NO_RESULT
        self.takes += 1
        self.table.take(newest)
        return _table(newest)

    def _by_id(self, id_: int, external_id: bytes | None) -> Result:
        result = self.table.by_id.get(id_)
        if result is None:
            return NO_RESULT
        if external_id is not None and external_id != result.external_id:
            raise UserError(mismatch(id_, external_id, result.external_id))
        return _table(result)

    def result_blocking(self, ask: QueueResultBlocking, caller: Caller, now_ms: int) -> Result | Later:
        """`QUEUE RESULT_BLOCKING`: what RESULT answers, or a wait if that is nothing. O(1).

        One that would have waited leaves the result taken, as one that the ACK released does: else the next RESULT by
        path gets this result again instead of running the query anew. Without a timeout it is a mere look.
        """
        key = ask.key
        if isinstance(key, int):
            result = self.table.by_id.get(key)
            if result is not None:
                if ask.timeout_ms and not result.taken:
                    self.takes += 1
                    self.table.take(result)
                return _table(result)
            found = NO_RESULT
        else:
            found = self._take(key)
        if found is not NO_RESULT or ask.timeout_ms == 0:
            return found
        if self.waiters.count >= self._limits.max_waiters:
            raise too_many_waiters(self._limits)
        later = self._new_later(ask.timeout_ms)
        self.waiters.add(later, key)
        return later

    def clear(self) -> ResultTable:
        """Drop all results, wake nobody; returns the old table, to be freed in slices. O(1)."""
        old, self.table = self.table, ResultTable(self._recorder)
        return old


def too_many_waiters(limits: QueueLimits) -> UserError:
    """The refusal of a RESULT_BLOCKING that would have to wait."""
    return UserError(
        f"QUEUE RESULT_BLOCKING refused: {limits.max_waiters} statements wait for a result already,"
        " which is as many as CUBEQUEUE_QUEUE_MAX_WAITERS allows"
    )


def _table(result: StoredResult) -> Result:
    return Result(RESULT_COLUMNS, ((result.value, _SUCCESS, b"%d" % result.id, result.external_id),))


def mismatch(id_: int, expected: bytes, actual: bytes | None) -> str:
    got = "None"
    if actual is not None:
        quoted = actual.decode(errors="replace").replace("\\", "\\\\").replace('"', '\\"')
        got = f'Some("{quoted}")'
    return f"Queue result (id = {id_}) external_id mismatch: expected {expected.decode(errors='replace')}, got {got}"
