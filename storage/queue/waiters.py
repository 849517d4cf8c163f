"""RESULT_BLOCKING statements that wait for an ACK (commands.md §4.11, state-machine.md §3)."""

from __future__ import annotations

from collections.abc import Iterator

from storage.engine import Outcome, Pending, RequestKey
from storage.vocabulary import KeyRef


class Waiter(Pending):
    """One that waits for an item by its id or by its path. `request_key` names the answer it is owed.

    `earlier` and `later` chain those that wait for the same: a hundred bytes less for each than a dict of them.
    """

    __slots__ = ("earlier", "is_waiting", "key", "later", "request_key")

    def __init__(self, key: KeyRef, timeout_ms: int) -> None:
        super().__init__(timeout_ms)
        self.key = key
        self.request_key: RequestKey | None = None
        self.is_waiting = False
        self.earlier: Waiter | None = None
        self.later: Waiter | None = None

    def answer(self, outcome: Outcome) -> None:
        """Hand the outcome over."""
        assert self.on_outcome is not None, "nobody listens to a wait that was handed out"
        self.on_outcome(outcome)


class Waiters:
    """All that wait, by what they wait for; any number for one item. Every operation on one of them is O(1).

    An id is an `int` and a path is `bytes`, so one dict holds both.
    """

    __slots__ = ("_latest", "count")

    def __init__(self) -> None:
        self._latest: dict[KeyRef, Waiter] = {}
        self.count = 0

    def add(self, waiter: Waiter) -> None:
        """Let one wait that does not yet."""
        waiter.is_waiting = True
        earlier = self._latest.get(waiter.key)
        if earlier is not None:
            earlier.later = waiter
            waiter.earlier = earlier
        self._latest[waiter.key] = waiter
        self.count += 1

    def remove(self, waiter: Waiter) -> bool:
        """End a wait; False if it has ended before."""
        if not waiter.is_waiting:
            return False
        earlier, later = waiter.earlier, waiter.later
        if earlier is not None:
            earlier.later = later
        if later is not None:
            later.earlier = earlier
        elif earlier is not None:
            self._latest[waiter.key] = earlier
        else:
            del self._latest[waiter.key]
        self._end(waiter)
        return True

    def pop(self, key: KeyRef) -> list[Waiter]:
        """End all waits for one id or path; returns them in the order they began. O(waiters returned)."""
        latest = self._latest.pop(key, None)
        if latest is None:
            return []
        waiters = [*_chain(latest)]
        waiters.reverse()
        for waiter in waiters:
            self._end(waiter)
        return waiters

    def keys(self) -> Iterator[KeyRef]:
        """What each waits for. It may be read in slices: those that come or end meanwhile may be left out."""
        for latest in list(self._latest.values()):
            for waiter in _chain(latest):
                yield waiter.key

    def pop_all(self) -> list[Waiter]:
        """End all waits. O(waiters)."""
        return [waiter for key in list(self._latest) for waiter in self.pop(key)]

    def _end(self, waiter: Waiter) -> None:
        waiter.is_waiting = False
        waiter.earlier = waiter.later = None
        self.count -= 1

    def check_invariants(self) -> None:
        """Audit the count and the chains, O(n); raises AssertionError."""
        count = 0
        for key, latest in self._latest.items():
            assert latest.later is None
            for waiter in _chain(latest):
                assert waiter.is_waiting
                assert waiter.key == key
                assert waiter.earlier is None or waiter.earlier.later is waiter
                count += 1
        assert count == self.count


def _chain(latest: Waiter) -> Iterator[Waiter]:
    waiter: Waiter | None = latest
    while waiter is not None:
        yield waiter
        waiter = waiter.earlier
