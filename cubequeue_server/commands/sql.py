"""`cubequeue sql`: one statement, those of stdin, or a shell (shell.py)."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterable

from cubequeue_server.commands.answers import Style, answer
from cubequeue_server.commands.client import connected
from cubequeue_server.commands.statements import split, statements_of


def run(arguments: argparse.Namespace) -> int:
    """The exit code: 1 when a reply was an error. Raises CommandError."""
    style = Style(as_json=arguments.json)
    if arguments.statement is not None:
        whole, rest = split(arguments.statement, frozenset(";"))  # it may have lines
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
