"""`cubequeue completion`: code for a shell, and what that is told when it asks."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from typing import NoReturn

from argcomplete import autocomplete
from argcomplete.shell_integration import shellcode

from cubequeue_server.arguments import COMMANDS, QUEUE, make_parser
from cubequeue_server.commands.address import CommandError
from cubequeue_server.commands.client import connected
from cubequeue_server.commands.queues import queue_lines

_TIMEOUT_S = 1.0  # a shell that waits for longer is worse than one that completes nothing


def run(arguments: argparse.Namespace) -> int:
    """The exit code."""
    print(shellcode(["cubequeue"], shell=arguments.shell))
    return 0


def complete() -> NoReturn:
    """Answer the shell that set the variables of argcomplete, and exit."""
    parser, of_commands = make_parser(*COMMANDS)
    for each in of_commands.values():
        for action in each._actions:  # noqa: SLF001
            if action.metavar == QUEUE:
                action.completer = _queue_names  # type: ignore[attr-defined]  # argcomplete's way to be told
    autocomplete(parser)
    raise SystemExit(1)


def _queue_names(prefix: str, parsed_args: argparse.Namespace, **_: object) -> list[str]:
    """The queues of the server that begin so; none where it cannot be asked."""

    async def ask() -> list[str]:
        async with asyncio.timeout(_TIMEOUT_S), connected(getattr(parsed_args, "url", None)) as connection:
            return [line.name for line in await queue_lines(connection) if line.name.startswith(prefix)]

    with contextlib.suppress(CommandError, TimeoutError):
        return asyncio.run(ask())
    return []
