"""`cubequeue sql`: one statement, those of stdin, or a shell (shell.py)."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cubequeue_server.commands.client import Connection, Table, connected, rows_of, table_of
from cubequeue_server.commands.output import paint, print_json
from cubequeue_server.commands.statements import split, statements_of
from cubequeue_server.commands.tables import printable, table_lines
from protocol.client_codec import ErrorReply, Rows
from protocol.messages import ResponseFormat

_MAX_ERROR = 2_000  # characters


@dataclass(slots=True)
class Style:
    """How answers are shown: as JSON, else as a table or, `expanded`, a line for each cell; `timing` adds the time."""

    as_json: bool = False
    expanded: bool = False
    timing: bool = False


def run(arguments: argparse.Namespace) -> int:
    """The exit code: 1 when a reply was an error. Raises CommandError."""
    style = Style(as_json=arguments.json)
    if arguments.statement is not None:
        whole, rest = split(arguments.statement)
        return asyncio.run(_ask_each(arguments.url, [*whole, *([rest] if rest else [])], style))
    if sys.stdin.isatty() and sys.stdout.isatty():
        from cubequeue_server.commands.shell import run_shell  # noqa: PLC0415  # its library takes 0.2 s

        return run_shell(arguments.url, style)
    return asyncio.run(_ask_each(arguments.url, statements_of(sys.stdin), style))


async def _ask_each(url: str | None, statements: Iterable[str], style: Style) -> int:
    """Ask one statement after the other, past errors too."""
    code = 0
    async with connected(url) as connection:
        for statement in statements:
            text, failed = await answer(connection, statement, style)
            if text:
                print(text, file=sys.stderr if failed and not style.as_json else sys.stdout, flush=True)
            code |= failed
    return code


async def answer(connection: Connection, statement: str, style: Style) -> tuple[str, bool]:
    """What to print for a statement, and whether it failed. Raises CommandError without an answer."""
    start = time.perf_counter()
    reply = await connection.ask(statement, ResponseFormat.ARROW if style.as_json else ResponseFormat.LEGACY)
    took = f"\nTime: {(time.perf_counter() - start) * 1000:.1f} ms" if style.timing else ""
    if isinstance(reply, ErrorReply):
        if style.as_json:
            print_json({"error": reply.text})
            return "", True
        return paint(f"error: {printable(reply.text, _MAX_ERROR)}", "red", sys.stderr) + took, True
    if style.as_json:
        print_json(table_of(reply).dicts())
        return "", False
    return _shown(rows_of(reply), style) + took, False


def _shown(rows: Rows, style: Style) -> str:
    if not rows.columns:
        return "OK"
    count = f"({len(rows.rows)} row{'' if len(rows.rows) == 1 else 's'})"
    if style.expanded:
        return "\n".join([*_expanded(rows.columns, rows.rows), count])
    head, rule, *lines = table_lines(rows.columns, rows.rows)
    return "\n".join([paint(head, "bold"), paint(rule, "dim"), *lines, count])


def _expanded(columns: Sequence[str], rows: Sequence[Sequence[bytes | None]]) -> list[str]:
    width = max(map(len, columns))
    lines = []
    for number, row in enumerate(rows, 1):
        lines.append(paint(f"-[ row {number} ]-", "dim"))
        lines += (f"{name:<{width}}  {printable(cell, 4_000)}" for name, cell in zip(columns, row, strict=True))
    return lines


async def columns_of(connection: Connection, tables: Iterable[str]) -> dict[str, Table]:
    """What DESCRIBE says of each table that the server has."""
    found = {}
    for table in tables:
        reply = await connection.ask(f"DESCRIBE {table}", ResponseFormat.ARROW)
        if not isinstance(reply, ErrorReply):
            found[table] = table_of(reply)
    return found
