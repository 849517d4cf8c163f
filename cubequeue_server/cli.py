"""The command line. What a command needs is imported when it runs: the help and the version come at once."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NoReturn

from cubequeue_server.arguments import EXIT_USAGE, fail, parse

if TYPE_CHECKING:
    from cubequeue_server.settings.resolve import Loaded

EXIT_FAILURE: Final = 1
EXIT_INTERRUPTED: Final = 130

# The module of each command that has one, below cubequeue_server.commands: its `run` gives the exit code.
_MODULES: Final[Mapping[str, str]] = {
    "bench": "bench",
    "cache": "cache",
    "cancel": "queues",
    "clients": "clients",
    "completion": "completion",
    "copy-cache": "copy_cache",
    "demo": "demo",
    "history": "history",
    "item": "item",
    "monitor": "monitor",
    "queues": "queues",
    "sql": "sql",
    "stats": "history",
    "top": "top",
    "wait-for": "item",
}


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The entry point: exits with 0, 1 for what failed, 2 for a wrong command line or setting, 130 for an interrupt."""
    if "_ARGCOMPLETE" in os.environ:
        from cubequeue_server.commands.completion import complete  # noqa: PLC0415

        complete()
    try:
        try:
            parsed = parse(sys.argv[1:] if arguments is None else arguments)
            code = _RUNNERS.get(parsed.command, _run_module)(parsed)
        finally:
            if sys.stdout is not None:  # the process may have none
                sys.stdout.flush()
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = EXIT_FAILURE
    sys.exit(code)


def _run_module(arguments: argparse.Namespace) -> int:
    """A command that needs no settings: it talks to a running server, wherever that is."""
    from importlib import import_module  # noqa: PLC0415

    from cubequeue_server.commands.address import CommandError  # noqa: PLC0415
    from cubequeue_server.commands.tables import printable  # noqa: PLC0415

    module = import_module(f"cubequeue_server.commands.{_MODULES[arguments.command]}")
    try:
        return int(module.run(arguments))
    except CommandError as error:
        fail(printable(str(error), 2_000), EXIT_USAGE if error.is_usage else EXIT_FAILURE)


def _serve(arguments: argparse.Namespace) -> int:
    gc.disable()  # imports make objects by the ten thousand and next to no garbage; the collector takes over later
    loaded = _load(arguments)
    from cubequeue_server.process import serve  # noqa: PLC0415

    return serve(loaded)


def _healthcheck(arguments: argparse.Namespace) -> int:
    from cubequeue_server.commands.healthcheck import UnhealthyError, check_own, check_url  # noqa: PLC0415

    reason = None
    try:
        if arguments.url:
            check_url(arguments.url)
        else:
            check_own(_load(arguments).settings)
    except UnhealthyError as error:
        reason = str(error)
    if arguments.json:
        _print_json({"healthy": reason is None, "reason": reason})
    elif reason is not None:
        fail(f"unhealthy: {reason}", EXIT_FAILURE)
    return 0 if reason is None else EXIT_FAILURE


def _backup(arguments: argparse.Namespace) -> int:
    """`backup` and `restore`: the journal of the configured data directory to one file, and back."""
    from cubequeue_server.commands.backup import run  # noqa: PLC0415
    from storage.journal.errors import JournalError  # noqa: PLC0415

    data_dir = _load(arguments).settings.data_dir
    if not data_dir:
        fail("no data directory is set (CUBESTORE_DATA_DIR or --data-dir)", EXIT_FAILURE)
    try:
        return run(arguments, data_dir)
    except JournalError as error:
        fail(str(error), EXIT_FAILURE)


def _settings(arguments: argparse.Namespace) -> int:
    from cubequeue_server.settings.help import effective_json, effective_lines  # noqa: PLC0415

    loaded = _load(arguments)
    if arguments.json:
        _print_json(effective_json(loaded))
    else:
        for line in effective_lines(loaded):
            print(line)
    for warning in loaded.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return 0


def _hash_password(_arguments: argparse.Namespace) -> int:
    from cubequeue_server.access.passwords import hash_password  # noqa: PLC0415

    if sys.stdin.isatty():
        from getpass import getpass  # noqa: PLC0415

        password = getpass("Password: ").encode()
        if getpass("Again: ").encode() != password:
            fail("the two are not the same", EXIT_FAILURE)
    else:
        password = sys.stdin.buffer.readline().removesuffix(b"\n").removesuffix(b"\r")
    if not password:
        fail("no password was given", EXIT_FAILURE)
    print(hash_password(password))
    return 0


_RUNNERS: Final[Mapping[str, Callable[[argparse.Namespace], int]]] = {
    "serve": _serve,
    "healthcheck": _healthcheck,
    "backup": _backup,
    "restore": _backup,
    "settings": _settings,
    "hash-password": _hash_password,
}


def _load(arguments: argparse.Namespace) -> Loaded:
    from cubequeue_server.process_limits import memory_limit_bytes  # noqa: PLC0415
    from cubequeue_server.settings.help import given_flags  # noqa: PLC0415
    from cubequeue_server.settings.resolve import SettingsError, load_settings  # noqa: PLC0415

    try:
        return load_settings(given_flags(arguments), os.environ, arguments.config, memory_limit_bytes())
    except SettingsError as error:
        fail(str(error), EXIT_USAGE)


def _print_json(content: object) -> None:
    import json  # noqa: PLC0415

    print(json.dumps(content))
