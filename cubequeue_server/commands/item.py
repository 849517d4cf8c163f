"""`cubequeue item`: one item, where it stands and why it waits; `cubequeue wait-for`: until it has ended."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from typing import Any, Final

from cubequeue_server.commands.address import CommandError
from cubequeue_server.commands.client import Connection, connected, quoted
from cubequeue_server.commands.history import OUTCOME_STYLES, ended_line, ended_of
from cubequeue_server.commands.output import age, clock, paint, print_json, size, time_ms
from cubequeue_server.commands.queues import items_of
from cubequeue_server.commands.tables import fit, printable
from protocol.arrow_reader import Value

_MAX_SHOWN: Final = 8_192  # characters
_MAX_SLOTS: Final = 8
_POLL_S: Final = 0.5
_TIMEOUT_EXIT: Final = 124  # as `timeout` has it


def run(arguments: argparse.Namespace) -> int:
    """The exit code: 1 for no such item, 124 when the time of `wait-for` is over. Raises CommandError."""
    return asyncio.run(_wait_for(arguments) if arguments.command == "wait-for" else _item(arguments))


def _where(path: str) -> str:
    """The condition of system.queue for a path (commands.md §3)."""
    prefix, colon, key = path.rpartition(":")
    return f"id = {quoted(key)} AND " + (f"prefix = {quoted(prefix)}" if colon else "prefix IS NULL")


async def _found(connection: Connection, key: str) -> dict[str, Value] | None:
    """The row of an item by its path; without a colon in it, of the only item with that key in any queue."""
    columns = "*, NOW() AS now"
    rows = (await connection.table(f"SELECT {columns} FROM system.queue WHERE {_where(key)}")).dicts()  # noqa: S608
    if not rows and ":" not in key:
        rows = (await connection.table(f"SELECT {columns} FROM system.queue WHERE id = {quoted(key)}")).dicts()  # noqa: S608
    if len(rows) > 1:
        queues = ", ".join(sorted(printable(str(row["prefix"])) for row in rows))
        raise CommandError(f"{printable(key)} is in several queues, name it as queue:key: {queues}", is_usage=True)
    return rows[0] if rows else None


async def _item(arguments: argparse.Namespace) -> int:
    async with connected(arguments.url) as connection:
        row = await _found(connection, arguments.item)
        if row is None:
            ended = await ended_of(connection, arguments.item)
            if ended is None:
                raise CommandError(f"there is no item {printable(arguments.item)}, and none ended lately")
            if arguments.json:
                print_json(ended)
            else:
                print(ended_line(ended))
            return 0
        prefix = str(row["prefix"] or "")
        total, others = await items_of(connection, prefix, 10_000)
    mine = next((item for item in others if item["key"] == row["id"]), None)
    active = [item for item in others if item["status"] == "Active"]
    pending = [item for item in others if item["status"] != "Active"]
    place = pending.index(mine) + 1 if mine in pending and total <= 10_000 else None
    if arguments.json:
        print_json(_as_json(row, mine, place, len(active)))
    else:
        print("\n".join(_lines(row, mine, place, active)))
    return 0


def _as_json(row: dict[str, Value], mine: dict[str, Any] | None, place: int | None, active: int) -> dict[str, Any]:
    times = {f"{name}_ms": time_ms(row[name]) for name in ("created", "heartbeat", "orphaned")}
    rest = {
        name: value
        for name, value in row.items()
        if name not in {"id", "prefix", "now", "created", "heartbeat", "orphaned"}
    }
    number_ = None if mine is None else mine["id"]
    return {
        "number": number_,
        "queue": row["prefix"],
        "key": row["id"],
        **times,
        **rest,
        "place": place,
        "active": active,
    }


def _lines(
    row: dict[str, Value], mine: dict[str, Any] | None, place: int | None, active: list[dict[str, Any]]
) -> list[str]:
    now_ms = time_ms(row["now"]) or 0
    created_ms, heartbeat_ms = time_ms(row["created"]), time_ms(row["heartbeat"])
    number_ = "" if mine is None or mine["id"] is None else f"  id {mine['id']}"
    is_active = row["status"] == "Active"
    facts = [
        ("queue", f"{printable(str(row['prefix'] or ''))}{number_}"),
        ("status", paint(str(row["status"]), "green" if is_active else "yellow") + f"  priority {row['priority']}"),
        ("added", f"{clock(created_ms)}, {age(created_ms, now_ms)} ago, by {_owner(row['process_id'])}"),
    ]
    if is_active:
        claimed_by = _owner(row.get("claimed_by") or row.get("claimed_peer"))
        facts.append(("claimed", f"by {claimed_by}, last heartbeat {age(heartbeat_ms, now_ms)} ago"))
    else:
        facts.append(("waits", _why(place, active)))
    if row["exclusive"] in {True, "true"}:
        facts.append(("exclusive", "only its own process can claim it"))
    if row["external_id"] is not None:
        facts.append(("external", printable(str(row["external_id"]))))
    if row["extra"] is not None:
        facts.append(("extra", printable(str(row["extra"]), 1_000)))
    payload = str(row["value"] or "")
    facts.append(("payload", size(len(payload.encode()))))
    return [*(f"{paint(f'{name:<10}', 'bold')}{fact}" for name, fact in facts), "", *_payload(payload)]


def _why(place: int | None, active: list[dict[str, Any]]) -> str:
    where = "" if place is None else f"place {place} in line; "
    if not active:
        return f"{where}nothing of its queue runs: no client has claimed it yet"
    slots = ", ".join(map(_slot, active[:_MAX_SLOTS]))
    more = f" and {len(active) - _MAX_SLOTS} more" if len(active) > _MAX_SLOTS else ""
    return f"{where}{len(active)} run: {slots}{more}"


def _slot(item: dict[str, Any]) -> str:
    owner = _owner(item["claimed_by"] or item["claimed_peer"])
    return f"{fit(printable(str(item['key'])), 12).rstrip()} ({age(item['created_ms'], item['now_ms'])} old, {owner})"


def _owner(value: Value) -> str:
    return printable(str(value), 64) if value else "a client that told no process id"


def _payload(payload: str) -> list[str]:
    """The SQL where Cube wrote it (`{"query": {"query": ["SELECT …", [parameters]]}}`), else the text."""
    try:
        content: Any = json.loads(payload)
    except (ValueError, RecursionError):
        content = None
    for _ in range(8):
        if isinstance(content, dict):
            content = content.get("query")
        elif isinstance(content, list) and content:
            content = content[0]
        else:
            break
    text = content if isinstance(content, str) else payload
    lines = [printable(line, _MAX_SHOWN) for line in text[:_MAX_SHOWN].splitlines()]
    return [*lines, "…"] if len(text) > _MAX_SHOWN else lines


async def _wait_for(arguments: argparse.Namespace) -> int:
    """Look twice a second: to ask for the result as a client would take it from the one that waits for it."""
    until_s = time.monotonic() + arguments.timeout
    seen = False
    async with connected(arguments.url) as connection:
        since_ms = time_ms((await connection.table("SELECT NOW() AS now")).rows[0][0]) or 0
        while True:
            row = await _found(connection, arguments.item)
            if row is None:
                ended = await ended_of(connection, arguments.item, 0 if not seen else since_ms - 1_000)
                if ended is None and not seen:
                    raise CommandError(f"there is no item {printable(arguments.item)}, and none ended lately")
                return _tell_end(arguments, ended)
            seen = True
            if time.monotonic() >= until_s:
                print_json({"item": arguments.item, "status": row["status"]}) if arguments.json else print(
                    f"{printable(arguments.item)} is {str(row['status']).lower()} after {arguments.timeout} s"
                )
                return _TIMEOUT_EXIT
            await asyncio.sleep(min(_POLL_S, max(0.01, until_s - time.monotonic())))


def _tell_end(arguments: argparse.Namespace, ended: dict[str, Any] | None) -> int:
    """0 when it was acknowledged; without a history nobody knows how it ended, which is an end all the same."""
    if arguments.json:
        print_json(ended or {"item": arguments.item, "outcome": None})
    elif ended is None:
        print(f"{printable(arguments.item)} has ended")
    else:
        print(paint(ended_line(ended), OUTCOME_STYLES.get(ended["outcome"], "")))
    return int(ended is not None and ended["outcome"] != "acknowledged")
