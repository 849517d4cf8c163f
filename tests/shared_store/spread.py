"""Several servers' parts of one store, as one engine: each statement goes to any of them."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from storage.asking import Caller, Later
from storage.vocabulary import RequestKey, Result, Statement
from tests.shared_store.driven import DrivenStore, settle

# What each server counts for itself.
_OF_A_SERVER = {
    "waiters", "cache_hits", "cache_misses", "cache_evicted_keys", "cache_evicted_bytes", "cache_expired_keys",
    "cache_expired_bytes", "answers_unconfirmed",
}  # fmt: skip


class Spread:
    """Statements must be asked one after the other, for between two servers nothing else has an order."""

    def __init__(self, stores: list[DrivenStore], random: Random) -> None:
        self.stores = stores
        self._random = random
        self._owners: dict[Later, DrivenStore] = {}

    def execute(
        self, statement: Statement, caller: Caller, request_key: RequestKey | None, now_ms: int
    ) -> Result | Later:
        self._each(lambda store: store.core.see(now_ms))
        store = self._random.choice(self.stores)
        outcome = store.execute(statement, caller, request_key, now_ms)
        if isinstance(outcome, Later) and outcome.timeout_ms is not None:
            self._owners[outcome] = store
        return outcome

    def give_up(self, later: Later, now_ms: int) -> None:
        self._owners[later].give_up(later, now_ms)

    def end_waits(self, now_ms: int) -> None:
        self._each(lambda store: store.end_waits(now_ms))

    def confirm_delivered(self, request_keys: list[RequestKey]) -> None:
        self._each(lambda store: store.confirm_delivered(request_keys))

    def mark_undelivered(self, request_key: RequestKey) -> None:
        self._each(lambda store: store.mark_undelivered(request_key))

    def tick(self, now_ms: int, max_rows: int) -> bool:
        return self._random.choice(self.stores).tick(now_ms, max_rows)

    def look(self) -> None:
        self._each(lambda store: store.look())

    def gauges(self) -> dict[str, int]:
        all_gauges = [store.gauges() for store in self.stores]
        return {
            name: sum(each[name] for each in all_gauges) if name in _OF_A_SERVER else all_gauges[0][name]
            for name in all_gauges[0]
        }

    def settle(self) -> None:
        """Nothing is on its way. Over a network some time would have passed by then, so that ids rise."""
        for _ in self.stores:  # what one sends may wake another
            self._each(settle)
        number = max(store.core.next_number() for store in self.stores)
        self._each(lambda store: store.core.saw_number(number))

    def check_invariants(self) -> None:
        self._each(lambda store: store.check_invariants())

    def _each(self, do: Callable[[DrivenStore], Any]) -> None:
        for store in self.stores:
            do(store)
