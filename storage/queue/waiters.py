"""RESULT_BLOCKING statements that wait for an ACK (commands.md §4.11, state-machine.md §3)."""

from __future__ import annotations

from collections.abc import Iterator

from storage.asking import Later
from storage.vocabulary import KeyRef


class Waiters:
    """All that wait, by the item they wait for; any number for one item. Every operation on one of them is O(1).

    An id is an `int` and a path is `bytes`, so one dict holds both. Those that wait for the same item are chained:
    a hundred bytes less for each than a dict of them.
    """

    __slots__ = ("_newest", "count")

    def __init__(self) -> None:
        self._newest: dict[KeyRef, Later] = {}
        self.count = 0

    def add(self, later: Later, key: KeyRef) -> None:
        """Let a request wait that does not yet."""
        later.waits_for = key
        older = self._newest.get(key)
        if older is not None:
            older.newer = later
            later.older = older
        self._newest[key] = later
        self.count += 1

    def remove(self, later: Later) -> bool:
        """End a wait; False if it has ended before."""
        key = later.waits_for
        if key is None:
            return False
        older, newer = later.older, later.newer
        if older is not None:
            older.newer = newer
        if newer is not None:
            newer.older = older
        elif older is not None:
            self._newest[key] = older
        else:
            del self._newest[key]
        self._end(later)
        return True

    def pop(self, key: KeyRef) -> list[Later]:
        """End all waits for one id or path; returns them in the order they began. O(requests returned)."""
        newest = self._newest.pop(key, None)
        if newest is None:
            return []
        waiting = [*_chain(newest)]
        waiting.reverse()
        for later in waiting:
            self._end(later)
        return waiting

    def keys(self) -> Iterator[KeyRef]:
        """What each waits for. It may be read in slices: waits that begin or end meanwhile may be left out."""
        for newest in list(self._newest.values()):
            for later in _chain(newest):
                if later.waits_for is not None:
                    yield later.waits_for

    def pop_all(self) -> list[Later]:
        """End all waits. O(waits)."""
        return [later for key in list(self._newest) for later in self.pop(key)]

    def _end(self, later: Later) -> None:
        later.waits_for = later.older = later.newer = None
        self.count -= 1


def _chain(newest: Later) -> Iterator[Later]:
    later: Later | None = newest
    while later is not None:
        yield later
        later = later.older
