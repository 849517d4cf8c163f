"""The command line. What a command needs is imported when it runs: the help and the version come at once."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn

from cubequeue_server.version import __version__

if TYPE_CHECKING:
    from cubequeue_server.settings.resolve import Loaded

EXIT_FAILURE = 1
EXIT_USAGE = 2

_DEFAULT_URL = "ws://127.0.0.1:3030"
_DESCRIPTION = "A queue and cache server for Cube that speaks CubeStore's protocol."
COMMANDS = {
    "serve": "run the server in the foreground",
    "healthcheck": "ask a running server whether it is ready: exit code 0 or 1",
    "sql": "execute statements on a running server: one, those of stdin, or a shell",
    "queues": "list the queues of a running server, or the items of one",
    "cancel": "cancel an item of a queue",
    "top": "watch queues, throughput, cache and memory of a running server",
    "copy-cache": "copy the cache of a CubeStore, or of another server, into a running server",
    "bench": "put load on a running server and measure its answers",
    "backup": "write the journal of the data directory to a file, beside a running server or none",
    "restore": "make the journal of an empty data directory from a backup",
    "settings": "print every setting with its effective value and where that came from",
    "hash-password": "read a password, print the hash of it for the file of users",
}
# The module of each command that talks to a running server.
_CLIENT_MODULES = {
    "sql": "sql",
    "queues": "queues",
    "cancel": "queues",
    "top": "top",
    "bench": "bench",
    "copy-cache": "copy_cache",
}


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, like every other error of a start."""

    def error(self, message: str) -> NoReturn:
        _fail(message, EXIT_USAGE)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The entry point: exits with 0, 1 for what failed, 2 for a wrong command line or setting, 130 for an interrupt."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    parsed = make_parser(given[0] if given else "").parse_args(given)
    try:
        sys.exit(_COMMAND_RUNNERS[parsed.command](parsed))
    except KeyboardInterrupt:
        sys.exit(130)


def make_parser(command: str) -> argparse.ArgumentParser:
    """The parser, with the flags of `command` only: nobody waits for those of the others."""
    parser = _Parser(prog="cubequeue", description=_DESCRIPTION, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"cubequeue {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    for name, help_line in COMMANDS.items():
        subparser = commands.add_parser(
            name,
            help=help_line,
            description=help_line[0].upper() + help_line[1:] + ".",
            allow_abbrev=False,
            formatter_class=_wide_formatter,
        )
        if name != command or name == "hash-password":  # which needs no setting
            continue
        if name in _CLIENT_MODULES:
            _add_client_flags(subparser, name)
            continue
        from cubequeue_server.settings.help import add_setting_flags  # noqa: PLC0415

        if name in {"backup", "restore"}:
            subparser.add_argument("file", metavar="FILE", help="the backup")
        if name == "healthcheck":
            subparser.add_argument("--url", help="ask this http:// or ws:// address instead of the configured ports")
        add_setting_flags(subparser)
    return parser


def _add_client_flags(parser: argparse.ArgumentParser, command: str) -> None:
    """Add the flags of a command that talks to a server. None for credentials: everyone can read command lines."""
    add = parser.add_argument
    add("--url", default=_DEFAULT_URL, help=f"ws:// or wss:// address of the server ({_DEFAULT_URL})")
    if command == "sql":
        add("statement", nargs="?", help="without one: lines of stdin, or a shell on a terminal")
        add("--json", action="store_true", help="print rows as JSON, a line for each statement")
    elif command == "queues":
        add("prefix", nargs="?", help="list the items of this queue")
        add("--limit", type=_number(1, 100_000), default=100, help="print so many rows at most (100)")
        add("--json", action="store_true", help="print rows as JSON")
    elif command == "cancel":
        add("item", metavar="KEY_OR_ID", help="prefix:key of an item, or the number `queues PREFIX` shows")
    elif command == "copy-cache":
        add("--from", dest="source", required=True, metavar="URL", help="ws:// or wss:// address of the source")
    elif command == "top":
        add("--status-url", help="status port of the server, for throughput and memory (host of --url, 3031)")
        add("--interval", type=_number(1, 3600), default=2, help="seconds between two looks (2)")
        add("--once", action="store_true", help="print one frame and end")
    else:
        add("--seconds", type=_number(1, 3600), default=10, help="how long each part runs (10)")
        add("--connections", type=_number(1, 1000), default=16, help="connections at once (16)")
        add("--depth", type=_number(1, 256), default=1, help="requests in flight on each connection (1)")


def _number(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
        return value

    return parse


def _wide_formatter(prog: str) -> argparse.HelpFormatter:
    return argparse.HelpFormatter(prog, max_help_position=34)


def _serve(arguments: argparse.Namespace) -> int:
    gc.disable()  # imports make objects by the ten thousand and next to no garbage; the collector takes over later
    loaded = _load(arguments)
    from cubequeue_server.process import serve  # noqa: PLC0415

    return serve(loaded)


def _healthcheck(arguments: argparse.Namespace) -> int:
    from cubequeue_server.commands.healthcheck import UnhealthyError, check_own, check_url  # noqa: PLC0415

    try:
        if arguments.url:
            check_url(arguments.url)
        else:
            check_own(_load(arguments).settings)
    except UnhealthyError as error:
        _fail(f"unhealthy: {error}", EXIT_FAILURE)
    return 0


def _backup(arguments: argparse.Namespace) -> int:
    """`backup` and `restore`: the journal of the configured data directory to one file, and back."""
    from pathlib import Path  # noqa: PLC0415

    from cubequeue_server.engines.stores import JOURNAL_FOLDER  # noqa: PLC0415
    from storage.journal.backup import backup, restore  # noqa: PLC0415
    from storage.journal.errors import JournalError  # noqa: PLC0415

    data_dir = _load(arguments).settings.data_dir
    if not data_dir:
        _fail("no data directory is set (CUBESTORE_DATA_DIR or --data-dir)", EXIT_FAILURE)
    directory, file = Path(data_dir) / JOURNAL_FOLDER, Path(arguments.file)
    try:
        if arguments.command == "backup":
            done = f"{arguments.file}: {backup(directory, file)} rows, {file.stat().st_size} bytes"
        else:
            done = f"{directory}: {restore(file, directory)} rows"
    except JournalError as error:
        _fail(str(error), EXIT_FAILURE)
    print(done)
    return 0


def _settings(arguments: argparse.Namespace) -> int:
    from cubequeue_server.settings.help import effective_lines  # noqa: PLC0415

    loaded = _load(arguments)
    for line in effective_lines(loaded):
        print(line)
    for warning in loaded.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return 0


def _client(arguments: argparse.Namespace) -> int:
    """A command that talks to a running server, wherever that is: it has no settings of its own."""
    from importlib import import_module  # noqa: PLC0415

    from cubequeue_server.commands.client import CommandError  # noqa: PLC0415
    from cubequeue_server.commands.tables import printable  # noqa: PLC0415

    module = import_module(f"cubequeue_server.commands.{_CLIENT_MODULES[arguments.command]}")
    try:
        return int(module.run(arguments))
    except CommandError as error:
        _fail(printable(str(error), 2_000), EXIT_USAGE if error.is_usage else EXIT_FAILURE)
    except BrokenPipeError:  # whoever read it has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILURE


def _hash_password(_arguments: argparse.Namespace) -> int:
    from cubequeue_server.access.passwords import hash_password  # noqa: PLC0415

    if sys.stdin.isatty():
        from getpass import getpass  # noqa: PLC0415

        password = getpass("Password: ").encode()
        if getpass("Again: ").encode() != password:
            _fail("the two are not the same", EXIT_FAILURE)
    else:
        password = sys.stdin.buffer.readline().removesuffix(b"\n").removesuffix(b"\r")
    if not password:
        _fail("no password was given", EXIT_FAILURE)
    print(hash_password(password))
    return 0


_COMMAND_RUNNERS = {
    "serve": _serve,
    "healthcheck": _healthcheck,
    "backup": _backup,
    "restore": _backup,
    "settings": _settings,
    "hash-password": _hash_password,
    **dict.fromkeys(_CLIENT_MODULES, _client),
}


def _load(arguments: argparse.Namespace) -> Loaded:
    from cubequeue_server.process_limits import memory_limit_bytes  # noqa: PLC0415
    from cubequeue_server.settings.help import given_flags  # noqa: PLC0415
    from cubequeue_server.settings.resolve import SettingsError, load_settings  # noqa: PLC0415

    try:
        return load_settings(given_flags(arguments), os.environ, arguments.config, memory_limit_bytes())
    except SettingsError as error:
        _fail(str(error), EXIT_USAGE)


def _fail(text: str, code: int) -> NoReturn:
    print(f"cubequeue: {text}", file=sys.stderr)
    sys.exit(code)
