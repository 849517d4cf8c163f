"""What may grow how far, and how long things are kept: the settings of the state machine (config.md §1)."""

from __future__ import annotations

import enum
from dataclasses import dataclass

MIB = 1 << 20
SECOND_MS = 1_000
HOUR_MS = 3_600 * SECOND_MS

# A payload above this is large: who holds it is looked at more closely.
LARGE_TEXT_BYTES = 64 * 1024


class EvictionPolicy(enum.Enum):
    """CUBESTORE_CACHE_POLICY (commands.md §5, "Eviction")."""

    ALLKEYS_LRU = "allkeys-lru"
    ALLKEYS_LFU = "allkeys-lfu"
    ALLKEYS_TTL = "allkeys-ttl"
    SAMPLED_LRU = "sampled-lru"
    SAMPLED_LFU = "sampled-lfu"
    SAMPLED_TTL = "sampled-ttl"


@dataclass(slots=True, frozen=True)
class HistoryLimits:
    """Bounds of the history of ended items: the oldest are dropped."""

    max_items: int = 10_000
    max_bytes: int = 16 * MIB
    keep_ms: int = 24 * HOUR_MS


@dataclass(slots=True, frozen=True)
class QueueLimits:
    """Bounds of queue items and results. One past a bound is a user error that names the setting."""

    max_items: int = 1_000_000
    max_bytes: int = 4096 * MIB  # payloads, extras and results together
    max_waiters: int = 200_000
    results_expire_ms: int = 60 * SECOND_MS
    item_life_ms: int = 4 * HOUR_MS  # after ADD, and for active items after the last heartbeat
    orphaned_item_life_ms: int = 2 * HOUR_MS  # after the time that ORPHANED names
    restart_grace_ms: int = 20 * SECOND_MS  # after a start nothing counts as stalled for so long
    history: HistoryLimits = HistoryLimits()


@dataclass(slots=True, frozen=True)
class CacheLimits:
    """Bounds of the cache and its eviction."""

    max_keys: int = 100_000
    max_bytes: int = 4096 * MIB
    max_entry_bytes: int = 63 * MIB
    policy: EvictionPolicy = EvictionPolicy.ALLKEYS_LRU
    eviction_interval_ms: int = 60 * SECOND_MS
    proactive_size_bytes: int = 262_144
    proactive_ttl_ms: int = 5 * SECOND_MS
    lfu_log_factor: int = 10
    lfu_decay_ms: int = 60 * SECOND_MS
    keep: tuple[bytes, ...] = (b"*SQL_PRE_AGGREGATIONS_*", b"PRE_AGG_JOB_*", b"lock:*")  # evicted last
    drop_guard_ms: int = 12 * HOUR_MS


@dataclass(slots=True, frozen=True)
class AnswerLimits:
    """Bounds of the answers kept for clients that ask again (decisions, "De-duplication").

    Above `give_way_bytes` answers that are known to have arrived are dropped. Those that are not stay, and at
    `max_bytes` new writes are refused: the room between is for many clients that die at once, or are sent large
    results at once, and must not shut the others out.
    """

    give_way_bytes: int = 64 * MIB
    max_bytes: int = 512 * MIB
    keep_ms: int = 300 * SECOND_MS
    keep_undelivered_ms: int = 600 * SECOND_MS
