"""Rows of long lists, made when they are read: what a statement saw, at a twentieth of the cost of making them.

A list of 10 000 items is a statement like any other: it sees all effects of those before it and none of those after.
So whatever may change is noted when it is executed (50 ns an item), and the rows are made from that, block by block,
while others are served.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias, TypeVar, overload

from storage.keys import key_of
from storage.queue.items import Item
from storage.vocabulary import Path, Row, Value

# Makes the rows of a part of a list.
RowsOf: TypeAlias = Callable[[slice], list[Row]]

SourceT = TypeVar("SourceT")

# Shorter lists are made at once: that costs less than to note what they are made from.
SHORT = 128


class Listing(Sequence[Row]):
    """Rows that are made anew each time they are read. `rows_of` has to give the same ones at any time."""

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


def listing(items: list[Item], *, with_payload: bool) -> Sequence[Row]:
    """The rows of LIST, PENDING and ACTIVE (commands.md §4.4). Id, path and payload of an item never change."""
    if len(items) <= SHORT:
        return _item_rows(items, [item.active for item in items], [item.extra for item in items], with_payload)
    active = [item.active for item in items]
    extras = [item.extra for item in items]
    return Listing(len(items), lambda part: _item_rows(items[part], active[part], extras[part], with_payload))


def _item_rows(items: list[Item], active: list[bool], extras: list[Value | None], with_payload: bool) -> list[Row]:
    if with_payload:
        return [
            (key_of(item.path), b"%d" % item.id, b"active" if is_active else b"pending", extra, item.payload)
            for item, is_active, extra in zip(items, active, extras, strict=True)
        ]
    return [
        (key_of(item.path), b"%d" % item.id, b"active" if is_active else b"pending", extra)
        for item, is_active, extra in zip(items, active, extras, strict=True)
    ]


def cancel_listing(items: list[Item]) -> Sequence[Row]:
    """The rows of STALLED, ORPHANED and TO_CANCEL (commands.md §4.5)."""
    return _made_of(items, lambda item: (key_of(item.path), b"%d" % item.id))


def key_listing(paths: list[Path]) -> Sequence[Row]:
    """The rows of KEYS (commands.md §5)."""
    return _made_of(paths, lambda path: (path,))


def _made_of(found: list[SourceT], row_of: Callable[[SourceT], Row]) -> Sequence[Row]:
    """Rows made from what never changes."""
    if len(found) <= SHORT:
        return [row_of(each) for each in found]
    return Listing(len(found), lambda part: [row_of(each) for each in found[part]])
