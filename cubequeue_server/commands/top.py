"""`cubequeue top`: queues, throughput, cache and memory of a server, live in a terminal of any size."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
from typing import Any, Final

from cubequeue_server.commands.address import CommandError
from cubequeue_server.commands.client import connected
from cubequeue_server.commands.output import paint, print_json
from cubequeue_server.commands.status_port import StatusPort
from cubequeue_server.commands.top_figures import look
from cubequeue_server.commands.top_frame import Figures, View, frame

SMALL: Final = (80, 24)
_STYLES: Final = {"head": "bold"}


def run(arguments: argparse.Namespace) -> int:
    """The exit code. Raises CommandError without a connection."""
    if arguments.once or arguments.json:
        return asyncio.run(_once(arguments))
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise CommandError("top needs a terminal; --once prints one frame without, --json its figures", is_usage=True)
    from cubequeue_server.commands.top_screen import live  # noqa: PLC0415  # its library takes 0.2 s

    return asyncio.run(live(arguments))


async def _once(arguments: argparse.Namespace) -> int:
    view = View(selected=-1, queue=arguments.prefix)
    async with connected(arguments.url) as connection:
        port = StatusPort(connection, arguments.status_url)
        before = await look(connection, port, view)
        await asyncio.sleep(1.0 if before.overview else 0.0)  # a rate takes two looks
        now = await look(connection, port, view)
        url = connection.url.removesuffix("/ws")
    if arguments.json:
        print_json(_as_json(now, before))
        return 0
    width = shutil.get_terminal_size(SMALL).columns if sys.stdout.isatty() else 10_000
    for line in frame(now, before, url, view, (width, 1_000_000)):
        if line.style != "foot":  # of keys
            print(paint(line.text.rstrip(), _STYLES.get(line.style, "")))
    return 0


def _as_json(now: Figures, before: Figures) -> dict[str, Any]:
    seconds = now.at_s - before.at_s

    def rates(name: str) -> dict[str, float | None]:
        if name not in now.totals or name not in before.totals or seconds <= 0:
            return {"added_per_s": None, "ended_per_s": None}
        return {
            f"{kind}_per_s": round((now.totals[name][kind] - before.totals[name][kind]) / seconds, 3)
            for kind in ("added", "ended")
        }

    return {
        "queues": [
            {
                "queue": line.name, "pending": line.pending, "active": line.active, "oldest_ms": line.oldest_ms,
                "heartbeat_ms": line.heartbeat_ms,
                "owners": line.owners, "owner": line.owner or None, **rates(line.name),
            }
            for line in now.queues
        ],
        "items": [{name: value for name, value in item.items() if name != "now_ms"} for item in now.items],
        "info": now.info,
        "memory_bytes": now.memory_bytes,
        "server": {name: value for name, value in (now.overview or {}).items() if name != "queues"} or None,
    }  # fmt: skip
