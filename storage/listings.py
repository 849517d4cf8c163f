"""Rows of long lists, made block by block when they are read, between other requests.

A list shows all effects of the statements before it and no effect of a later one. So the statement copies the values
that may change later; that takes 50 ns an item, a twentieth of the time that its row takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias, overload

from storage.vocabulary import Row

# Makes the rows of a part of a list: the same rows each time.
RowsOf: TypeAlias = Callable[[slice], list[Row]]

# Shorter lists are made at once.
SHORT = 128


class Listing(Sequence[Row]):
    """Rows that are made anew each time they are read."""

    __slots__ = ("_count", "_rows_of")

    def __init__(self, count: int, rows_of: RowsOf) -> None:
        self._count = count
        self._rows_of = rows_of

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, at: int) -> Row: ...

    @overload
    def __getitem__(self, at: slice) -> list[Row]: ...

    def __getitem__(self, at: int | slice) -> Row | list[Row]:
        if isinstance(at, slice):
            return self._rows_of(at)
        at = range(self._count)[at]
        return self._rows_of(slice(at, at + 1))[0]

    def __iter__(self) -> Iterator[Row]:
        for start in range(0, self._count, SHORT):
            yield from self._rows_of(slice(start, start + SHORT))


def listing(count: int, rows_of: RowsOf) -> Sequence[Row]:
    """The rows of a list of `count`: at once if it is short."""
    return rows_of(slice(0, count)) if count <= SHORT else Listing(count, rows_of)
