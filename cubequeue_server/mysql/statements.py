"""The statements of MySQL clients: their texts, and prepared statements."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from protocol.mysql_parameters import ParameterTypes
from protocol.placeholders import count_placeholders
from storage.errors import UserError
from storage.vocabulary import EMPTY_RESULT, Columns, ColumnType, Result

_VARIABLES: Final = re.compile(rb"\s*select\s+@@", re.IGNORECASE)
_MAX_PACKET: Final = re.compile(rb"\s*select\s+@@(?:session\.|global\.)?max_allowed_packet\s*;?\s*", re.IGNORECASE)

MAX_PARAMETERS: Final = 0xFFFF
MAX_PREPARED: Final = 1_000
MAX_PREPARED_TEXT_BYTES: Final = 1 << 20
MAX_PREPARED_BYTES: Final = 64 << 20


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
    """A prepared statement, the types of its parameters once they were sent, and values that were sent ahead."""

    text: bytes
    parameter_count: int
    types: ParameterTypes = ()
    long_data: dict[int, bytearray] = field(default_factory=dict)


class PreparedStatements:
    """The prepared statements of one client, within limits."""

    def __init__(self) -> None:
        self._by_id: dict[int, Prepared] = {}
        self._last_id = 0

    def add(self, text: bytes) -> tuple[int, int]:
        """Prepare a text: its id, and the number of its parameters. Raises UserError past a limit."""
        if len(text) > MAX_PREPARED_TEXT_BYTES:
            raise UserError(f"a prepared statement of more than {MAX_PREPARED_TEXT_BYTES} bytes is not supported")
        count = count_placeholders(checked_text(text))
        if count > MAX_PARAMETERS:
            raise UserError(f"a prepared statement with more than {MAX_PARAMETERS} parameters is not supported")
        if len(self._by_id) >= MAX_PREPARED:
            raise UserError(f"{MAX_PREPARED} statements are prepared already")
        self._check_room(len(text))
        self._last_id += 1
        self._by_id[self._last_id] = Prepared(text, count)
        return self._last_id, count

    def get(self, id_: int) -> Prepared:
        """Raises UserError when there is no such statement."""
        prepared = self._by_id.get(id_)
        if prepared is None:
            raise UserError(f"there is no prepared statement {id_}")
        return prepared

    def append(self, id_: int, parameter: int, data: bytes) -> None:
        """Add to a value that is sent ahead. Raises UserError when it is too large."""
        prepared = self._by_id.get(id_)
        if prepared is None or parameter >= prepared.parameter_count:
            return
        self._check_room(len(data))
        prepared.long_data.setdefault(parameter, bytearray()).extend(data)

    def close(self, id_: int) -> None:
        self._by_id.pop(id_, None)

    def clear(self) -> None:
        self._by_id.clear()

    def _check_room(self, more_bytes: int) -> None:
        for prepared in self._by_id.values():
            more_bytes += len(prepared.text) + sum(map(len, prepared.long_data.values()))
        if more_bytes > MAX_PREPARED_BYTES:
            raise UserError(f"prepared statements take more than {MAX_PREPARED_BYTES} bytes")
