"""What people look at: tables and figures, read from the shards page by page (`storage.engine.Inspectable`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Final, TypeVar

from cubequeue_server.engines.shared_store.calls import Call
from cubequeue_server.engines.shared_store.connection import bulks, command
from cubequeue_server.engines.shared_store.core import Core
from cubequeue_server.engines.shared_store.rows import LargeValue, read_item, read_result, read_stored
from cubequeue_server.engines.shared_store.scripts import FIGURES, Script
from cubequeue_server.engines.shared_store.shards import lane_of
from storage.errors import StatementError
from storage.stats import QueueFigures
from storage.system_tables import SystemTable
from storage.vocabulary import KeyRef, Path, Row, Value

# A table of so few rows is read whole and put in order; a longer one comes in the order of the engine's pages.
_SORTED_ROWS: Final = 10_000
_PAGE_ROWS: Final = 64
_PREFIXES_AT_ONCE: Final = 100

T = TypeVar("T")


class Readings:
    """Each reading asks shard after shard. Rows that go before their page is read are left out."""

    def __init__(self, core: Core) -> None:
        self._core = core

    # Asking.

    async def ask(self, shard: int, *words: bytes | str | int) -> Any:
        """The reply to a command that only reads. Raises StatementError."""
        return await self._answer(shard, None, command(*words))

    async def run(self, script: Script, shard: int, arguments: list[bytes]) -> list[Any]:
        """The cells of a script that only reads, called with more arguments than it names. Raises StatementError."""
        core = self._core
        head = core.shards.head_of(script, shard, 0, len(arguments))
        reply = await self._answer(shard, script, head + core.time() + bulks(arguments))
        return list(reply[1:])

    async def _answer(self, shard: int, script: Script | None, request: bytes) -> Any:
        answer: list[Any] = []
        woken = Woken()

        def then(reply: Any) -> None:
            answer.append(reply)
            woken.wake()

        self._core.sender.send(Call(self._core.sender, shard, script, request, then, may_repeat=True))
        while not answer:
            await woken
        if isinstance(answer[0], StatementError):
            raise answer[0]
        return answer[0]

    async def _value(self, shard: int, text: bytes) -> Value | None:
        """A stored value; None when it has gone."""
        stored = read_stored(text)
        if not isinstance(stored, LargeValue):
            return stored
        answer: list[Value | StatementError | None] = []
        woken = Woken()

        def then(value: Value | StatementError | None) -> None:
            answer.append(value)
            woken.wake()

        self._core.large.read(shard, stored, then)
        while not answer:
            await woken
        if isinstance(answer[0], StatementError):
            raise answer[0]
        return answer[0]

    async def _pages(self, shard: int, name: str, count: int) -> AsyncIterator[list[tuple[bytes, bytes]]]:
        """The fields and values of a hash; one that moves while it is read may come twice."""
        key, cursor = self._core.shards.key(shard, name), b"0"
        while True:
            cursor, flat = await self.ask(shard, "HSCAN", key, cursor, "COUNT", count)
            yield list(zip(flat[::2], flat[1::2], strict=True))
            if cursor == b"0":
                return

    # Tables.

    async def read_table(self, table: SystemTable) -> AsyncIterator[list[Row]]:
        """All rows of a table, in slices. Of ended items and of minutes the store keeps nothing."""
        if table in (SystemTable.HISTORY, SystemTable.MINUTES):
            return
        name, order, rows_of = self._reader_of(table)
        total = sum([await self.ask(shard, "HLEN", self._core.shards.key(shard, name)) for shard in self._all()])
        if total <= _SORTED_ROWS:
            found = [(order(field, row), shard, field, row) async for shard, field, row in self._rows(name)]
            found.sort()
            for first in range(0, len(found), _PAGE_ROWS):
                yield await self._read(found[first : first + _PAGE_ROWS], rows_of)
            return
        page: list[tuple[Any, int, bytes, bytes]] = []
        async for shard, field, row in self._rows(name):
            page.append((None, shard, field, row))
            if len(page) == _PAGE_ROWS:
                yield await self._read(page, rows_of)
                page = []
        yield await self._read(page, rows_of)

    def _all(self) -> Iterable[int]:
        return range(self._core.shards.count)

    async def _rows(self, name: str) -> AsyncIterator[tuple[int, bytes, bytes]]:
        for shard in self._all():
            seen: set[bytes] = set()
            async for page in self._pages(shard, name, 256):
                for field, row in page:
                    if field not in seen:
                        seen.add(field)
                        yield shard, field, row

    async def _read(
        self, page: list[tuple[Any, int, bytes, bytes]], rows_of: Callable[[int, list[tuple[bytes, bytes]]], Any]
    ) -> list[Row]:
        """The rows of a page in its order; those of one shard are read together."""
        by_shard: dict[int, list[tuple[bytes, bytes]]] = {}
        for _, shard, field, row in page:
            by_shard.setdefault(shard, []).append((field, row))
        read = {shard: iter(await rows_of(shard, mine)) for shard, mine in by_shard.items()}
        rows = [next(read[shard]) for _, shard, _, _ in page]
        return [row for row in rows if row is not None]

    def _reader_of(self, table: SystemTable) -> tuple[str, Callable[[bytes, bytes], bytes], Callable[..., Any]]:
        """The hash of a table, what its rows are sorted by, and what makes rows of a shard's fields and values."""
        match table:
            case SystemTable.QUEUE:
                return "d", lambda field, _: field, self._item_rows
            case SystemTable.RESULTS:
                return "r", lambda field, _: field, self._result_rows
            case _:
                return "ch", lambda _, row: row[8:16], self._entry_rows

    async def _item_rows(self, shard: int, page: list[tuple[bytes, bytes]]) -> list[Row | None]:
        key = self._core.shards.key(shard, "v")
        fields = [field for id8, _ in page for field in (id8, id8 + b"x")]
        texts = await self.ask(shard, "HMGET", key, *fields)
        rows: list[Row | None] = []
        for (id8, row), text, extra in zip(page, texts[::2], texts[1::2], strict=True):
            value = None if text is None else await self._value(shard, text)
            if value is None:
                rows.append(None)
                continue
            item = read_item(row)
            has_prefix = b":" in item.path
            rows.append((
                item.key,
                item.prefix if has_prefix else None,
                item.created_ms,
                b"Active" if item.is_active else b"Pending",
                item.priority,
                item.heartbeat_ms,
                item.orphaned_ms,
                value,
                extra,
                item.process_id,
                item.is_exclusive,
                item.external_id,
                item.claimed_by,
                item.claimed_peer or None,
                int.from_bytes(id8, "big"),
                None,  # the store has no time of the claim, nor the peer that added the item
                None,
            ))  # fmt: skip
        return rows

    async def _result_rows(self, shard: int, page: list[tuple[bytes, bytes]]) -> list[Row | None]:
        texts = await self.ask(shard, "HMGET", self._core.shards.key(shard, "rv"), *(id8 for id8, _ in page))
        rows: list[Row | None] = []
        for (id8, row), text in zip(page, texts, strict=True):
            value = None if text is None else await self._value(shard, text)
            result = read_result(row)
            if value is None or result.end_ms <= self._core.now_ms:
                rows.append(None)
            else:
                id_ = int.from_bytes(id8, "big")
                rows.append((id_, result.path, result.end_ms, result.is_taken, value, result.external_id))
        return rows

    async def _entry_rows(self, shard: int, page: list[tuple[bytes, bytes]]) -> list[Row | None]:
        texts = await self.ask(shard, "HMGET", self._core.shards.key(shard, "C"), *(path for path, _ in page))
        rows: list[Row | None] = []
        for (path, _), text in zip(page, texts, strict=True):
            value = None if text is None else await self._value(shard, text[8:])
            if value is None:
                rows.append(None)
            else:
                prefix, colon, key = path.rpartition(b":")
                rows.append((key, prefix if colon else None, int.from_bytes(text[:8], "big") or None, value))
        return rows

    # Figures.

    async def queue_figures(self) -> AsyncIterator[list[QueueFigures]]:
        """How each queue stands."""
        for shard in self._all():
            async for page in self._pages(shard, "q", _PREFIXES_AT_ONCE):
                prefixes = [prefix for prefix, _ in page]
                for first in range(0, len(prefixes), _PREFIXES_AT_ONCE):
                    yield await self._figures_of(shard, prefixes[first : first + _PREFIXES_AT_ONCE])

    async def _figures_of(self, shard: int, prefixes: list[bytes]) -> list[QueueFigures]:
        now_text, *cells = await self.run(FIGURES, shard, [lane_of(prefix) + prefix for prefix in prefixes])
        now_ms = int(now_text)

        def age(ms: bytes | None) -> int | None:
            return None if ms is None else max(now_ms - int(ms), 0)

        return [
            QueueFigures(prefix, int(pending), int(active), age(oldest), age(beat))
            for prefix, pending, active, oldest, beat in zip(
                prefixes, cells[::4], cells[1::4], cells[2::4], cells[3::4], strict=True
            )
        ]

    async def paths_of(self, keys: list[KeyRef]) -> list[Path | None]:
        """The path of the item of each key; None for the id of an item that is not there."""
        core = self._core
        ids: dict[int, list[int]] = {}
        for key in keys:
            if isinstance(key, int):
                ids.setdefault(core.shards.of_id(key), []).append(key)
        by_id: dict[int, Path] = {}
        for shard, mine in ids.items():
            fields = [id_.to_bytes(8, "big") for id_ in mine]
            rows = await self.ask(shard, "HMGET", core.shards.key(shard, "d"), *fields)
            by_id.update((id_, read_item(row).path) for id_, row in zip(mine, rows, strict=True) if row is not None)
        return [by_id.get(key) if isinstance(key, int) else key for key in keys]


class Woken:
    """Waits for a callback: by a future where a loop runs, else by a turn of whatever runs the coroutine."""

    def __init__(self) -> None:
        self._is_woken = False
        self._future: asyncio.Future[None] | None = None

    def wake(self) -> None:
        self._is_woken = True
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    def __await__(self) -> Any:
        if self._is_woken:
            return
        try:
            self._future = asyncio.get_running_loop().create_future()
        except RuntimeError:
            yield
        else:
            yield from self._future
