"""RESULT_BLOCKING statements that wait for an ACK (commands.md §4.11, state-machine.md §3)."""

from __future__ import annotations

from storage.interface import Outcome, Pending, RequestKey
from storage.vocabulary import KeyRef


class Waiter(Pending):
    """One that waits for an item by its id or by its path. `request_key` names the answer it is owed."""

    __slots__ = ("key", "request_key")

    def __init__(self, key: KeyRef, timeout_ms: int) -> None:
        super().__init__(timeout_ms)
        self.key = key
        self.request_key: RequestKey | None = None

    def answer(self, outcome: Outcome) -> None:
        """Hand the outcome over."""
        assert self.on_outcome is not None, "nobody listens to a wait that was handed out"
        self.on_outcome(outcome)


class Waiters:
    """All that wait, by what they wait for; any number for one item. Every operation on one of them is O(1).

    An id is an `int` and a path is `bytes`, so both share one dict.
    """

    __slots__ = ("_by_key", "_count")

    def __init__(self) -> None:
        self._by_key: dict[KeyRef, dict[Waiter, None]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, waiter: Waiter) -> None:
        """Let one wait that does not yet."""
        self._by_key.setdefault(waiter.key, {})[waiter] = None
        self._count += 1

    def remove(self, waiter: Waiter) -> bool:
        """End a wait; False if it has ended before."""
        group = self._by_key.get(waiter.key)
        if group is None or waiter not in group:
            return False
        del group[waiter]
        if not group:
            del self._by_key[waiter.key]
        self._count -= 1
        return True

    def pop(self, key: KeyRef) -> list[Waiter]:
        """End all waits for one id or path, in the order they began."""
        group = self._by_key.pop(key, None)
        if group is None:
            return []
        self._count -= len(group)
        return list(group)

    def pop_all(self) -> list[Waiter]:
        """End all waits."""
        waiters = [waiter for group in self._by_key.values() for waiter in group]
        self._by_key = {}
        self._count = 0
        return waiters

    def check_invariants(self) -> None:
        """Audit the count and the groups, O(n); raises AssertionError."""
        assert all(self._by_key.values()), "an empty group was left behind"
        assert all(waiter.key == key for key, group in self._by_key.items() for waiter in group)
        assert sum(len(group) for group in self._by_key.values()) == self._count
