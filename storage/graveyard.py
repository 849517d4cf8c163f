"""Dropping a million rows at once without a pause: they are unlinked at once and freed in slices."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class Graveyard:
    """Containers that nobody reads any more. They are emptied row by row, so that no single step frees them all."""

    __slots__ = ("_containers",)

    def __init__(self) -> None:
        self._containers: list[dict[Any, Any] | list[Any]] = []

    def bury(self, containers: Iterable[dict[Any, Any] | list[Any]]) -> None:
        """Take over containers whose only other reference is the caller's. O(1) each."""
        self._containers.extend(container for container in containers if container)

    def free(self, max_rows: int) -> int:
        """Free up to `max_rows` rows; returns how many were freed."""
        budget = max_rows
        while budget > 0 and self._containers:
            container = self._containers[-1]
            count = min(budget, len(container))
            budget -= count
            take = container.popitem if isinstance(container, dict) else container.pop
            for _ in range(count):
                take()
            if not container:
                self._containers.pop()
        return max_rows - budget

    def __bool__(self) -> bool:
        return bool(self._containers)
