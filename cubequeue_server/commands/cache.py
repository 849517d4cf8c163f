"""`cubequeue cache`: the prefixes of the cache, the keys of one, or the value of a key."""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Any, Final

from cubequeue_server.commands.address import CommandError
from cubequeue_server.commands.client import Connection, connected, quoted
from cubequeue_server.commands.output import number, print_json, print_table, short_span, size, time_ms
from cubequeue_server.commands.status_port import StatusPort
from cubequeue_server.commands.tables import printable

_HEADS: Final = ("prefix", "keys", "size", "hits", "misses", "hit rate")
_KEY_HEADS: Final = ("key", "characters", "expires in")


def run(arguments: argparse.Namespace) -> int:
    """The exit code: 1 for no such key. Raises CommandError."""
    return asyncio.run(_cache(arguments))


async def _cache(arguments: argparse.Namespace) -> int:
    async with connected(arguments.url) as connection:
        if arguments.get:
            return await _value(connection, arguments)
        if arguments.prefix is not None:
            return await _keys(connection, arguments)
        return await _prefixes(connection, arguments)


async def _prefixes(connection: Connection, arguments: argparse.Namespace) -> int:
    rows = await _figures(connection, arguments.status_url)
    if arguments.json:
        print_json(rows)
        return 0
    if not rows:
        print("the cache is empty")
        return 0
    shown = rows[: arguments.limit]
    print_table(
        _HEADS,
        [(row["name"], str(row["entries"]), size(row["bytes"]), *_hits(row["hits"], row["misses"])) for row in shown],
    )
    if len(rows) > len(shown):
        print(f"… and {len(rows) - len(shown)} more (--limit)")
    return 0


async def _figures(connection: Connection, given: str | None) -> list[dict[str, Any]]:
    """The prefixes by size; without the status port without sizes and hits, by the number of their keys."""
    try:
        return await _all_figures(StatusPort(connection, given))
    except CommandError as error:
        print(f"cubequeue: no sizes and hits: {error}", file=sys.stderr)
        table = await connection.table(
            "SELECT prefix, COUNT(*) AS entries FROM system.cache GROUP BY prefix ORDER BY 2 DESC"
        )
        nothing = {"bytes": None, "hits": None, "misses": None}
        return [{"name": prefix or "", "entries": number(entries), **nothing} for prefix, entries in table.rows]


async def _all_figures(port: StatusPort) -> list[dict[str, Any]]:
    """All pages of the prefixes. Raises CommandError."""
    found: list[dict[str, Any]] = []
    offset: int | None = 0
    while offset is not None:
        content = await port.get(f"/api/cache?limit=100&offset={offset}")
        rows, offset = content.get("rows"), content.get("next")
        if not isinstance(rows, list) or not rows:
            break
        found += [{name: value for name, value in row.items() if name != "id"} for row in rows]
    return found


def _hits(hits: int | None, misses: int | None) -> tuple[str, str, str]:
    if hits is None or misses is None:
        return "-", "-", "-"
    return str(hits), str(misses), f"{100 * hits / (hits + misses):.1f} %" if hits + misses else "-"


async def _keys(connection: Connection, arguments: argparse.Namespace) -> int:
    where = f"prefix = {quoted(arguments.prefix)}" if arguments.prefix else "prefix IS NULL"
    limit = 200_000 if arguments.json else arguments.limit
    total = number((await connection.table(f"SELECT COUNT(*) FROM system.cache WHERE {where}")).rows[0][0])  # noqa: S608
    table = await connection.table(
        f"SELECT id, LENGTH(value) AS length, expire, NOW() AS now FROM system.cache WHERE {where} "  # noqa: S608
        f"ORDER BY length DESC, id LIMIT {limit}"
    )
    keys = []
    for key, length, expire, now in table.rows:
        expire_ms, now_ms = time_ms(expire), time_ms(now) or 0
        ttl_ms = None if expire_ms is None else max(0, expire_ms - now_ms)
        keys.append({"key": key, "characters": number(length), "ttl_ms": ttl_ms})
    if arguments.json:
        print_json(keys)
    elif not keys:
        print(f"no keys with prefix {printable(arguments.prefix)}")
    else:
        rows = [
            (
                str(each["key"]),
                str(each["characters"]),
                "never" if each["ttl_ms"] is None else short_span(number(each["ttl_ms"])),
            )
            for each in keys
        ]
        print_table(_KEY_HEADS, rows)
        if total > len(keys):
            print(f"… and {total - len(keys)} more (--limit)")
    return 0


async def _value(connection: Connection, arguments: argparse.Namespace) -> int:
    ((value,),) = (await connection.rows(f"CACHE GET {quoted(arguments.prefix or '')}")).rows
    if value is None:
        raise CommandError(f"there is no key {printable(arguments.prefix or '')} in the cache")
    if arguments.json:
        print_json({"key": arguments.prefix, "value": value.decode(errors="replace"), "bytes": len(value)})
    elif sys.stdout.isatty():
        print(printable(value, 100_000))
    else:
        sys.stdout.buffer.write(value)
    return 0
