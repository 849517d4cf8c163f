"""The connections for people."""

from __future__ import annotations

from typing import Any, Final

from cubequeue_server.connections import COLUMNS, Connections
from cubequeue_server.net.http_head import Head
from cubequeue_server.observe.console import lists
from cubequeue_server.observe.metrics.sources import Sources
from storage.vocabulary import Row

# `id` and `since` have other names here: they are no id of the page, and have a unit.
_KEYS: Final = tuple({"id": "number", "since": "since_ms"}.get(name, name) for name in COLUMNS.names)
_TEXTS: Final = ("peer", "name", "process_id", "connection_id", "user", "agent", "last_error")


class Clients:
    """Reads the connections."""

    def __init__(self, sources: Sources, connections: Connections) -> None:
        self._sources = sources
        self._connections = connections

    async def rows(self) -> list[dict[str, Any]]:
        """All connections. O(connections + items), in slices."""
        found: list[dict[str, Any]] = []
        async for some in self._connections.read(self._sources.store):
            found += [_json(row) for row in some]
        return found

    async def listed(self, request: Head) -> dict[str, Any]:
        """The answer to `/api/clients`."""
        search = lists.wanted_text(request, "search")
        sort = lists.choice(request, "sort", ("", *_KEYS), "")
        is_falling = lists.choice(request, "order", ("asc", "desc"), "asc") == "desc"
        found = [
            row for row in await self.rows() if not search or any(search in (row[key] or "").lower() for key in _TEXTS)
        ]
        if sort:
            found.sort(key=lambda row: (row[sort] is not None, row[sort]), reverse=is_falling)
        else:
            found.sort(key=lambda row: (not row["errors"], row["number"]))
        part, place = lists.page(request, found)
        return {"rows": list(part), **place}


def _json(row: Row) -> dict[str, Any]:
    cells = (cell.decode(errors="replace") if isinstance(cell, bytes) else cell for cell in row)
    return dict(zip(_KEYS, cells, strict=True))
