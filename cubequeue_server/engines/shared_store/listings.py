"""Rows of long lists, made when they are read, from the rows of the store; and payloads that are read behind them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from cubequeue_server.engines.shared_store.calls import Call
from cubequeue_server.engines.shared_store.connection import Reply, command
from cubequeue_server.engines.shared_store.core import Core
from cubequeue_server.engines.shared_store.rows import LargeValue, list_cells, rank_of, read_stored
from storage.asking import Later
from storage.errors import StatementError
from storage.listings import listing
from storage.vocabulary import LIST_WITH_PAYLOAD_COLUMNS, Result, Row, Value

_AT_ONCE: Final = 64  # payloads in one command


def list_rows(reply: list[Reply], *, by_id: bool) -> Sequence[Row]:
    """The rows of LIST and PENDING by priority and id, or those of ACTIVE by id."""
    items = _sorted(reply, 3, by_id=by_id)

    def rows_of(part: slice) -> list[Row]:
        return [_list_row(id8, row, extra) for id8, row, extra in items[part]]

    return listing(len(items), rows_of)


def _sorted(reply: list[Reply], cells: int, *, by_id: bool) -> list[tuple[Any, ...]]:
    """The items of a reply of `list` in their order, each as a tuple of its cells. Active ones come by id."""
    items = [*zip(*(reply[2 + cell :: cells] for cell in range(cells)), strict=True)]
    if not by_id:
        items.sort(key=lambda item: rank_of(item[1], item[0]))
    return items


def _list_row(id8: bytes, row: bytes, extra: Value | None) -> Row:
    key, status = list_cells(row)
    return key, b"%d" % int.from_bytes(id8, "big"), status, extra


def cancel_rows(reply: list[Reply]) -> Sequence[Row]:
    """The rows of STALLED, ORPHANED and TO_CANCEL, by id."""
    items = sorted(zip(reply[1::2], reply[2::2], strict=True))

    def rows_of(part: slice) -> list[Row]:
        return [(key, b"%d" % int.from_bytes(id8, "big")) for id8, key in items[part]]

    return listing(len(items), rows_of)


class Payloads:
    """LIST WITH_PAYLOAD: payloads of a short list come with it; those of a long one are read behind it, and rows whose
    payload has gone meanwhile are left out: a row without one breaks the client."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def read(self, later: Later, shard: int, reply: list[Reply], *, by_id: bool) -> None:
        """Answer with the rows of a reply of `list`, when their payloads are there."""
        if reply[1] == b"1":
            items = _sorted(reply, 4, by_id=by_id)
            _Reading(self._core, later, shard, [item[:3] for item in items]).took([item[3] for item in items])
        else:
            _Reading(self._core, later, shard, _sorted(reply, 3, by_id=by_id)).go_on()


class _Reading:
    """One list whose payloads are being read: `at` is the next item."""

    def __init__(self, core: Core, later: Later, shard: int, items: list[tuple[Any, ...]]) -> None:
        self._core = core
        self._later = later
        self._shard = shard
        self._items = items
        self._at = 0
        self._rows: list[Row] = []
        self._large: list[tuple[int, LargeValue]] = []  # places in `rows` whose payload is still to be read

    def go_on(self) -> None:
        """Ask for the next payloads, or for the next large one, or answer."""
        core, shard = self._core, self._shard
        if self._at < len(self._items):
            ids = [id8 for id8, _, _ in self._items[self._at : self._at + _AT_ONCE]]
            request = command("HMGET", core.shards.key(shard, "v"), *ids)
            call = Call(core.sender, shard, None, request, self._took_reply, may_repeat=True)
            try:
                core.sender.send(call)
            except StatementError as error:
                self._later.done(error)
        elif self._large:
            place, large = self._large.pop()
            core.large.read(shard, large, partial(self._took_large, place))
        else:
            rows = [row for row in self._rows if row[4] is not None]
            self._later.done(Result(LIST_WITH_PAYLOAD_COLUMNS, rows))

    def _took_reply(self, reply: Any) -> None:
        if isinstance(reply, StatementError):
            self._later.done(reply)
        else:
            self.took(reply)

    def took(self, payloads: list[bytes | None]) -> None:
        """The next payloads, as stored."""
        for (id8, row, extra), text in zip(self._items[self._at : self._at + len(payloads)], payloads, strict=True):
            value = None if text is None else read_stored(text)
            if isinstance(value, LargeValue):
                self._large.append((len(self._rows), value))
                value = None
            self._rows.append((*_list_row(id8, row, extra), value))
        self._at += len(payloads)
        self.go_on()

    def _took_large(self, place: int, value: Value | StatementError | None) -> None:
        if isinstance(value, StatementError):
            self._later.done(value)
            return
        self._rows[place] = (*self._rows[place][:4], value)
        self.go_on()
