"""What MySQL clients send as statements: texts, and texts that were prepared before."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from protocol.mysql_parameters import ParameterTypes
from storage.errors import UserError
from storage.vocabulary import EMPTY_RESULT, Columns, ColumnType, Result

_VARIABLES: Final = re.compile(rb"\s*select\s+@@", re.IGNORECASE)
_MAX_PACKET: Final = re.compile(rb"\s*select\s+@@(?:session\.|global\.)?max_allowed_packet\s*;?\s*", re.IGNORECASE)

MAX_PREPARED: Final = 1_000
MAX_PREPARED_TEXT_BYTES: Final = 1 << 20
MAX_PREPARED_BYTES: Final = 64 << 20


def answer_variables(text: bytes, max_packet_bytes: int) -> Result | None:
    """The answer to `SELECT @@…` (mysql.md), None for other texts."""
    if _VARIABLES.match(text) is None:
        return None
    if _MAX_PACKET.fullmatch(text):
        return Result(Columns(("@@max_allowed_packet", ColumnType.INT)), ((max_packet_bytes,),))
    return EMPTY_RESULT


def checked_text(text: bytes) -> bytes:
    """A statement's text, which has to be UTF-8: it ends up in replies. Raises UserError."""
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

    @property
    def size_bytes(self) -> int:
        return len(self.text) + sum(map(len, self.long_data.values()))


class PreparedStatements:
    """Those of one client, within limits."""

    def __init__(self) -> None:
        self._by_id: dict[int, Prepared] = {}
        self._last_id = 0

    def add(self, text: bytes, parameter_count: int) -> int:
        """Its id. Raises UserError when there are too many."""
        if len(self._by_id) >= MAX_PREPARED:
            raise UserError(f"{MAX_PREPARED} statements are prepared already")
        self._check_room(len(text))
        self._last_id += 1
        self._by_id[self._last_id] = Prepared(text, parameter_count)
        return self._last_id

    def get(self, id_: int) -> Prepared:
        """Raises UserError."""
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
        if sum(prepared.size_bytes for prepared in self._by_id.values()) + more_bytes > MAX_PREPARED_BYTES:
            raise UserError(f"prepared statements take more than {MAX_PREPARED_BYTES} bytes")
