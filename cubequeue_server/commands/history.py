"""`cubequeue history`: the items that ended lately; `cubequeue stats`: queues over the last minutes or hours."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from cubequeue_server.commands.client import Connection, MissingTableError, Table, connected, quoted
from cubequeue_server.commands.output import clock, number, print_json, print_table, short_span, size, time_ms
from cubequeue_server.commands.tables import printable
from protocol.arrow_reader import Value

OUTCOMES: Final = ("acknowledged", "error", "cancelled", "stalled", "orphaned", "expired")
OUTCOME_STYLES: Final[Mapping[str, str]] = {
    "acknowledged": "green",
    "error": "red",
    "cancelled": "yellow",
    "stalled": "red",
    "orphaned": "yellow",
    "expired": "red",
}
_COLUMNS: Final = (
    "id, prefix, number, priority, created, claimed, ended, wait_ms, run_ms, outcome, result_bytes, error, request_id, "
    "added_by, added_peer, claimed_by, claimed_peer, ended_by, ended_peer, ended_user, external_id, payload_bytes, "
    "value"
)
_TIMES: Final = frozenset({"created", "claimed", "ended"})
_HEADS: Final = ("ended", "queue", "key", "outcome", "waited", "ran", "result", "claimed by", "request")
_STATS_HEADS: Final = (
    "queue", "added", "claimed", "ended", "failed", "per minute", "wait p50", "wait p95", "run p50", "run p95",
    "pending", "active",
)  # fmt: skip
_PERCENTILES: Final = ("wait_p50_ms", "wait_p95_ms", "run_p50_ms", "run_p95_ms")
_COUNTS: Final = ("added", "claimed", "ended", "failed")


def run(arguments: argparse.Namespace) -> int:
    """The exit code. Raises CommandError."""
    return asyncio.run(_stats(arguments) if arguments.command == "stats" else _history(arguments))


async def ended_of(connection: Connection, item: str, since_ms: int = 0) -> dict[str, Any] | None:
    """How the last item of a path, a key or a number ended; None when it is not in the history."""
    prefix, colon, key = item.rpartition(":")
    wanted = [f"(id = {quoted(key)} AND prefix = {quoted(prefix)})"] if colon else [f"id = {quoted(item)}"]
    if item.isascii() and item.isdigit() and len(item) < 19:
        wanted.append(f"number = {item}")
    try:
        rows = await connection.remembered(
            f"SELECT {_COLUMNS} FROM system.history WHERE ({' OR '.join(wanted)}) "  # noqa: S608
            f"AND {_since(since_ms)} ORDER BY ended DESC, number DESC LIMIT 1"
        )
    except MissingTableError:
        return None
    return _as_json(rows.dicts()[0]) if rows.rows else None


def ended_line(ended: Mapping[str, Any]) -> str:
    """How an item ended, in a sentence."""
    parts = [f"{printable(_path(ended))}: {ended['outcome']} at {clock(ended['ended_ms'])}"]
    parts.append(f"waited {short_span(ended['wait_ms'])}")
    if ended["run_ms"] is not None:
        parts.append(f"ran {short_span(ended['run_ms'])}")
    if ended["claimed_by"] or ended["claimed_peer"]:
        parts.append(f"claimed by {printable(ended['claimed_by'] or ended['claimed_peer'])}")
    if ended["outcome"] == "cancelled" and (ended["ended_user"] or ended["ended_by"] or ended["ended_peer"]):
        parts.append(f"by {printable(ended['ended_user'] or ended['ended_by'] or ended['ended_peer'])}")
    if ended["error"]:
        parts.append(printable(ended["error"], 300))
    return ", ".join(parts)


def _path(row: Mapping[str, Any]) -> str:
    return f"{row['queue']}:{row['key']}" if row["queue"] is not None else str(row["key"])


def _as_json(row: Mapping[str, Value]) -> dict[str, Any]:
    shown: dict[str, Any] = {"queue": row["prefix"], "key": row["id"]}
    for name, value in row.items():
        if name in _TIMES:
            shown[f"{name}_ms"] = time_ms(value)
        elif name not in {"id", "prefix"}:
            shown[name] = value
    return shown


def _since(ms: int) -> str:
    """A condition of `ended`, by the second."""
    return f"ended >= '{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S}'" if ms else "TRUE"


async def _history(arguments: argparse.Namespace) -> int:
    conditions = [f"ended >= NOW() - INTERVAL '{arguments.minutes} minute'"]
    if arguments.prefix is not None:
        conditions.append(f"prefix = {quoted(arguments.prefix)}" if arguments.prefix else "prefix IS NULL")
    if arguments.outcome:
        conditions.append(f"outcome = {quoted(arguments.outcome)}")
    if arguments.text:
        like = quoted(f"%{arguments.text}%")
        columns = ("id", "value", "value_tail", "request_id", "added_by", "claimed_by", "error")
        conditions.append("(" + " OR ".join(f"{column} LIKE {like}" for column in columns) + ")")
    order = "COALESCE(run_ms, 0) + wait_ms DESC" if arguments.slowest else "ended DESC, number DESC"
    limit = 100_000 if arguments.json else arguments.limit
    async with connected(arguments.url) as connection:
        rows = await connection.remembered(
            f"SELECT {_COLUMNS} FROM system.history WHERE {' AND '.join(conditions)} ORDER BY {order} LIMIT {limit}"  # noqa: S608
        )
    items = [_as_json(row) for row in rows.dicts()]
    if arguments.json:
        print_json(items)
        return 0
    if not items:
        print(f"no item ended so in the last {arguments.minutes} minutes, or it is remembered no longer")
        return 0
    print_table(_HEADS, [_cells(item) for item in items], [OUTCOME_STYLES.get(item["outcome"], "") for item in items])
    if len(items) == arguments.limit:
        print("… there may be more (--limit)")
    return 0


def _cells(item: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        clock(item["ended_ms"]),
        item["queue"] or "",
        printable(item["key"], 40),
        item["outcome"],
        short_span(item["wait_ms"]),
        short_span(item["run_ms"]),
        size(item["result_bytes"]),
        item["claimed_by"] or item["claimed_peer"] or "-",
        item["request_id"] or "-",
    )


async def _stats(arguments: argparse.Namespace) -> int:
    where = [f"minute >= NOW() - INTERVAL '{arguments.minutes} minute'"]
    if arguments.prefix is not None:
        where.append(f"prefix = {quoted(arguments.prefix)}")
    async with connected(arguments.url) as connection:
        rows = await connection.remembered(
            f"SELECT *, NOW() AS now FROM system.queue_minutes WHERE {' AND '.join(where)} ORDER BY minute"  # noqa: S608
        )
    queues: dict[Value, dict[str, Any]] = {}
    minutes = _minutes_covered(rows, arguments.minutes)
    for row in rows.dicts():
        queue = queues.setdefault(
            row["prefix"], {"queue": row["prefix"], **dict.fromkeys(_COUNTS, 0), **dict.fromkeys(_PERCENTILES)}
        )
        for name in _COUNTS:
            queue[name] += number(row[name])
        for name in _PERCENTILES:  # the worst minute: percentiles cannot be summed
            if row[name] is not None:
                queue[name] = max(number(row[name]), queue[name] or 0)
        queue.update(pending=number(row["pending"]), active=number(row["active"]))
    for queue in queues.values():
        queue["per_minute"] = round(queue["ended"] / minutes, 2)
    found = sorted(queues.values(), key=lambda queue: (-queue["ended"], str(queue["queue"])))
    if arguments.json:
        print_json({"minutes": minutes, "queues": found})
        return 0
    if not found:
        print(f"nothing happened in the last {arguments.minutes} minutes")
        return 0
    print_table(_STATS_HEADS, [_stats_cells(queue) for queue in found])
    print(f"the last {minutes} minutes; percentiles are those of the worst minute")
    return 0


def _minutes_covered(rows: Table, most: int) -> int:
    """The minutes since the first that is remembered: fewer than were asked for when the server has just started."""
    first_ms = min((time_ms(row["minute"]) or 0 for row in rows.dicts()), default=0)
    now_ms = time_ms(rows.dicts()[0]["now"]) or 0 if rows.rows else 0
    return max(1, min(most, -(-(now_ms - first_ms) // 60_000)))


def _stats_cells(queue: Mapping[str, Any]) -> tuple[str, ...]:
    name = "(all others)" if queue["queue"] is None else queue["queue"]
    counts = (str(queue[each]) for each in _COUNTS)
    percentiles = (short_span(queue[each]) for each in _PERCENTILES)
    return (name, *counts, f"{queue['per_minute']:.1f}", *percentiles, str(queue["pending"]), str(queue["active"]))
