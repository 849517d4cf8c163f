"""Where the ids of a store begin (decisions, "Ids, time, texts")."""

from __future__ import annotations

# Clients read ids as JavaScript numbers, which are exact below this (commands.md §3).
MAX_ID = (1 << 53) - 1

# Ids a millisecond of time stands for: more items than can be added in one, so a new start is always ahead.
_IDS_PER_MS = 1024


def first_id(unix_ms: int, last_id: int = 0) -> int:
    """The first id of a store that starts at this time and gave out ids up to `last_id` before.

    Above every id of earlier starts, remembered or not, as long as the clock moved on; a clock that is so wrong
    that the ids would no longer be exact in JavaScript is not followed. Raises OverflowError when `last_id` was
    the last id there is.
    """
    if last_id >= MAX_ID:
        raise OverflowError(f"id {last_id} was the last one")
    from_clock = unix_ms * _IDS_PER_MS
    return max(last_id + 1, from_clock if from_clock <= MAX_ID else 1)
