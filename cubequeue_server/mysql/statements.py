"""The statements of MySQL clients: their texts, and prepared statements."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from protocol.placeholders import count_placeholders
from storage.errors import UserError
from storage.vocabulary import EMPTY_RESULT, Columns, ColumnType, Result

_VARIABLES: Final = re.compile(rb"\s*select\s+@@", re.IGNORECASE)
_MAX_PACKET: Final = re.compile(rb"\s*select\s+@@(?:session\.|global\.)?max_allowed_packet\s*;?\s*", re.IGNORECASE)

MAX_PARAMETERS: Final = 2_000  # of one statement: PREPARE and EXECUTE take about a microsecond for each
MAX_PREPARED: Final = 1_000
MAX_PREPARED_TEXT_BYTES: Final = 32 << 10  # of one statement: it is searched for parameters, up to 0.1 µs a byte
MAX_PREPARED_BYTES: Final = 1 << 20  # of the texts of all
MAX_LONG_DATA_BYTES: Final = 64 << 20
_PIECE_BYTES: Final = 128  # what a piece of a value takes beyond its bytes
_COPIED_BYTES: Final = 16 << 10  # a larger piece stays in its packet, which takes long to copy


def answer_variables(text: bytes, max_packet_bytes: int) -> Result | None:
    """The answer to `SELECT @@…` (mysql.md); None for other texts."""
    if _VARIABLES.match(text) is None:
        return None
    if _MAX_PACKET.fullmatch(text):
        return Result(Columns(("@@max_allowed_packet", ColumnType.INT)), ((max_packet_bytes,),))
    return EMPTY_RESULT


def checked_text(text: bytes) -> bytes:
    """The text, which has to be UTF-8 because replies quote it. Raises UserError."""
    try:
        text.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"the statement is not valid UTF-8 at byte {error.start}") from error
    return text


@dataclass(slots=True)
class Prepared:
    """A prepared statement, the types of its parameters once they were sent, and values that were sent ahead.

    `long_data_bytes` is what these values take.
    """

    text: bytes
    parameter_count: int
    types: bytes = b""
    long_data: dict[int, list[bytes | memoryview]] = field(default_factory=dict)
    long_data_bytes: int = 0


class PreparedStatements:
    """The prepared statements of one client, within limits. Each method is O(1) in the number of statements.

    Values that are sent ahead are messages that are not complete yet: `hold` is told what all of them take, whenever
    that changes.
    """

    def __init__(self, hold: Callable[[int], None]) -> None:
        self._by_id: dict[int, Prepared] = {}
        self._last_id = 0
        self._text_bytes = 0
        self._long_data_bytes = 0
        self._hold = hold

    def add(self, text: bytes) -> tuple[int, int]:
        """Prepare a text: its id, and the number of its parameters. Raises UserError past a limit."""
        if len(text) > MAX_PREPARED_TEXT_BYTES:
            raise UserError(f"a prepared statement of more than {MAX_PREPARED_TEXT_BYTES} bytes is not supported")
        if self._text_bytes + len(text) > MAX_PREPARED_BYTES:
            raise UserError(f"the prepared statements of a connection may take {MAX_PREPARED_BYTES} bytes together")
        if len(self._by_id) >= MAX_PREPARED:
            raise UserError(f"{MAX_PREPARED} statements are prepared already")
        count = count_placeholders(checked_text(text))
        if count > MAX_PARAMETERS:
            raise UserError(f"a prepared statement with more than {MAX_PARAMETERS} parameters is not supported")
        self._last_id += 1
        self._by_id[self._last_id] = Prepared(text, count)
        self._text_bytes += len(text)
        return self._last_id, count

    def get(self, id_: int) -> Prepared:
        """Raises UserError when there is no such statement."""
        prepared = self._by_id.get(id_)
        if prepared is None:
            raise UserError(f"there is no prepared statement {id_}")
        return prepared

    def append(self, id_: int, parameter: int, data: bytes | memoryview) -> None:
        """Add a piece to a value that is sent ahead. Raises UserError when all of them are too large. O(1)."""
        prepared = self._by_id.get(id_)
        if prepared is None or parameter >= prepared.parameter_count:
            return
        more_bytes = len(data) + _PIECE_BYTES
        if self._long_data_bytes + more_bytes > MAX_LONG_DATA_BYTES:
            raise UserError(f"values that are sent ahead take more than {MAX_LONG_DATA_BYTES} bytes")
        piece = bytes(data) if len(data) <= _COPIED_BYTES else data
        prepared.long_data.setdefault(parameter, []).append(piece)
        prepared.long_data_bytes += more_bytes
        self._add_long_data(more_bytes)

    def forget_long_data(self, prepared: Prepared) -> None:
        """Drop the values that were sent ahead for a statement."""
        if prepared.long_data_bytes:
            prepared.long_data = {}
            self._add_long_data(-prepared.long_data_bytes)
            prepared.long_data_bytes = 0

    def close(self, id_: int) -> None:
        prepared = self._by_id.pop(id_, None)
        if prepared is not None:
            self._text_bytes -= len(prepared.text)
            self.forget_long_data(prepared)

    def clear(self) -> None:
        for id_ in list(self._by_id):
            self.close(id_)

    def _add_long_data(self, more_bytes: int) -> None:
        self._long_data_bytes += more_bytes
        self._hold(self._long_data_bytes)
