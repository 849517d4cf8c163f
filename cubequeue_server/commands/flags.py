"""The flags of the commands that talk to a running server. None for credentials: everyone can read command lines."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Final

DEFAULT_URL: Final = "ws://127.0.0.1:3030"


def add_client_flags(parser: argparse.ArgumentParser, command: str) -> None:
    """Add the flags of one of these commands."""
    parser.add_argument("--url", default=DEFAULT_URL, help=f"ws:// or wss:// address of the server ({DEFAULT_URL})")
    _FLAGS[command](parser)


def _sql(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("statement", nargs="?", help="without one: lines of stdin, or a shell on a terminal")
    parser.add_argument("--json", action="store_true", help="print rows as JSON, a line for each statement")


def _queues(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prefix", nargs="?", help="list the items of this queue")
    parser.add_argument("--limit", type=_number(1, 100_000), default=100, help="print so many rows at most (100)")
    parser.add_argument("--json", action="store_true", help="print rows as JSON")


def _cancel(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("item", metavar="KEY_OR_ID", help="prefix:key of an item, or the number `queues PREFIX` shows")


def _top(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--status-url", help="status port of the server, for throughput and memory (host of --url, 3031)"
    )
    parser.add_argument("--interval", type=_number(1, 3600), default=2, help="seconds between two looks (2)")
    parser.add_argument("--once", action="store_true", help="print one frame and end")


def _bench(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=_number(1, 3600), default=10, help="how long each part runs (10)")
    parser.add_argument("--connections", type=_number(1, 1000), default=16, help="connections at once (16)")
    parser.add_argument("--depth", type=_number(1, 256), default=1, help="requests in flight on each connection (1)")


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


_FLAGS: Final = {"sql": _sql, "queues": _queues, "cancel": _cancel, "top": _top, "bench": _bench}
