"""Results: what ACK with a value leaves behind for a while (commands.md §4.11, state-machine.md §2)."""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter

from storage.queue.indexes import NEVER_MS, TimeIndex
from storage.queue.items import StoredResult
from storage.reclaim import Reclaimer
from storage.recorder import Recorder
from storage.stats import info_rows
from storage.vocabulary import Path, Row


class ResultTable:
    """Results by item id and by path, the newest of a path first.

    A path has one item at a time, so its results come in the order of their ids. All changes go through `put`,
    `take` and `remove`. As with items, `expire` runs ahead of a statement once `due_ms` has come.
    """

    __slots__ = ("_by_end", "_by_external_id", "_recorder", "by_id", "due_ms", "newest", "size_bytes")

    def __init__(self, recorder: Recorder | None) -> None:
        self._recorder = recorder
        self.by_id: dict[int, StoredResult] = {}
        self.newest: dict[Path, StoredResult] = {}  # the result of a path with the highest id, taken or not
        self._by_external_id: dict[tuple[Path, bytes], StoredResult] = {}
        self._by_end: TimeIndex[StoredResult] = TimeIndex(attrgetter("expire_ms"))
        self.due_ms = NEVER_MS  # no result expires earlier
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self.by_id)

    # Readings, O(1).

    def with_external_id(self, path: Path, external_id: bytes) -> StoredResult | None:
        """The newest result of a path with this external id."""
        return self._by_external_id.get((path, external_id))

    # Changes of rows.

    def put(self, result: StoredResult) -> None:
        """Store the result of an item that is gone. O(1); O(log n) when the wall clock stepped back."""
        if self._recorder is not None:
            self._recorder.result_put(result)
        self.by_id[result.id] = result
        older = self.newest.get(result.path)
        if older is not None:
            result.older = older
            older.newer = result
        self.newest[result.path] = result
        if result.external_id is not None:
            self._by_external_id[result.path, result.external_id] = result
        self._by_end.add(result, result.expire_ms)
        if result.expire_ms < self.due_ms:  # noqa: PLR1730  # a call of min() would cost more
            self.due_ms = result.expire_ms
        self.size_bytes += len(result.value)

    def take(self, result: StoredResult) -> None:
        """Hide a result from readers by path, for ever. O(1)."""
        result.taken = True
        if self._recorder is not None:
            self._recorder.result_taken(result)

    def remove(self, result: StoredResult) -> None:
        """Delete a result that is in. O(1), but for older results of its path under the same external id."""
        del self.by_id[result.id]
        self._unlink(result)
        if self._recorder is not None:
            self._recorder.result_removed(result)

    def _unlink(self, result: StoredResult) -> None:
        self._by_end.remove(result)
        self.size_bytes -= len(result.value)
        self._forget_external_id(result)
        self._unchain(result)

    def _forget_external_id(self, result: StoredResult) -> None:
        if result.external_id is None:
            return
        key = (result.path, result.external_id)
        if self._by_external_id[key] is not result:
            return
        heir = next((older for older in _older_than(result) if older.external_id == result.external_id), None)
        if heir is None:
            del self._by_external_id[key]
        else:
            self._by_external_id[key] = heir

    def _unchain(self, result: StoredResult) -> None:
        older, newer = result.older, result.newer
        result.older = result.newer = None
        if older is not None:
            older.newer = newer
        if newer is not None:
            newer.older = older
        elif older is not None:
            self.newest[result.path] = older
        else:
            del self.newest[result.path]

    def expire(self, now_ms: int) -> None:
        """Delete every result that has expired. O(1) each."""
        if self.due_ms > now_ms:
            return
        for result in self._by_end.before(now_ms + 1):
            self.remove(result)
        first_ms = self._by_end.first_ms()
        self.due_ms = NEVER_MS if first_ms is None else first_ms

    def reclaim(self, reclaimer: Reclaimer) -> None:
        """Have a table that nobody reads any more freed in slices. O(1)."""
        recorder = self._recorder

        def let_go(row: tuple[int, StoredResult]) -> None:
            row[1].older = row[1].newer = None  # no cycle is left for a collector
            if recorder is not None:
                recorder.result_freed(row[1])

        reclaimer.defer([self.by_id], let_go)
        reclaimer.defer([self.newest, self._by_external_id, *self._by_end.containers()])

    def info(self) -> list[Row]:
        """The rows of SYS CACHESTORE INFO. O(n): administrators ask, clients do not."""
        sizes = [len(result.value) for result in self.by_id.values()]
        return info_rows("QueueResults", len(sizes), self.size_bytes, sizes)


def _older_than(result: StoredResult) -> Iterator[StoredResult]:
    older = result.older
    while older is not None:
        yield older
        older = older.older
