"""`cubequeue sql`: one statement, the lines of stdin, or a shell."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from cubequeue_server.commands.client import CommandError, connected, rows_of
from cubequeue_server.commands.tables import printable, rows_text
from protocol.client_codec import ErrorReply, Reply

_HISTORY: Final = "cubequeue_history"
_HISTORY_LINES: Final = 1_000
_MAX_ERROR: Final = 2_000  # characters
_HELP: Final = "Statements of QUEUE, CACHE, SYS or SELECT, one a line. \\q or Ctrl-D ends."


def run(arguments: argparse.Namespace) -> int:
    """The exit code: 1 when a reply was an error. Raises CommandError."""
    if arguments.statement is not None:
        return asyncio.run(_ask_each(arguments.url, [arguments.statement], as_json=arguments.json))
    if sys.stdin.isatty():
        return _shell(arguments.url, as_json=arguments.json)
    return asyncio.run(_ask_each(arguments.url, _statements(sys.stdin), as_json=arguments.json))


def _statements(lines: Iterable[str]) -> Iterator[str]:
    """One statement a line, without empty lines and comments."""
    for line in lines:
        statement = line.strip().rstrip(";").rstrip()
        if statement and not statement.startswith("--"):
            yield statement


async def _ask_each(url: str, statements: Iterable[str], *, as_json: bool) -> int:
    """Ask one statement after the other, past errors too."""
    code = 0
    async with connected(url) as connection:
        for statement in statements:
            code |= _print(await connection.ask(statement), as_json=as_json)
    return code


def _print(reply: Reply, *, as_json: bool) -> int:
    if isinstance(reply, ErrorReply):
        if as_json:
            print(json.dumps({"error": reply.text}), flush=True)
        else:
            print(f"error: {printable(reply.text, _MAX_ERROR)}", file=sys.stderr, flush=True)
        return 1
    print(rows_text(rows_of(reply), as_json=as_json), flush=True)
    return 0


def _shell(url: str, *, as_json: bool) -> int:
    """Ask each typed line, on a connection of its own: none can go stale at the prompt."""
    asyncio.run(_ask_each(url, (), as_json=as_json))  # reports a wrong address before the prompt
    print(_HELP)
    with _history():
        while True:
            try:
                line = input("cubequeue> ")
            except EOFError:
                print()  # the caller's prompt starts on a new line
                return 0
            except KeyboardInterrupt:
                print()  # drops the line, as other shells do
                continue
            if line.strip() in {"\\q", "quit", "exit"}:
                return 0
            try:
                asyncio.run(_ask_each(url, _statements([line]), as_json=as_json))
            except CommandError as error:
                print(f"error: {printable(str(error), _MAX_ERROR)}", file=sys.stderr)
            except KeyboardInterrupt:
                print("interrupted: the statement may have been executed", file=sys.stderr)


@contextlib.contextmanager
def _history() -> Iterator[None]:
    """Line editing, with a history file that only its user can read, where Python has readline."""
    try:
        import readline  # noqa: PLC0415  # missing in some Pythons
    except ImportError:
        yield
        return
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state"
    file = Path(state) / _HISTORY
    with contextlib.suppress(OSError):
        readline.read_history_file(file)
    readline.set_history_length(_HISTORY_LINES)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # no history in a home that is not writable
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch(mode=0o600)
            readline.write_history_file(file)
