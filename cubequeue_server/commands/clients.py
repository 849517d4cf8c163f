"""`cubequeue clients`: each connection, with what it does and holds."""

from __future__ import annotations

import argparse
import asyncio
from typing import Final

from cubequeue_server.commands.client import connected
from cubequeue_server.commands.output import age, number, print_json, print_table, size, time_ms
from cubequeue_server.commands.tables import printable

_MAX_ERROR: Final = 60  # characters; --json has all
_HEADS: Final = (
    "id",
    "who",
    "peer",
    "user",
    "since",
    "statements",
    "errors",
    "in flight",
    "waiting",
    "in",
    "out",
    "holds",
    "last error",
)


def run(arguments: argparse.Namespace) -> int:
    """The exit code. Raises CommandError."""
    return asyncio.run(_clients(arguments))


async def _clients(arguments: argparse.Namespace) -> int:
    async with connected(arguments.url) as connection:
        table = await connection.remembered(
            "SELECT *, NOW() AS now FROM system.connections ORDER BY errors DESC, since"
        )
    clients = []
    for row in table.dicts():
        client = {("since_ms" if name == "since" else name): value for name, value in row.items()}
        client["since_ms"] = time_ms(row["since"])
        clients.append(client)
    if arguments.json:
        print_json([{name: value for name, value in client.items() if name != "now"} for client in clients])
        return 0
    print_table(
        _HEADS,
        [
            (
                str(client["id"]),
                str(client["name"] or client["process_id"] or client["agent"] or client["protocol"]),
                str(client["peer"]),
                str(client["user"] or "-"),
                age(time_ms(client["since_ms"]), time_ms(client["now"]) or 0),
                *(str(client[name]) for name in ("statements", "errors", "in_flight", "waiting")),
                *(size(number(client[name])) for name in ("bytes_in", "bytes_out")),
                str(client["holds"]),
                printable(str(client["last_error"] or "-"), _MAX_ERROR),
            )
            for client in clients
        ],
        ["red" if number(client["errors"]) else "" for client in clients],
    )
    return 0
