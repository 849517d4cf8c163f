"""What SYS CACHESTORE INFO and EVICTION tell, counted on the spot (commands.md §6)."""

from __future__ import annotations

from storage.vocabulary import INFO_COLUMNS, Result
from tests.model.naive_cache import NaiveCache
from tests.model.naive_queue import NaiveQueue


def info(queue: NaiveQueue, cache: NaiveCache) -> Result:
    """Seven figures of each table. Nothing expired is ever there: it was dropped when its time came."""
    sizes = {
        b"CacheItems": [len(entry.value) for entry in cache.entries],
        b"QueueItems": [item.size for item in queue.items],
        b"QueueResults": [len(result.value) for result in queue.results],
    }
    rows = []
    for table, rows_bytes in sizes.items():
        figures = {
            b"keys_total": len(rows_bytes),
            b"size_total": sum(rows_bytes),
            b"expired_keys_total": 0,
            b"expired_size_total": 0,
            b"min_row_size": min(rows_bytes, default=0),
            b"max_row_size": max(rows_bytes, default=0),
            b"avg_row_size": sum(rows_bytes) // max(1, len(rows_bytes)),
        }
        rows += [(table + b"." + name, b"%d" % figure, None) for name, figure in figures.items()]
    return Result(INFO_COLUMNS, rows)


def evict(cache: NaiveCache, now_ms: int) -> Result:
    """One eviction run and what it did."""
    keys, held = len(cache.entries), cache.bytes_held()
    victims = cache.run_eviction(now_ms) if cache.evicts else []
    figures = {
        b"stats_total_keys": keys,
        b"stats_total_raw_size": held,
        b"total_keys_removed": len(victims),
        b"total_size_removed": held - cache.bytes_held(),
        b"total_delete_skipped": 0,
    }
    return Result(INFO_COLUMNS, [(name, b"%d" % figure, None) for name, figure in figures.items()])
