"""Answers to statements as a person or a program reads them: tables, cells by lines, JSON."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from cubequeue_server.commands.client import Connection, Table, rows_of, table_of
from cubequeue_server.commands.output import paint, print_json
from cubequeue_server.commands.tables import printable, table_lines
from protocol.client_codec import ErrorReply, Rows
from protocol.messages import ResponseFormat

_MAX_ERROR: Final = 2_000  # characters


@dataclass(slots=True)
class Style:
    """How answers are shown: as JSON, else as a table or, `expanded`, a line for each cell; `timing` adds the time."""

    as_json: bool = False
    expanded: bool = False
    timing: bool = False


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
