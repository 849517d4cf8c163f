"""`cubequeue cancel`: takes an item out of its queue."""

from __future__ import annotations

import argparse
import asyncio

from cubequeue_server.commands.client import CommandError, connected, quoted
from cubequeue_server.commands.tables import printable


def run(arguments: argparse.Namespace) -> int:
    """The exit code. Raises CommandError, also when there is no such item."""
    return asyncio.run(_cancel(arguments.url, arguments.item))


async def _cancel(url: str, item: str) -> int:
    """Digits alone are the number of an item first, then a key (commands.md §4.6: any status, any owner)."""
    references = [item, quoted(item)] if item.isascii() and item.isdigit() else [quoted(item)]
    async with connected(url) as connection:
        for reference in references:
            if (await connection.rows(f"QUEUE CANCEL {reference}")).rows:
                print(f"cancelled {printable(item)}")  # noqa: T201  # what the command is for
                return 0
    raise CommandError(f"there is no item {printable(item)}")
