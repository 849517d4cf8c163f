"""No answer leaves before everything that it may have seen is durable (decisions, "No dirty reads")."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from storage.engine import Store

Asker = TypeVar("Asker")
Answer = TypeVar("Answer")


class DurabilityGate(Generic[Asker, Answer]):
    """Parks answers until the store is durable up to their commit sequence number.

    Those numbers never fall from one answer to the next, so the parked answers are a queue. One that took its time
    to be encoded is taken for as new as the one before it: it waits no longer than that.
    """

    __slots__ = ("_deliver", "_parked", "_store")

    def __init__(self, store: Store, deliver: Callable[[Asker, Answer], None]) -> None:
        self._store = store
        self._deliver = deliver
        self._parked: deque[tuple[int, Asker, Answer]] = deque()

    def __len__(self) -> int:
        return len(self._parked)

    def deliver(self, request: Asker, answer: Answer, commit_seq: int) -> None:
        """Deliver now if that is allowed, otherwise by a later `release`."""
        if commit_seq <= self._store.durable_seq:
            self._deliver(request, answer)
        else:
            parked = self._parked
            self._parked.append((max(commit_seq, parked[-1][0]) if parked else commit_seq, request, answer))

    def release(self) -> None:
        """Deliver what has become durable."""
        parked = self._parked
        durable_seq = self._store.durable_seq
        while parked and parked[0][0] <= durable_seq:
            _, request, answer = parked.popleft()
            self._deliver(request, answer)

    def fail(self, error_for: Callable[[Asker], Answer], kept_seq: int) -> None:
        """Deliver errors in place of the parked answers above this number: what those have seen was lost."""
        parked = self._parked
        lost: list[Asker] = []
        while parked and parked[-1][0] > kept_seq:
            lost.append(parked.pop()[1])
        for request in reversed(lost):
            self._deliver(request, error_for(request))
