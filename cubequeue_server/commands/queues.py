"""`cubequeue queues` lists queues, or the items of one; `cubequeue cancel` cancels an item."""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

from cubequeue_server.commands.address import CommandError
from cubequeue_server.commands.client import Connection, connected, quoted
from cubequeue_server.commands.output import age, number, print_json, print_table, span, time_ms
from cubequeue_server.commands.tables import printable
from protocol.arrow_reader import Value

# Includes the exclusive items of other processes, which QUEUE LIST hides (commands.md §4.4, §7).
_FIGURES: Final = (
    "SELECT prefix, status, COUNT(*), MIN(created), MIN(heartbeat), NOW(){} FROM system.queue GROUP BY prefix, status"
)
_OWNERS: Final = ", COUNT(DISTINCT claimed_by), MIN(claimed_by)"
_HEADS: Final = ("queue", "pending", "active", "oldest", "heartbeat")
_ITEM_HEADS: Final = ("id", "key", "status", "priority", "age", "heartbeat", "added by", "claimed by")


@dataclass(slots=True)
class QueueLine:
    """One queue. `oldest_ms` is the age of its oldest pending item, `heartbeat_ms` that of its oldest heartbeat.

    `owners` is the number of process ids that hold its active items, `owner` one of them.
    """

    name: str
    pending: int = 0
    active: int = 0
    oldest_ms: int | None = None
    heartbeat_ms: int | None = None
    owners: int = 0
    owner: str = ""


async def queue_lines(connection: Connection, *, has_owners: bool = False) -> list[QueueLine]:
    """All queues with items, the fullest first, of a server of cubequeue with owners. Raises CommandError."""
    lines: dict[Value, QueueLine] = {}
    table = await connection.table(_FIGURES.format(_OWNERS if has_owners else ""))
    for prefix, status, items, created, heartbeat, now, *owners in table.rows:
        line = lines.setdefault(prefix, QueueLine(str(prefix or "")))
        if status == "Active":
            line.active, line.heartbeat_ms = number(items), age_ms(heartbeat, now)
            if owners:
                line.owners, line.owner = number(owners[0]), str(owners[1] or "")
        else:
            line.pending, line.oldest_ms = number(items), age_ms(created, now)
    return sorted(lines.values(), key=lambda line: (-line.pending - line.active, line.name))


def age_ms(since: Value, now: Value) -> int | None:
    """The milliseconds between two times of the server, never below zero; None without one."""
    since_ms, now_ms = time_ms(since), time_ms(now)
    return None if since_ms is None or now_ms is None else max(0, now_ms - since_ms)


async def items_of(connection: Connection, prefix: str, limit: int) -> tuple[int, list[dict[str, Any]]]:
    """How many items a queue has, and the first of them: active ones, then pending ones in the order of service."""
    where = f"prefix = {quoted(prefix)}" if prefix else "prefix IS NULL"
    total = number((await connection.table(f"SELECT COUNT(*) FROM system.queue WHERE {where}")).rows[0][0])  # noqa: S608
    items = await connection.table(
        "SELECT id, status, priority, created, heartbeat, process_id, claimed_by, claimed_peer, NOW() AS now "  # noqa: S608
        f"FROM system.queue WHERE {where} ORDER BY status, priority DESC, created LIMIT {limit}"
    )
    # Of an exclusive item of another process, QUEUE LIST shows no id.
    listed = (await connection.table(f"QUEUE LIST {quoted(prefix)}")).dicts() if total else []
    ids = {row["id"]: row.get("queue_id") for row in listed}
    return total, [
        {
            "id": None if ids.get(row["id"]) is None else number(ids[row["id"]]),
            "key": row["id"],
            "status": row["status"],
            "priority": number(row["priority"]),
            "created_ms": time_ms(row["created"]),
            "heartbeat_ms": time_ms(row["heartbeat"]),
            "now_ms": time_ms(row["now"]),
            "added_by": row["process_id"],
            "claimed_by": row["claimed_by"],
            "claimed_peer": row["claimed_peer"],
        }
        for row in items.dicts()
    ]


def run(arguments: argparse.Namespace) -> int:
    """The exit code. Raises CommandError, also when there is no item to cancel."""
    if arguments.command == "cancel":
        return asyncio.run(_cancel(arguments))
    return asyncio.run(_queues(arguments) if arguments.prefix is None else _items(arguments))


async def _cancel(arguments: argparse.Namespace) -> int:
    """Cancel an item of any status and owner (commands.md §4.6). Digits are tried as an id, then as a key."""
    item = arguments.item
    references = [item, quoted(item)] if item.isascii() and item.isdigit() else [quoted(item)]
    async with connected(arguments.url) as connection:
        for reference in references:
            if (await connection.rows(f"QUEUE CANCEL {reference}")).rows:
                if arguments.json:
                    print_json({"item": item, "cancelled": True})
                else:
                    print(f"cancelled {printable(item)}")
                return 0
    raise CommandError(
        f"there is no item {printable(item)}: `cubequeue queues` lists the queues, and their items by name"
    )


async def _queues(arguments: argparse.Namespace) -> int:
    async with connected(arguments.url) as connection:
        lines = await queue_lines(connection)
    if arguments.json:
        print_json(
            [
                {
                    "queue": line.name,
                    "pending": line.pending,
                    "active": line.active,
                    "oldest_ms": line.oldest_ms,
                    "heartbeat_ms": line.heartbeat_ms,
                }
                for line in lines
            ]
        )
        return 0
    if not lines:
        print("no items in any queue")
        return 0
    shown = lines[: arguments.limit]
    print_table(
        _HEADS,
        [
            (line.name, str(line.pending), str(line.active), span(line.oldest_ms), span(line.heartbeat_ms))
            for line in shown
        ],
    )
    _say_the_rest(len(lines), len(shown))
    return 0


async def _items(arguments: argparse.Namespace) -> int:
    async with connected(arguments.url) as connection:
        total, items = await items_of(connection, arguments.prefix, 1_000_000 if arguments.json else arguments.limit)
        others = [] if total else [line.name for line in await queue_lines(connection)]
    if arguments.json:
        print_json([{name: value for name, value in item.items() if name != "now_ms"} for item in items])
        return 0
    if not total:
        alike = get_close_matches(arguments.prefix, others, 1)
        hint = f"; did you mean {printable(alike[0])}?" if alike else ""
        print(f"no items in queue {printable(arguments.prefix)}{hint}")
        return 0
    print_table(
        _ITEM_HEADS,
        [item_cells(item) for item in items],
        ["green" if item["status"] == "Active" else "" for item in items],
    )
    _say_the_rest(total, len(items))
    return 0


def item_cells(item: dict[str, Any]) -> tuple[str, ...]:
    """An item of `items_of` as the cells of a table."""
    return (
        "-" if item["id"] is None else str(item["id"]),
        str(item["key"]),
        str(item["status"]),
        str(item["priority"]),
        age(item["created_ms"], item["now_ms"]),
        age(item["heartbeat_ms"], item["now_ms"]) if item["heartbeat_ms"] is not None else "-",
        item["added_by"] or "-",
        item["claimed_by"] or item["claimed_peer"] or "-",
    )


def _say_the_rest(total: int, shown: int) -> None:
    if total > shown:
        print(f"… and {total - shown} more (--limit)")
