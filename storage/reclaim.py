"""Deferred reclamation: a million rows are unlinked at once and freed in slices, so that no step takes long."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

Container: TypeAlias = "dict[Any, Any] | list[Any]"


class Reclaimer:
    """Containers that are no longer read. They are emptied row by row."""

    __slots__ = ("_containers",)

    def __init__(self) -> None:
        self._containers: list[tuple[Container, Callable[[Any], None] | None]] = []

    def defer(self, containers: Iterable[Container], on_row: Callable[[Any], None] | None = None) -> None:
        """Take over containers whose only other reference is the caller's. O(1) each.

        `on_row` is called with each row when it is freed: an element of a list, or a key and a value of a dict.
        """
        self._containers.extend((container, on_row) for container in containers if container)

    def free(self, max_rows: int) -> int:
        """Free up to `max_rows` rows; returns how many were freed."""
        budget = max_rows
        while budget > 0 and self._containers:
            container, on_row = self._containers[-1]
            if not container:
                self._containers.pop()
                continue
            count = min(budget, len(container))
            budget -= count
            take = container.popitem if isinstance(container, dict) else container.pop
            for _ in range(count):
                row = take()
                if on_row is not None:
                    on_row(row)  # this may defer more containers, on top
        while self._containers and not self._containers[-1][0]:
            self._containers.pop()
        return max_rows - budget

    def __bool__(self) -> bool:
        return bool(self._containers)
