"""What `cubequeue top` asks a server for: statements on its WebSocket, and its status port where there is one."""

from __future__ import annotations

import re
import time
from typing import Any, Final

from cubequeue_server.commands.address import CommandError
from cubequeue_server.commands.client import Connection
from cubequeue_server.commands.queues import QueueLine, items_of, queue_lines
from cubequeue_server.commands.status_port import StatusPort
from cubequeue_server.commands.top_frame import Figures, View

_MAX_ITEMS: Final = 1_000


async def look(connection: Connection, port: StatusPort, view: View) -> Figures:
    """The figures of now. Raises CommandError when the server does not answer."""
    info = (await connection.rows("SYS CACHESTORE INFO")).rows
    figures = Figures(time.monotonic(), await _queues(connection), {})
    for name, value, *_ in info:
        if name is not None and value is not None and value.isdigit():
            figures.info[name.decode("utf-8", "replace")] = int(value)
    if view.queue is not None:
        figures.item_count, figures.items = await items_of(connection, view.queue, _MAX_ITEMS)
    try:
        figures.overview = await _overview(port)
        resident = re.search(rb"^process_resident_memory_bytes (\S+)", await port.text("/metrics"), re.MULTILINE)
    except CommandError as error:
        figures.missing = str(error)
        return figures
    figures.memory_bytes = None if resident is None else int(float(resident[1]))
    for queue in figures.overview.get("queues", []):
        totals = {kind: queue.get(kind) for kind in ("added", "ended")}
        if all(isinstance(total, int) for total in totals.values()):  # else the queue has no totals of its own
            figures.totals[str(queue.get("name"))] = totals
    return figures


async def _overview(port: StatusPort) -> dict[str, Any]:
    """The figures of the server, and as `queues` those of the queues that have totals. Raises CommandError."""
    server = await port.get("/api/server")
    busiest = await port.get("/api/queues?sort=throughput&order=desc&limit=100")
    queues = [{"name": row.get("name"), **(row.get("totals") or {})} for row in busiest.get("rows", [])]
    return {**server, "queues": queues}


async def _queues(connection: Connection) -> list[QueueLine]:
    try:
        return await queue_lines(connection, has_owners=True)
    except CommandError:  # a server that does not know who claimed an item
        return await queue_lines(connection)
