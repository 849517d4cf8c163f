"""When no server was up: times of queue rows are moved on by as much, so that downtime does not count as silence.

An outage is no fault of a worker that could not send its heartbeats, nor of a client that could not ask for its result.
While the queue holds anything, the journal notes every two seconds that the server is alive. A start takes the time
since the last note for an absence and remembers it. Each stored time that lies ahead of an absence is moved by its
length when rows are read; rows are not written anew for it. One that is written later says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeAlias

import msgspec

# From and until when no server was up, in ms since the epoch.
Absence: TypeAlias = tuple[int, int]

# Items live for some hours: older absences, and more of them, matter to no row.
_MAX_ABSENCES: Final = 100
_LONGEST_MS: Final = 24 * 3_600_000

_decode = msgspec.msgpack.Decoder(list[Absence]).decode
encode_absences = msgspec.msgpack.Encoder().encode


def decode_absences(row: bytes | None) -> list[Absence]:
    """The absences of a row of the journal. Raises `msgspec.DecodeError`."""
    return [] if row is None else _decode(row)


def with_new(absences: list[Absence], alive_ms: int | None, now_ms: int) -> list[Absence]:
    """The absences that matter from now on, the one that ends now included.

    `alive_ms` is the last note of an earlier server. A clock that stepped back tells nothing.
    """
    kept = [(start, end) for start, end in absences if now_ms - end < _LONGEST_MS]
    if alive_ms is not None and alive_ms < now_ms:
        kept.append((alive_ms, now_ms))
    return kept[-_MAX_ABSENCES:]


class Moved:
    """Moves times of rows. O(absences) each, and O(1) without any."""

    __slots__ = ("_absences",)

    def __init__(self, absences: Iterable[Absence]) -> None:
        self._absences = list(absences)

    @property
    def until_ms(self) -> int:
        """When the last absence ended; 0 without any."""
        return self._absences[-1][1] if self._absences else 0

    def by_ms(self, time_ms: int, moved_until_ms: int = 0) -> int:
        """How long no server was up since this time. Absences that ended by `moved_until_ms` have moved it already."""
        if not self._absences:
            return 0
        after_ms = max(time_ms, moved_until_ms)
        return sum(end - max(start, time_ms) for start, end in self._absences if end > after_ms)
