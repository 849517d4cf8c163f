"""`cubequeue monitor`: the statements that a server executes, as they come; a sample under load."""

from __future__ import annotations

import argparse
import asyncio
import time
from typing import Any, Final

from cubequeue_server.commands.client import connected
from cubequeue_server.commands.output import clock, paint, print_json
from cubequeue_server.commands.status_port import StatusPort
from cubequeue_server.commands.tables import printable

_INTERVAL_S: Final = 0.5
_TEXT: Final = 160  # characters


def run(arguments: argparse.Namespace) -> int:
    """The exit code. Raises CommandError. Runs until an interrupt, or for `--seconds`."""
    return asyncio.run(_monitor(arguments))


async def _monitor(arguments: argparse.Namespace) -> int:
    until_s = time.monotonic() + arguments.seconds if arguments.seconds else float("inf")
    async with connected(arguments.url) as connection:
        port = StatusPort(connection, arguments.status_url)
        content = await port.get("/api/statements")  # begins the watch; what came before is another's
        last, seen = content["last"], content["seen"]
        while time.monotonic() < until_s:
            await asyncio.sleep(min(_INTERVAL_S, max(0.0, until_s - time.monotonic())))
            content = await port.get(f"/api/statements?after={last}")
            rows: list[dict[str, Any]] = content["rows"]
            for row in rows:
                if _is_wanted(row, arguments):
                    _tell(row, arguments)
            passed = content["seen"] - seen
            if passed > len(rows) and not arguments.json:
                print(paint(f"… {passed - len(rows)} more in half a second", "dim"), flush=True)
            last, seen = content["last"], content["seen"]
    return 0


def _is_wanted(row: dict[str, Any], arguments: argparse.Namespace) -> bool:
    if arguments.errors and row["error"] is None:
        return False
    return not arguments.text or any(arguments.text in str(value) for value in row.values())


def _tell(row: dict[str, Any], arguments: argparse.Namespace) -> None:
    if arguments.json:
        print_json(row)
        return
    who = printable(row["process_id"] or row["peer"], 40)
    took = "" if row["duration_ms"] is None else f"{row['duration_ms']:.2f}ms"
    text = printable(row["text"], _TEXT)
    error = f"  {paint(printable(row['error'], _TEXT), 'red')}" if row["error"] else ""
    print(f"{paint(clock(row['at_ms']), 'dim')}  {paint(who, 'cyan')}  {took:>9}  {text}{error}", flush=True)
