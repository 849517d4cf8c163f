"""The words and flags of the command line. The flags of a command are made when it was named: help comes at once."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Final, NamedTuple, NoReturn

from cubequeue_server.version import __version__

EXIT_USAGE: Final = 2
QUEUE: Final = "QUEUE"  # the name of arguments that are the name of a queue

_DESCRIPTION: Final = "A queue and cache server for Cube that speaks CubeStore's protocol."
_MAX_LIMIT: Final = 100_000
_OUTCOMES: Final = ("acknowledged", "error", "cancelled", "stalled", "orphaned", "expired")
AddFlags = Callable[[argparse.ArgumentParser], None]


class Command(NamedTuple):
    """One command: what `--help` says of it, and what adds its flags."""

    help: str
    add_flags: AddFlags


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, like every other error of a start."""

    def error(self, message: str) -> NoReturn:
        fail(message, EXIT_USAGE)


def fail(text: str, code: int) -> NoReturn:
    """Say why on stderr, in one line, and exit."""
    print(f"cubequeue: {text}", file=sys.stderr)
    sys.exit(code)


# Flags


def _server(parser: argparse.ArgumentParser, *, has_status: bool = False) -> None:
    """Where the server is. No credentials: everyone can read command lines."""
    add = parser.add_argument_group("server").add_argument
    add(
        "--url",
        metavar="HOST",
        help="host, host:port, ws:// or wss:// address (CUBEQUEUE_URL, else ws://127.0.0.1:3030)",
    )
    if has_status:
        add("--status-url", metavar="URL", help="status port of the server (the one that the server announces)")


def _output(parser: argparse.ArgumentParser, what: str, *, has_limit: bool = False) -> None:
    add = parser.add_argument_group("output").add_argument
    if has_limit:
        add(
            "--limit",
            type=_number(1, _MAX_LIMIT),
            default=100,
            help="print so many rows at most (100); not with --json",
        )
    add("--json", action="store_true", help=f"print {what} as JSON: numbers, milliseconds, all rows")


def _queue_name(parser: argparse.ArgumentParser, help_text: str) -> None:
    parser.add_argument("prefix", metavar=QUEUE, nargs="?", help=help_text)


def _of_settings(names: Sequence[str] = ()) -> AddFlags:
    """The flags of settings, of all with an effect or of some."""

    def add_flags(parser: argparse.ArgumentParser) -> None:
        from cubequeue_server.settings.help import add_setting_flags  # noqa: PLC0415

        add_setting_flags(parser, names)

    return add_flags


def _healthcheck(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", help="ask this http:// or ws:// address instead of the configured ports")
    _output(parser, "the answer")
    _of_settings(("http_bind", "http_port", "status_bind", "status_port", "tls_cert", "tls_key", "user"))(parser)


def _backup(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="the backup, a new file; - writes it to a pipe")
    _output(parser, "what was done")
    _of_settings(("data_dir",))(parser)


def _restore(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="the backup; - reads it from a pipe")
    _output(parser, "what was done")
    _of_settings(("data_dir",))(parser)


def _settings(parser: argparse.ArgumentParser) -> None:
    _output(parser, "them")
    _of_settings()(parser)


def _sql(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "statement", metavar="STATEMENT", nargs="?", help="without: those of stdin, or a shell on a terminal"
    )
    _server(parser)
    _output(parser, "rows, a line for each statement,")


def _queues(parser: argparse.ArgumentParser) -> None:
    _queue_name(parser, "list the items of this queue")
    _server(parser)
    _output(parser, "them", has_limit=True)


def _cancel(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "item", metavar="KEY_OR_ID", help="queue:key of an item, or the number that `queues QUEUE` shows"
    )
    _server(parser)
    _output(parser, "what was done")


def _item(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("item", metavar="KEY", help="queue:key of an item, or a key that only one queue has")
    _server(parser)
    _output(parser, "it")


def _wait_for(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("item", metavar="KEY", help="queue:key of an item, or a key that only one queue has")
    parser.add_argument("--timeout", type=_number(1, 86_400), default=600, metavar="SECONDS", help="wait so long (600)")
    _server(parser)
    _output(parser, "how it ended")


def _history(parser: argparse.ArgumentParser) -> None:
    _queue_name(parser, "only items of this queue")
    add = parser.add_argument_group("filter").add_argument
    add("--outcome", choices=_OUTCOMES, metavar="OUTCOME", help=", ".join(_OUTCOMES))
    add("--text", help="a part of the key, payload, request id, owner or error")
    add("--minutes", type=_number(1, 1_440), default=60, help="ended in the last so many minutes (60)")
    add("--slowest", action="store_true", help="by wait and run time, the longest first; else the newest first")
    _server(parser)
    _output(parser, "them", has_limit=True)


def _stats(parser: argparse.ArgumentParser) -> None:
    _queue_name(parser, "only this queue")
    parser.add_argument("--minutes", type=_number(1, 1_440), default=60, help="of the last so many minutes (60)")
    _server(parser)
    _output(parser, "them")


def _clients(parser: argparse.ArgumentParser) -> None:
    _server(parser)
    _output(parser, "them")


def _cache(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prefix", metavar="PREFIX", nargs="?", help="list the keys with this prefix")
    parser.add_argument("--get", action="store_true", help="print the value of the key PREFIX, whole")
    _server(parser, has_status=True)
    _output(parser, "them", has_limit=True)


def _copy_cache(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--from",
        dest="source",
        required=True,
        metavar="HOST",
        help="the source, as --url (CUBEQUEUE_UPSTREAM_USER and CUBEQUEUE_UPSTREAM_PASSWORD_FILE)",
    )
    _server(parser)
    _output(parser, "what was done")


def _monitor(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("filter").add_argument
    add("--errors", action="store_true", help="only statements that were refused")
    add("--text", help="only those with this in text, process id, address or error")
    parser.add_argument("--seconds", type=_number(1, 86_400), help="end after so many seconds")
    _server(parser, has_status=True)
    _output(parser, "a line for each statement")


def _top(parser: argparse.ArgumentParser) -> None:
    _queue_name(parser, "begin with the items of this queue")
    parser.add_argument("--interval", type=_number(1, 3600), default=2, help="seconds between two looks (2)")
    parser.add_argument("--once", action="store_true", help="print one frame and end")
    _server(parser, has_status=True)
    _output(parser, "one frame")


def _bench(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--seconds", type=_number(1, 3600), default=10, help="how long each part runs (10)")
    add("--connections", type=_number(1, 1000), default=16, help="connections at once (16)")
    add("--depth", type=_number(1, 256), default=1, help="requests in flight on each connection (1)")
    _server(parser)
    _output(parser, "figures")


def _demo(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--seconds", type=_number(1, 86_400), help="end after so many seconds; else with Ctrl-C")
    add("--port", type=_number(0, 65_535), default=0, help="port of its page (0: any free one)")


def _completion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell to print it for")


def _nothing(_parser: argparse.ArgumentParser) -> None:
    """A command without flags."""


COMMANDS: Final[Mapping[str, Command]] = {
    "serve": Command("run the server in the foreground", _of_settings()),
    "demo": Command("run a server in memory with a made-up Cube deployment, to look around", _demo),
    "healthcheck": Command("ask a running server whether it is ready: exit code 0 or 1", _healthcheck),
    "top": Command("watch queues, throughput, cache and memory of a running server", _top),
    "queues": Command("list the queues of a running server, or the items of one", _queues),
    "item": Command("show one item: owner, payload, and why it waits", _item),
    "history": Command("list the items that ended lately: how, and how long they took", _history),
    "stats": Command("sum up what queues did in the last minutes or hours", _stats),
    "clients": Command("list the connections: what they do, hold, and get wrong", _clients),
    "cache": Command("list the prefixes of the cache, the keys of one, or print a value", _cache),
    "copy-cache": Command("copy the cache of a CubeStore, or of another server, into a running server", _copy_cache),
    "monitor": Command("print the statements that a server executes, as they come", _monitor),
    "wait-for": Command("wait until an item has ended: exit code 0, 1 if it failed, 124 past the time", _wait_for),
    "cancel": Command("cancel an item of a queue", _cancel),
    "sql": Command("execute statements on a running server: one, those of stdin, or a shell", _sql),
    "bench": Command("put load on a running server and measure its answers", _bench),
    "backup": Command("write the journal of the data directory to a file, beside a running server or none", _backup),
    "restore": Command("make the journal of an empty data directory from a backup", _restore),
    "settings": Command("print every setting with its effective value and where that came from", _settings),
    "hash-password": Command("read a password, print the hash of it for the file of users", _nothing),
    "completion": Command("print the code that completes commands and flags in a shell", _completion),
}


def make_parser(*commands: str) -> tuple[argparse.ArgumentParser, Mapping[str, argparse.ArgumentParser]]:
    """The parser, and those of the commands; only those of `commands` have flags: nobody waits for the others'."""
    parser = Parser(prog="cubequeue", description=_DESCRIPTION, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"cubequeue {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    made = {}
    for name, command in COMMANDS.items():
        made[name] = subparsers.add_parser(
            name,
            help=command.help,
            description=command.help[0].upper() + command.help[1:] + ".",
            allow_abbrev=False,
            formatter_class=_wide_formatter,
        )
        if name in commands:
            command.add_flags(made[name])
    return parser, made


def parse(given: Sequence[str]) -> argparse.Namespace:
    """The arguments. Exits with one line for wrong ones, which names what was probably meant."""
    command = given[0] if given else ""
    if command and not command.startswith("-") and command not in COMMANDS:
        fail(f"there is no command {command!r}{_hint(command, COMMANDS)}; --help lists them", EXIT_USAGE)
    parser, made = make_parser(command)
    parsed, unknown = parser.parse_known_args(given)
    if unknown:
        flags = [flag for action in made[command]._actions for flag in action.option_strings]  # noqa: SLF001
        hint = _hint(unknown[0].partition("=")[0], flags) if unknown[0].startswith("-") else ""
        fail(f"unrecognized arguments: {' '.join(unknown)}{hint}", EXIT_USAGE)
    return parsed


def _hint(word: str, known: Sequence[str] | Mapping[str, object]) -> str:
    alike = get_close_matches(word, [*known], 1, 0.7)
    return f": did you mean {alike[0]}?" if alike else ""


def _number(low: int, high: int) -> Callable[[str], int]:
    def parse_number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
        return value

    return parse_number


def _wide_formatter(prog: str) -> argparse.HelpFormatter:
    return argparse.HelpFormatter(prog, max_help_position=34)
