"""Keeps Cube from dropping tables of pre-aggregations whose marks are missing from the cache (docs/divergences.md).

Once the key `…SQL_PRE_AGGREGATIONS_REFRESH_END_REACHED:` exists, Cube drops each table without a mark
`…TABLES_USED:` or `…TABLES_TOUCH:`. Processes remember which marks they have written, and write a lost one again only
after hours. So while marks may be missing, GET hides that key: Cube then keeps the newest version of each table.

          the cache begins empty, or a mark is evicted
    off ───────────────────────────────────────────────▶ on until a time
     ▲                                                          │
     └── that time comes, or SYS CACHESTORE END_DROP_GUARD ─────┘
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

REFRESH_END: Final = b"SQL_PRE_AGGREGATIONS_REFRESH_END_REACHED:"
MARKS: Final = b"SQL_PRE_AGGREGATIONS_TABLES_"

_NOT_BEGUN: Final = (1 << 63) - 1


class DropGuard:
    """`until_ms` on the wall clock, 0 when it is off. A guard of `duration_ms` 0 never begins.

    `on_change` is told of each new `until_ms`. In an empty cache without a clock it begins with `see`.
    """

    __slots__ = ("_duration_ms", "_on_change", "until_ms")

    def __init__(self, duration_ms: int, on_change: Callable[[int], None]) -> None:
        self._duration_ms = duration_ms
        self._on_change = on_change
        self.until_ms = _NOT_BEGUN if duration_ms else 0

    def see(self, now_ms: int) -> None:
        """Note the time: a guard that waits for it begins, one whose time has come ends."""
        if self.until_ms == _NOT_BEGUN:
            self.begin(now_ms)
        elif 0 < self.until_ms <= now_ms:
            self.until_ms = 0

    def begin(self, now_ms: int) -> None:
        """Marks are missing from now on."""
        if self._duration_ms:
            self.until_ms = now_ms + self._duration_ms
            self._on_change(self.until_ms)

    def restore(self, until_ms: int) -> None:
        """What a journal has kept: a guard of a process before."""
        self.until_ms = until_ms if self._duration_ms else 0

    def end(self) -> None:
        """All marks are there."""
        if self.until_ms:
            self.until_ms = 0
            self._on_change(0)

    def until_s(self) -> int:
        """The end as a Unix time in seconds; 0 when it is off or has not begun."""
        return 0 if self.until_ms == _NOT_BEGUN else self.until_ms // 1000
