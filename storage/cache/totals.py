"""What GET found, by prefix: plain numbers for people who look at the cache."""

from __future__ import annotations

# So many prefixes have numbers of their own, first come first served; those of all others are summed.
MAX_NAMED_PREFIXES = 100


class PrefixTotals:
    """How often GET found a live entry of a prefix, and how often none."""

    __slots__ = ("hits", "misses")

    def __init__(self) -> None:
        self.hits = 0
        self.misses = 0


class PrefixTotalsTable:
    """The numbers by prefix since the start; no total ever falls."""

    __slots__ = ("_max_named", "named", "other")

    def __init__(self, max_named: int = MAX_NAMED_PREFIXES) -> None:
        self._max_named = max_named
        self.named: dict[bytes, PrefixTotals] = {}
        self.other = PrefixTotals()

    def of(self, prefix: bytes) -> PrefixTotals:
        """Where a prefix counts. O(1)."""
        totals = self.named.get(prefix)
        if totals is not None:
            return totals
        if len(self.named) >= self._max_named:
            return self.other
        totals = self.named[prefix] = PrefixTotals()
        return totals

    @property
    def hits(self) -> int:
        """Of all prefixes. O(named)."""
        return self.other.hits + sum(totals.hits for totals in self.named.values())

    @property
    def misses(self) -> int:
        """Of all prefixes. O(named)."""
        return self.other.misses + sum(totals.misses for totals in self.named.values())
