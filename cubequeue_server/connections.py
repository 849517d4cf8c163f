"""The open connections of the WebSocket port and the MySQL port (`system.connections`)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final, Protocol

from cubequeue_server.client_names import ClientNames
from storage.asking import Caller
from storage.engine import Inspectable
from storage.system_tables import SYSTEM_COLUMNS, SystemTable
from storage.vocabulary import Cell, Columns, ColumnType, Row

_STRING, _INT, _TIMESTAMP = ColumnType.STRING, ColumnType.INT, ColumnType.TIMESTAMP

TABLE: Final = "system.connections"
COLUMNS: Final = Columns(
    ("id", _INT),
    ("protocol", _STRING),
    ("peer", _STRING),
    ("name", _STRING),
    ("process_id", _STRING),
    ("connection_id", _STRING),
    ("user", _STRING),
    ("agent", _STRING),
    ("since", _TIMESTAMP),
    ("statements", _INT),
    ("errors", _INT),
    ("last_error", _STRING),
    ("in_flight", _INT),
    ("waiting", _INT),
    ("bytes_in", _INT),
    ("bytes_out", _INT),
    ("holds", _INT),
)

_SLICE: Final = 64
_MAX_ERROR: Final = 200  # characters
_QUEUE_COLUMNS: Final = SYSTEM_COLUMNS[SystemTable.QUEUE].names
_CLAIMED_BY, _CLAIMED_PEER = _QUEUE_COLUMNS.index("claimed_by"), _QUEUE_COLUMNS.index("claimed_peer")


@dataclass(slots=True, frozen=True)
class Figures:
    """One connection now. `since_ms` is when it came, `waiting` are those of `in_flight` that wait for a result."""

    protocol: str
    caller: Caller
    connection_id: bytes | None
    agent: bytes
    since_ms: int
    statements: int
    errors: int
    last_error: str
    in_flight: int
    waiting: int
    bytes_in: int
    bytes_out: int


class Connection(Protocol):
    """An open connection."""

    def figures(self) -> Figures:
        """Its figures. O(1)."""


class Connections:
    """All open connections by number. `names` gives their owners names."""

    def __init__(self, names: ClientNames | None = None) -> None:
        self.names = ClientNames() if names is None else names
        self._open: dict[int, Connection] = {}

    def add(self, number: int, connection: Connection) -> None:
        """A connection was admitted."""
        self._open[number] = connection

    def remove(self, number: int) -> None:
        """A connection has ended."""
        self._open.pop(number, None)

    async def read(self, tables: Inspectable) -> AsyncIterator[list[Row]]:
        """The rows of `system.connections`, in slices. O(connections + items)."""
        held = await held_items(tables)
        numbers = list(self._open)
        for start in range(0, len(numbers), _SLICE):
            rows: list[Row] = []
            for number in numbers[start : start + _SLICE]:
                connection = self._open.get(number)
                if connection is not None:
                    rows.append(self._row(number, connection.figures(), held))
            yield rows
            await asyncio.sleep(0)

    def _row(self, number: int, figures: Figures, held: Counter[tuple[Cell, Cell]]) -> Row:
        caller = figures.caller
        name = self.names.name_of(caller.process_id, caller.peer)
        peer = caller.peer.encode()
        return (
            number,
            figures.protocol.encode(),
            peer,
            None if name is None else name.encode(),
            caller.process_id,
            figures.connection_id,
            caller.user or None,
            figures.agent or None,
            figures.since_ms,
            figures.statements,
            figures.errors,
            figures.last_error[:_MAX_ERROR].encode(errors="replace") or None,
            figures.in_flight,
            figures.waiting,
            figures.bytes_in,
            figures.bytes_out,
            held[caller.process_id, peer],
        )


async def held_items(tables: Inspectable) -> Counter[tuple[Cell, Cell]]:
    """How many active items each process id and peer has claimed. O(items), in slices.

    Numbers of connections begin anew with each start, so they do not tell who claimed an item before.
    """
    held: Counter[tuple[Cell, Cell]] = Counter()
    async for rows in tables.read_table(SystemTable.QUEUE):
        held.update((row[_CLAIMED_BY], row[_CLAIMED_PEER]) for row in rows if row[3] == b"Active")
        await asyncio.sleep(0)
    return held
