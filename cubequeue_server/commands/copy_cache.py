"""`cubequeue copy-cache`: the cache of a CubeStore, or of another cubequeue, into a running server (docs/migration.md).

1. list     SELECT from the source's `system.cache`, by prefix, in pages by key: without values
2. values   CACHE GET each on the source
3. write    CACHE SET NX on the server: what it has already is newer, so a second run harms nothing
4. marks    of pre-aggregations come last, all of them or none, and REFRESH_END_REACHED at the very end; only then does
            the server stop to guard tables
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple, TypeVar

from cubequeue_server.commands.address import CommandError, credentials
from cubequeue_server.commands.client import Connection, connected, quoted, rows_of
from cubequeue_server.commands.output import print_json
from storage.cache.drop_guard import REFRESH_END

_PAGE_ROWS: Final = 10_000
_AT_ONCE: Final = 100
_MAX_MARK_BYTES: Final = 256 << 20
_MARK: Final = b"SQL_PRE_AGGREGATIONS_"
_BAR_WIDTH: Final = 30
_REPORT_INTERVAL_S: Final = 0.2

_T = TypeVar("_T")


class _Key(NamedTuple):
    path: bytes
    expires_s: float | None  # on the clock of the source


class _Entry(NamedTuple):
    key: _Key
    value: bytes


def run(arguments: argparse.Namespace) -> int:
    """The exit code. Raises CommandError."""
    return asyncio.run(_copy(arguments.source, arguments.url, as_json=arguments.json))


def _source_credentials() -> dict[str, str]:
    environment = os.environ
    own = {
        "CUBEQUEUE_USER": environment.get("CUBEQUEUE_UPSTREAM_USER", ""),
        "CUBEQUEUE_PASSWORD_FILE": environment.get("CUBEQUEUE_UPSTREAM_PASSWORD_FILE", ""),
    }
    return credentials(own)


async def _copy(source_url: str, url: str | None, *, as_json: bool) -> int:
    headers = _source_credentials()
    async with connected(source_url, flag="--from", headers=headers) as source, connected(url) as target:
        copying = _Copying(source, target)
        await copying.run()
    counted = copying.counted
    if as_json:
        print_json(counted)
        return 0
    print(
        f"{counted['copied']} entries copied, {counted['present']} were there already,"
        f" {counted['expired']} had expired or were gone",
    )
    return 0


class _Copying:
    def __init__(self, source: Connection, target: Connection) -> None:
        self._source = source
        self._target = target
        self._clock_offset_s = 0.0  # what the clock of the source is ahead of ours
        self._total = self._done = 0
        self._reported_s = 0.0
        self.counted = {"copied": 0, "present": 0, "expired": 0}

    async def run(self) -> None:
        self._clock_offset_s = await self._offset()
        prefixes = await self._prefixes()
        self._total = sum(prefixes.values())
        marks = [prefix for prefix in prefixes if prefix is not None and _MARK in prefix + b":"]
        for prefix in prefixes:
            if prefix not in marks:
                async for page in self._pages(prefix):
                    ordinary = [key for key in page if _MARK not in key.path]
                    for keys in _parts(ordinary):
                        await self._write(await self._values(keys))
        if await self._copy_marks(marks):
            await self._ask(self._target, b"SYS CACHESTORE END_DROP_GUARD")
        self._report(is_last=True)

    async def _copy_marks(self, prefixes: Sequence[bytes | None]) -> bool:
        """All are read before the first is written: with some of them missing Cube would drop their tables.

        Whether the end of a refresh was among them: a source that guards tables itself hides it.
        """
        entries: list[_Entry] = []
        size_bytes = 0
        for prefix in prefixes:
            async for page in self._pages(prefix):
                for keys in _parts(page):
                    some = await self._values(keys)
                    entries += some
                    size_bytes += sum(len(entry.value) for entry in some)
                    if size_bytes > _MAX_MARK_BYTES:
                        raise CommandError(f"marks of pre-aggregations take more than {_MAX_MARK_BYTES} bytes")
        entries.sort(key=lambda entry: entry.key.path.endswith(REFRESH_END))
        ends = [entry for entry in entries if entry.key.path.endswith(REFRESH_END)]
        for part in _parts(entries[: len(entries) - len(ends)]):
            await self._write(part)
        await self._write(ends)
        return bool(ends)

    # Source

    async def _offset(self) -> float:
        """Of the clocks; they count as equal where the difference may be that of a second's beginning."""
        rows = await self._ask(self._source, b"SELECT FLOOR((UNIX_TIMESTAMP()) / 1) as refresh_key")
        offset_s = float(rows[0][0] or 0) - time.time()
        return offset_s if abs(offset_s) > 2 else 0.0

    async def _prefixes(self) -> dict[bytes | None, int]:
        rows = await self._ask(self._source, b"SELECT prefix, count(*) AS entries FROM system.cache GROUP BY prefix")
        return {row[0]: int(row[1] or 0) for row in rows}

    async def _pages(self, prefix: bytes | None) -> AsyncIterator[list[_Key]]:
        """The keys of a prefix in their order: with OFFSET, removals meanwhile would hide some."""
        where = b"prefix IS NULL" if prefix is None else b"prefix = " + _literal(prefix)
        last: bytes | None = None
        while True:
            behind = b"" if last is None else b" AND id > " + _literal(last)
            rows = await self._ask(
                self._source,
                b"SELECT id, expire FROM system.cache WHERE %b%b ORDER BY id LIMIT %d" % (where, behind, _PAGE_ROWS),
            )
            yield [_Key(_path(prefix, row[0] or b""), _seconds(row[1])) for row in rows]
            if len(rows) < _PAGE_ROWS:
                return
            last = rows[-1][0] or b""

    async def _values(self, keys: Sequence[_Key]) -> list[_Entry]:
        now_s = time.time() + self._clock_offset_s
        live = [key for key in keys if key.expires_s is None or key.expires_s > now_s]
        replies = await asyncio.gather(*(self._ask(self._source, b"CACHE GET " + _literal(key.path)) for key in live))
        values = [rows[0][0] if rows else None for rows in replies]
        entries = [_Entry(key, value) for key, value in zip(live, values, strict=True) if value is not None]
        self.counted["expired"] += len(keys) - len(entries)
        self._advance(len(keys) - len(entries))
        return entries

    # Target

    async def _write(self, entries: Sequence[_Entry]) -> None:
        replies = await asyncio.gather(*(self._ask(self._target, self._set(entry)) for entry in entries))
        for rows in replies:
            self.counted["copied" if rows[0][0] == b"true" else "present"] += 1
        self._advance(len(entries))

    def _set(self, entry: _Entry) -> bytes:
        expires_s = entry.key.expires_s
        ttl = b""
        if expires_s is not None:
            ttl = b"TTL %d " % max(1, round(expires_s - self._clock_offset_s - time.time()))
        return b"CACHE SET NX %b%b %b" % (ttl, _literal(entry.key.path), _literal(entry.value))

    async def _ask(self, connection: Connection, statement: bytes) -> list[tuple[bytes | None, ...]]:
        try:
            return rows_of(await connection.ask(statement)).rows
        except CommandError as error:
            side = "the source" if connection is self._source else "the server"
            raise CommandError(f"{side}: {error}") from error

    # Progress

    def _advance(self, entries: int) -> None:
        self._done += entries
        if time.monotonic() - self._reported_s >= _REPORT_INTERVAL_S:
            self._report(is_last=False)

    def _report(self, *, is_last: bool) -> None:
        """A bar, where somebody sees it."""
        self._reported_s = time.monotonic()
        if not sys.stderr.isatty():
            return
        share = 1.0 if is_last else min(self._done / max(self._total, 1), 1.0)
        filled = int(_BAR_WIDTH * share)
        bar = "#" * filled + "-" * (_BAR_WIDTH - filled)
        end = "\n" if is_last else ""
        print(f"\r[{bar}] {self._done} of {self._total} entries", end=end, file=sys.stderr, flush=True)


def _parts(entries: Sequence[_T]) -> list[Sequence[_T]]:
    return [entries[start : start + _AT_ONCE] for start in range(0, len(entries), _AT_ONCE)]


def _literal(text: bytes) -> bytes:
    return quoted(text.decode(errors="surrogateescape")).encode(errors="surrogateescape")


def _path(prefix: bytes | None, key: bytes) -> bytes:
    """The key as it was written: `system.cache` splits it at the last colon."""
    return key if prefix is None else b"%b:%b" % (prefix, key)


def _seconds(text: bytes | None) -> float | None:
    """A timestamp of a reply, in UTC, as Unix time."""
    if text is None:
        return None
    moment = datetime.fromisoformat(text.decode().removesuffix("Z").replace(" UTC", ""))
    return moment.replace(tzinfo=UTC).timestamp()
