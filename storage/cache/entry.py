"""One row of the cache, and how large it counts."""

from __future__ import annotations

from typing import Protocol

from storage.stats import PrefixTotals
from storage.vocabulary import Value

# The deadline of what never expires: later than any wall clock, and still a signed 64-bit number.
NEVER = (1 << 63) - 1

# What a row counts beside its texts, as upstream does after a rescan (commands.md §5).
ROW_OVERHEAD_BYTES = 160


class Entry:
    """A cached value.

    `expires_ms`   wall clock; it is live while this is later than now; NEVER without a TTL
    `used_ms`      the last GET, INCR or SET    } kept by the eviction policies
    `uses`         the counter of LFU           } that need them (storage.cache.eviction)
    `slot`         the place among the sampled  }
    `totals`       where its uses are counted, of all entries of its prefix

    Entries refer to bytes and numbers only, never to each other or to an index: removing one frees it at once.
    """

    __slots__ = ("expires_ms", "path", "slot", "totals", "used_ms", "uses", "value")

    totals: PrefixTotals

    def __init__(self, path: bytes, value: bytes, expires_ms: int) -> None:
        self.path = path
        self.value = value
        self.expires_ms = expires_ms
        self.used_ms = 0
        self.uses = 0
        self.slot = 0

    def __repr__(self) -> str:
        return f"Entry({self.path!r}, {len(self.value)} bytes, expires_ms={self.expires_ms})"


def row_bytes(path: bytes, value: bytes) -> int:
    """What a row counts against the limits, in bytes."""
    return len(path) + len(value) + ROW_OVERHEAD_BYTES


class EntryRecorder(Protocol):
    """Is told of every change of an entry, after it happened, where that is to outlast the process. O(1) each."""

    def entry_put(self, entry: Entry, old: Value | None) -> None:
        """A new entry, or one with a new value in place of `old`."""

    def entry_removed(self, entry: Entry) -> None:
        """It is gone."""

    def cache_cleared(self) -> None:
        """All entries are gone; `entry_freed` follows for each, some time."""

    def entry_freed(self, entry: Entry) -> None:
        """One that CLEAR took lets go of its value."""
