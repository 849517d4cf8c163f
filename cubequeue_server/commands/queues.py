"""`cubequeue queues` lists queues, or the items of one; `cubequeue cancel` cancels an item."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cubequeue_server.commands.client import CommandError, Connection, connected, quoted
from cubequeue_server.commands.tables import json_text, printable, table_lines

# Includes the exclusive items of other processes, which QUEUE LIST hides (commands.md §4.4, §7).
_FIGURES: Final = "SELECT prefix, status, COUNT(*), MIN(created) FROM system.queue GROUP BY prefix, status"
_HEADS: Final = ("queue", "pending", "active", "oldest")
_ITEM_HEADS: Final = ("id", "key", "status", "priority", "age", "heartbeat", "owner")


@dataclass(slots=True)
class QueueLine:
    """One queue; `oldest_ms` is Unix time, None without an item."""

    name: str
    pending: int = 0
    active: int = 0
    oldest_ms: int | None = None


async def queue_lines(connection: Connection) -> list[QueueLine]:
    """All queues with items, the fullest first. Raises CommandError."""
    lines: dict[bytes | None, QueueLine] = {}
    for prefix, status, count, created in (await connection.rows(_FIGURES)).rows:
        line = lines.setdefault(prefix, QueueLine((prefix or b"").decode("utf-8", "replace")))
        if status == b"Active":
            line.active += int(count or 0)
        else:
            line.pending += int(count or 0)
        created_ms = unix_ms(created)
        if created_ms is not None and (line.oldest_ms is None or created_ms < line.oldest_ms):
            line.oldest_ms = created_ms
    return sorted(lines.values(), key=lambda line: (-line.pending - line.active, line.name))


def unix_ms(timestamp: bytes | None) -> int | None:
    """A timestamp of a reply in milliseconds; None for NULL and for any other text."""
    try:
        moment = datetime.fromisoformat((timestamp or b"").decode())
    except ValueError:
        return None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def age(since_ms: int | None, now_ms: int) -> str:
    """The time since then in its two largest units, never below zero."""
    if since_ms is None:
        return "-"
    seconds = max(0, now_ms - since_ms) // 1000
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if days:
        return f"{days}d{hours % 24:02}h"
    if hours:
        return f"{hours}h{minutes % 60:02}m"
    return f"{minutes}m{seconds % 60:02}s" if minutes else f"{seconds}s"


def run(arguments: argparse.Namespace) -> int:
    """The exit code. Raises CommandError, also when there is no item to cancel."""
    if arguments.command == "cancel":
        return asyncio.run(_cancel(arguments.url, arguments.item))
    return asyncio.run(_queues(arguments) if arguments.prefix is None else _items(arguments))


async def _cancel(url: str, item: str) -> int:
    """Cancel an item of any status and owner (commands.md §4.6). Digits are tried as an id, then as a key."""
    references = [item, quoted(item)] if item.isascii() and item.isdigit() else [quoted(item)]
    async with connected(url) as connection:
        for reference in references:
            if (await connection.rows(f"QUEUE CANCEL {reference}")).rows:
                print(f"cancelled {printable(item)}")
                return 0
    raise CommandError(f"there is no item {printable(item)}")


async def _queues(arguments: argparse.Namespace) -> int:
    async with connected(arguments.url) as connection:
        lines = await queue_lines(connection)
    now_ms = _now_ms()
    rows = [
        (line.name, str(line.pending), str(line.active), age(line.oldest_ms, now_ms))
        for line in lines[: arguments.limit]
    ]
    _show(_HEADS, rows, len(lines), as_json=arguments.json)
    return 0


async def _items(arguments: argparse.Namespace) -> int:
    where = f"prefix = {quoted(arguments.prefix)}" if arguments.prefix else "prefix IS NULL"
    async with connected(arguments.url) as connection:
        total = int((await connection.rows(f"SELECT COUNT(*) FROM system.queue WHERE {where}")).rows[0][0] or 0)  # noqa: S608
        items = await connection.rows(
            "SELECT id, status, priority, created, heartbeat, process_id FROM system.queue "  # noqa: S608
            f"WHERE {where} ORDER BY status, priority DESC, created LIMIT {arguments.limit}"
        )
        listed = await connection.rows(f"QUEUE LIST {quoted(arguments.prefix)}")
    ids = {row[0]: row[1] for row in listed.rows}
    now_ms = _now_ms()
    rows = [
        (
            ids.get(key, b"-"),  # of an exclusive item of another process, QUEUE LIST shows no id
            key,
            status,
            priority,
            age(unix_ms(created), now_ms),
            age(unix_ms(heartbeat), now_ms),
            owner if owner is not None else "-",
        )
        for key, status, priority, created, heartbeat, owner in items.rows
    ]
    _show(_ITEM_HEADS, rows, total, as_json=arguments.json)
    return 0


def _show(heads: Sequence[str], rows: Sequence[Sequence[bytes | str | None]], total: int, *, as_json: bool) -> None:
    if as_json:
        print(json_text(heads, rows))
        return
    print("\n".join(table_lines(heads, rows)))
    if total > len(rows):
        print(f"… and {total - len(rows)} more (--limit)")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
