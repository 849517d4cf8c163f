"""How often an entry is used, in eight bits (commands.md §5, "LFU").

A counter that rises by one at every use would be full after 255 of them. This one rises with a chance that falls
as it grows: with the default factor 10 about 100 uses take it from 10 to 15 and 300 000 fill it. It falls by
one for every decay time that passes without a use, so that what was popular once can go.
"""

from __future__ import annotations

from collections.abc import Callable

from storage.cache.entry import Entry
from storage.limits import CacheLimits

# What a write sets the counter to: a new entry outlives those whose counter has decayed.
INITIAL_USES = 10
MAX_USES = 255


class FrequencyCounter:
    """Counts the uses of entries in `Entry.uses`, as of `Entry.used_ms`. `random` draws from [0, 1)."""

    __slots__ = ("_decay_ms", "_log_factor", "_random")

    def __init__(self, limits: CacheLimits, random: Callable[[], float]) -> None:
        self._random = random
        self._log_factor = limits.lfu_log_factor
        self._decay_ms = limits.lfu_decay_ms

    def reset(self, entry: Entry, now_ms: int) -> None:
        """A write: the entry starts anew."""
        entry.uses = INITIAL_USES
        entry.used_ms = now_ms

    def count(self, entry: Entry, now_ms: int) -> None:
        """A use: decay what has passed since the last one, then rise by one with a chance of 1 / (1 + f * excess)."""
        uses = self.decayed(entry, now_ms)
        excess = uses - INITIAL_USES
        if excess <= 0 or (uses < MAX_USES and self._random() * (1 + self._log_factor * excess) < 1):
            uses += 1
        entry.uses = uses
        entry.used_ms = now_ms

    def decayed(self, entry: Entry, now_ms: int) -> int:
        """The counter as it stands now: one less for each whole decay time since the last use, and never under 0."""
        idle_ms = now_ms - entry.used_ms
        if idle_ms <= 0 or self._decay_ms <= 0:
            return entry.uses
        return max(entry.uses - idle_ms // self._decay_ms, 0)
