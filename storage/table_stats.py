"""The figures of one table that SYS CACHESTORE INFO answers with (commands.md §6)."""

from __future__ import annotations

from dataclasses import dataclass

from storage.vocabulary import Cell


@dataclass(slots=True, frozen=True)
class TableStats:
    """Rows and their sizes in bytes; `expired` are rows that are due but not yet removed."""

    keys: int
    size_bytes: int
    expired_keys: int
    expired_size_bytes: int
    min_row_bytes: int
    max_row_bytes: int

    @property
    def avg_row_bytes(self) -> int:
        return self.size_bytes // self.keys if self.keys else 0

    def rows(self, table: str) -> list[tuple[Cell, ...]]:
        """The rows (name, value, description) of INFO for a table, e.g. `CacheItems`."""
        figures = (
            ("keys_total", self.keys),
            ("size_total", self.size_bytes),
            ("expired_keys_total", self.expired_keys),
            ("expired_size_total", self.expired_size_bytes),
            ("min_row_size", self.min_row_bytes),
            ("max_row_size", self.max_row_bytes),
            ("avg_row_size", self.avg_row_bytes),
        )
        return [(f"{table}.{name}".encode(), b"%d" % value, None) for name, value in figures]
