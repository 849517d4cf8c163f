"""The orders in which rows are read, each kept so that reading costs the rows it yields.

IdIndex      by id, which mostly rises
TimeIndex    by a time, which mostly rises
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, ValuesView
from itertools import islice, takewhile
from typing import Any, Generic, Protocol, TypeVar

from sortedcontainers import SortedDict

# A time that never comes: later than any that a client can name.
NEVER_MS = 1 << 80

# Removals that an IdIndex tolerates in any case before it weighs holes against rows.
_FREE_HOLES = 32
_LARGEST_BLOCK = 1_024


class HasId(Protocol):
    """A row with a number that no other row of its index has."""

    id: int


RowT = TypeVar("RowT", bound=HasId)


class IdIndex(Generic[RowT]):
    """Rows in the order of their ids.

    Add and remove are O(1), amortised. Reading is O(rows), plus a sort if a row came after one with a higher id.
    A dict keeps the places of removed keys and walks over them: once they outnumber the rows it is rebuilt.
    """

    __slots__ = ("_highest_id", "_holes", "_is_sorted", "_rows")

    def __init__(self) -> None:
        self._rows: dict[int, RowT] = {}
        self._holes = 0
        self._highest_id = -1
        self._is_sorted = True

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, row: RowT) -> None:
        """Take a row in. O(1)."""
        id_ = row.id
        if id_ > self._highest_id:
            self._highest_id = id_
        else:
            self._is_sorted = False
        self._rows[id_] = row

    def remove(self, row: RowT) -> int:
        """Take out a row that is in; returns how many are left. O(1), amortised."""
        rows = self._rows
        del rows[row.id]
        left = len(rows)
        self._holes += 1
        if self._holes > left + _FREE_HOLES:
            self._rows = dict(rows)
            self._holes = 0
        return left

    def rows(self) -> ValuesView[RowT]:
        """The rows by rising id; the index is not to be changed while they are read."""
        if not self._is_sorted:
            self._rows = dict(sorted(self._rows.items()))
            self._holes = 0
            self._highest_id = next(reversed(self._rows), -1)
            self._is_sorted = True
        return self._rows.values()

    def containers(self) -> list[dict[int, RowT]]:
        """What holds the rows, for one who frees a dropped index in slices."""
        return [self._rows]


class TimeIndex(Generic[RowT]):
    """Rows in the order of a time, in whole milliseconds.

    A row whose time is not before the newest one costs O(1): it joins the end of a linked list whose head is
    always at hand. Any other (the wall clock stepped back, or the client chose the time) costs O(log n) in a tree
    beside the list. `time_of` gives the time of a row that is in: a row is touched or removed *before* the time
    that it carries changes.
    """

    __slots__ = ("_late", "_list", "_newest_ms", "_time_of")

    def __init__(self, time_of: Callable[[RowT], int]) -> None:
        self._time_of = time_of
        self._list: OrderedDict[int, RowT] = OrderedDict()
        self._newest_ms: int | None = None
        self._late: SortedDict[tuple[int, int], RowT] | None = None

    def __len__(self) -> int:
        return len(self._list) + (len(self._late) if self._late else 0)

    @property
    def has_late(self) -> bool:
        """Whether a row is in that came after one with a later time."""
        return bool(self._late)

    def add(self, row: RowT, time_ms: int) -> None:
        """Take a row in at its time."""
        newest_ms = self._newest_ms
        if newest_ms is None or time_ms >= newest_ms:
            self._newest_ms = time_ms
            self._list[row.id] = row
            return
        if self._late is None:
            self._late = SortedDict()
        self._late[time_ms, row.id] = row

    def remove(self, row: RowT) -> None:
        """Take out a row that is in."""
        if self._list.pop(row.id, None) is None:
            assert self._late is not None
            del self._late[self._time_of(row), row.id]
        elif not self._list:
            self._newest_ms = None

    def touch(self, row: RowT, time_ms: int) -> None:
        """Move a row that is in to the time that it is about to carry."""
        newest_ms = self._newest_ms
        if newest_ms is not None and time_ms >= newest_ms and row.id in self._list:
            self._list.move_to_end(row.id)
            self._newest_ms = time_ms
        else:
            self.remove(row)
            self.add(row, time_ms)

    def before(self, limit_ms: int, enough: int = NEVER_MS) -> list[RowT]:
        """The rows whose time is before the limit, in no particular order, or more than `enough` of them. O(rows)."""
        rows = self._list_before(limit_ms, enough) if self._list else []
        if self._late:
            rows += [self._late[key] for key in self._late.irange(maximum=(limit_ms, -1))]
        return rows

    def _list_before(self, limit_ms: int, enough: int) -> list[RowT]:
        """Those of the list, which is in order: in blocks that grow, each taken whole if its last row belongs to it."""
        time_of = self._time_of
        values = iter(self._list.values())
        first = next(values)
        if time_of(first) >= limit_ms:
            return []
        rows, size = [first], 8
        while block := list(islice(values, size)):
            if time_of(block[-1]) >= limit_ms:
                rows += takewhile(lambda row: time_of(row) < limit_ms, block)
                break
            rows += block
            if len(rows) > enough:
                break
            size = min(2 * size, _LARGEST_BLOCK)
        return rows

    def first_ms(self, at_least_ms: int | None = None) -> int | None:
        """The earliest time, or the earliest that is not before the given one. O(rows before it)."""
        times = []
        for row in self._list.values():
            if at_least_ms is None or self._time_of(row) >= at_least_ms:
                times.append(self._time_of(row))
                break
        if self._late:
            minimum = None if at_least_ms is None else (at_least_ms, -1)
            times += [time_ms for time_ms, _ in self._late.irange(minimum=minimum)][:1]
        return min(times, default=None)

    def first(self) -> RowT | None:
        """The row with the earliest time. O(1)."""
        first = next(iter(self._list.values()), None)
        if self._late:
            (time_ms, _), late = self._late.peekitem(0)
            if first is None or time_ms < self._time_of(first):
                return late
        return first

    def containers(self) -> list[dict[Any, RowT]]:
        """What holds the rows, for one who frees a dropped index in slices."""
        containers: list[dict[Any, RowT]] = [self._list]
        if self._late is not None:
            containers.append(self._late)  # type: ignore[arg-type]  # a dict, which its stub does not say
        return containers
