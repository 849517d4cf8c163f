"""Which messages a connection has answered, so that none is answered twice there (clients.md, point 4)."""

from __future__ import annotations

from typing import Final

WINDOW_IDS: Final = 1024


class AnsweredIds:
    """The answered among the newest ids of one client, whose ids count up. 300 bytes, O(1).

    Ids below the window are taken for new ones: a client does not go back that far on one connection.
    """

    __slots__ = ("_base", "_bits")

    def __init__(self) -> None:
        self._base = 0
        self._bits = 0

    def __contains__(self, message_id: int) -> bool:
        offset = message_id - self._base
        return offset >= 0 and self._bits >> offset & 1 == 1

    def add(self, message_id: int) -> None:
        offset = message_id - self._base
        if offset >= 2 * WINDOW_IDS:
            shift = offset - WINDOW_IDS
            self._bits >>= shift
            self._base += shift
            offset = WINDOW_IDS
        if offset >= 0:
            self._bits |= 1 << offset
