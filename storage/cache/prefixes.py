"""The cache's paths by prefix: what CACHE KEYS reads (commands.md §3, §5)."""

from __future__ import annotations

from storage.cache.entry import Entry
from storage.keys import prefix_of
from storage.stats import PrefixTotals, PrefixTotalsTable
from storage.vocabulary import Path

# A group that has seen so many removals per row it still holds is copied, which gives its memory back: a dict
# that only ever loses keys stays as large as it once was.
_REMOVALS_PER_ROW = 4
_REMOVALS_FLOOR = 1024


class _Group:
    __slots__ = ("entries", "removals", "totals")

    def __init__(self, totals: PrefixTotals) -> None:
        self.totals = totals
        self.entries: dict[bytes, Entry] = {}
        self.removals = 0


class PrefixIndex:
    """Entries grouped by prefix, each group in order of insertion. Every operation on one entry is O(1).

    Each entry is told where its prefix counts in `totals`.
    """

    __slots__ = ("_groups", "_totals")

    def __init__(self, totals: PrefixTotalsTable) -> None:
        self._totals = totals
        self._groups: dict[bytes, _Group] = {}

    def add(self, entry: Entry) -> None:
        """Put an entry at the end of its group."""
        path = entry.path
        prefix = prefix_of(path)
        group = self._groups.get(prefix)
        if group is None:
            group = self._groups[prefix] = _Group(self._totals.of(prefix))
        entry.totals = group.totals
        group.entries[path] = entry

    def remove(self, path: bytes) -> None:
        """Take an entry out of its group."""
        prefix = prefix_of(path)
        group = self._groups[prefix]
        del group.entries[path]
        group.removals += 1
        if not group.entries:
            del self._groups[prefix]
        elif group.removals > _REMOVALS_PER_ROW * len(group.entries) + _REMOVALS_FLOOR:
            group.entries = dict(group.entries)
            group.removals = 0

    def paths(self, prefix: bytes) -> list[bytes]:
        """The paths of one prefix, for when none has expired. O(rows), ten nanoseconds each."""
        group = self._groups.get(prefix)
        return list(group.entries) if group else []

    def live_paths(self, prefix: bytes, now_ms: int) -> list[bytes]:
        """The paths of one prefix that are live. O(rows), fifty nanoseconds each."""
        group = self._groups.get(prefix)
        if group is None:
            return []
        return [path for path, entry in group.entries.items() if entry.expires_ms > now_ms]

    def containers(self) -> list[dict[bytes, Entry]]:
        """The dicts that hold the entries, for one who frees a dropped index in slices. O(prefixes)."""
        return [group.entries for group in self._groups.values()]


def prefix_of_argument(argument: bytes) -> Path:
    """The prefix that the argument of CACHE KEYS names: without one trailing `:*` or `:`."""
    return argument[:-2] if argument.endswith(b":*") else argument.removesuffix(b":")
