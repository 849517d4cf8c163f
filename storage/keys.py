"""How an item is addressed: its id, and its path of prefix and key (commands.md §3; decisions, "Ids, time, texts")."""

from __future__ import annotations

from storage.vocabulary import Path

# Clients read ids as JavaScript numbers, which are exact below this (commands.md §3).
MAX_ID = (1 << 53) - 1

# More than the items that can be added in one millisecond, so that the ids of a new start are ahead of the last one's.
_IDS_PER_MS = 1024


def first_id(unix_ms: int, last_id: int = 0) -> int:
    """The first id of a store that starts at this time; an earlier process gave out ids up to `last_id`.

    It is above every id of earlier starts, known or not, if the clock has moved on. A clock whose ids would not be
    exact in JavaScript is ignored. Raises OverflowError when `last_id` is the largest possible id.
    """
    if last_id >= MAX_ID:
        raise OverflowError(f"id {last_id} was the last one")
    from_clock = unix_ms * _IDS_PER_MS
    return max(last_id + 1, from_clock if from_clock <= MAX_ID else 1)


def prefix_of(path: Path) -> Path:
    """The part before the last `:`; empty if there is none."""
    return path.rpartition(b":")[0]


def key_of(path: Path) -> bytes:
    """The part after the last `:`; the whole path if there is none."""
    return path.rpartition(b":")[2]
