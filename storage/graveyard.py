"""Dropping a million rows at once without a pause: they are unlinked at once and freed in slices."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

_Container: TypeAlias = "dict[Any, Any] | list[Any]"
_OnRow: TypeAlias = Callable[[Any], None]


class Graveyard:
    """Containers that nobody reads any more. They are emptied row by row, so that no single step frees them all."""

    __slots__ = ("_containers",)

    def __init__(self) -> None:
        self._containers: list[tuple[_Container, _OnRow | None]] = []

    def bury(self, containers: Iterable[_Container], on_row: _OnRow | None = None) -> None:
        """Take over containers whose only other reference is the caller's. O(1) each.

        `on_row` is called with what each row was when it is freed.
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
                    on_row(row)  # which may bury more, on top
        while self._containers and not self._containers[-1][0]:
            self._containers.pop()
        return max_rows - budget

    def __len__(self) -> int:
        return sum(len(container) for container, _ in self._containers)

    def __bool__(self) -> bool:
        return bool(self._containers)
