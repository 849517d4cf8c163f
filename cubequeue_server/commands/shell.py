"""The shell of `cubequeue sql`. Editing and completion are prompt_toolkit's business, paging is the pager's."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import InMemoryHistory

from cubequeue_server.commands.address import CommandError
from cubequeue_server.commands.answers import Style, answer, columns_of
from cubequeue_server.commands.client import connected
from cubequeue_server.commands.output import paint
from cubequeue_server.commands.queues import queue_lines
from cubequeue_server.commands.statements import split
from cubequeue_server.commands.tables import printable

_HISTORY: Final = "cubequeue_history"
_HISTORY_LINES: Final = 1_000
_NAMES_S: Final = 10.0  # names of queues are asked for again after so long
_NAMES_TIMEOUT_S: Final = 1.0
_TABLES: Final = (
    "system.queue", "system.queue_results", "system.cache", "system.history", "system.queue_minutes",
    "system.connections",
)  # fmt: skip
_WORDS: Final = {
    "": "QUEUE CACHE SYS SELECT SHOW DESCRIBE",
    "QUEUE": "ADD ADD_AND_RETRIEVE GET LIST PENDING ACTIVE STALLED ORPHANED TO_CANCEL RETRIEVE HEARTBEAT MERGE_EXTRA "
    "ACK CANCEL RESULT RESULT_BLOCKING CLEAR",
    "CACHE": "SET GET KEYS INCR REMOVE CLEAR",
    "SYS": "CACHESTORE",
    "CACHESTORE": "INFO HEALTHCHECK EVICTION COMPACTION PERSIST TRUNCATE WIPE",
}
_SELECT_WORDS: Final = (
    "FROM WHERE GROUP BY ORDER LIMIT COUNT SUM MIN MAX AVG AND OR NOT LIKE IN IS NULL AS DESC NOW INTERVAL"
)
_QUEUES: Final = (
    "SELECT prefix, status, COUNT(*) AS items FROM system.queue GROUP BY prefix, status ORDER BY prefix, status"
)
_HELP: Final = """\
Statements of QUEUE, CACHE, SYS and SELECT, each on a line or ended by a semicolon. A quote may span lines.
Tab completes words, tables, columns and, within quotes, queues. Up and down go through the history, Ctrl-R searches it.
  \\?              this help
  \\d [TABLE]      the tables, or the columns of one
  \\l              the queues with items
  \\x              a line for each cell, or tables again
  \\timing         the time of each statement, or not
  \\q, Ctrl-D      end"""
_HINT: Final = "\\? for help, Tab completes, \\q or Ctrl-D ends"


def run_shell(url: str | None, style: Style) -> int:
    """The exit code. Raises CommandError when there is no server to begin with."""
    shell = _Shell(url, style)
    asyncio.run(shell.look())  # reports a wrong address before the prompt
    print(_HINT)
    with _history() as history:
        session: PromptSession[str] = PromptSession(
            history=history, completer=shell, complete_while_typing=False, complete_in_thread=True
        )
        pending = ""
        while True:
            try:
                pending += session.prompt("cubequeue> " if not pending else "      ...> ")
            except EOFError:
                return 0
            except KeyboardInterrupt:
                pending = ""  # drops the statement, as other shells do
                continue
            statements, rest = split(pending)
            pending = f"{rest}\n" if rest else ""
            if rest:
                continue
            if not shell.do(statements):
                return 0


class _Shell(Completer):
    """What a person typed, done on a connection of its own: none can go stale at the prompt."""

    def __init__(self, url: str | None, style: Style) -> None:
        self._url = url
        self._style = style
        self._columns: dict[str, list[str]] = {}
        self._names: list[str] = []
        self._names_at_s = float("-inf")

    async def look(self) -> None:
        """Ask for the tables. Raises CommandError."""
        async with connected(self._url) as connection:
            tables = await columns_of(connection, _TABLES)
        self._columns = {name: [str(row[0]) for row in table.rows] for name, table in tables.items()}

    def do(self, statements: Iterable[str]) -> bool:
        """Execute statements; False when one of them ends the shell."""
        try:
            for statement in statements:
                if statement.lower() in {"\\q", "quit", "exit"}:
                    return False
                _page(asyncio.run(self._answer(statement)))
        except CommandError as error:
            print(paint(f"error: {printable(str(error), 2_000)}", "red", sys.stderr), file=sys.stderr)
        except KeyboardInterrupt:
            print("interrupted: the statement may have been executed", file=sys.stderr)
        return True

    async def _answer(self, statement: str) -> str:
        word, _, rest = statement.partition(" ")
        if word.lower() in {"\\?", "\\h", "help"}:
            return _HELP
        if word == "\\x":
            self._style.expanded = not self._style.expanded
            return f"expanded display is {'on' if self._style.expanded else 'off'}"
        if word == "\\timing":
            self._style.timing = not self._style.timing
            return f"timing is {'on' if self._style.timing else 'off'}"
        if word == "\\d" and not rest.strip():
            return "\n".join(f"{name:<24}{', '.join(columns)}" for name, columns in self._columns.items())
        if word == "\\l":
            statement = _QUEUES
        elif word == "\\d":
            name = rest.strip()
            statement = f"DESCRIBE {name if '.' in name else f'system.{name}'}"
        elif word.startswith("\\"):
            return f"there is no {printable(word, 40)}: \\? lists what there is"
        async with connected(self._url) as connection:
            text, _ = await answer(connection, statement, self._style)
        return text

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        """Called by prompt_toolkit, in a thread."""
        before = document.text_before_cursor
        quoted = re.search(r"'([^']*)$", before) if before.count("'") % 2 else None
        if quoted is not None:
            yield from _completions(quoted[1], self._queues(), same_case=True)
            return
        word = re.search(r"[\\\w.]*$", before)
        start = word[0] if word is not None else ""
        yield from _completions(start, self._words(before[: len(before) - len(start)].upper().split()))

    def _words(self, before: list[str]) -> list[str]:
        last = before[-1] if before else ""
        if last in _WORDS:
            return [*_WORDS[last].split(), *(["\\?", "\\d", "\\l", "\\x", "\\timing", "\\q"] if not last else [])]
        if last in {"FROM", "JOIN", "DESCRIBE", "\\D"}:
            return list(self._columns)
        if before[0] == "SELECT":
            named = [columns for table, columns in self._columns.items() if table.upper() in before]
            return [
                *_SELECT_WORDS.split(),
                *sorted({name for columns in named or self._columns.values() for name in columns}),
            ]
        return [
            "PRIORITY",
            "ORPHANED",
            "EXCLUSIVE",
            "EXTERNAL_ID",
            "CONCURRENCY",
            "EXTENDED",
            "TTL",
            "NX",
            "WITH_PAYLOAD",
        ]

    def _queues(self) -> list[str]:
        if time.monotonic() - self._names_at_s > _NAMES_S:
            with contextlib.suppress(CommandError, TimeoutError):
                self._names = asyncio.run(self._ask_names())
            self._names_at_s = time.monotonic()
        return self._names

    async def _ask_names(self) -> list[str]:
        async with asyncio.timeout(_NAMES_TIMEOUT_S), connected(self._url) as connection:
            return [line.name for line in await queue_lines(connection)]


def _completions(start: str, words: Iterable[str], *, same_case: bool = False) -> Iterator[Completion]:
    for word in words:
        if word.startswith(start) if same_case else word.lower().startswith(start.lower()):
            yield Completion(word, -len(start))


def _page(text: str) -> None:
    """Print a text; one that is longer than the terminal goes through the pager."""
    pager = shlex.split(os.environ.get("PAGER", "") or "less")
    is_long = text.count("\n") + 2 > shutil.get_terminal_size().lines
    if not is_long or not pager or shutil.which(pager[0]) is None:
        print(text)
        return
    environment = {"LESS": "FRX", "LESSCHARSET": "utf-8", **os.environ}
    with contextlib.suppress(BrokenPipeError):
        subprocess.run(pager, input=f"{text}\n".encode(), env=environment, check=False)  # noqa: S603  # the user's own pager


@contextlib.contextmanager
def _history() -> Iterator[InMemoryHistory]:
    """The last lines that were typed, in a file that only its user can read."""
    file = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / _HISTORY
    history = InMemoryHistory()
    with contextlib.suppress(OSError, ValueError):
        for line in file.read_text(encoding="utf-8").splitlines()[-_HISTORY_LINES:]:
            history.append_string(line)
    try:
        yield history
    finally:
        lines = [line.replace("\n", " ") for line in history.get_strings()][-_HISTORY_LINES:]
        with contextlib.suppress(OSError):  # no history in a home that is not writable
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch(mode=0o600)
            file.write_text("\n".join(lines) + "\n", encoding="utf-8")
