"""The life of a cache entry (state-machine.md §4) as data: for the test that drives it and the docs that draw it.

An event that is missing for a state leaves it there: SET and INCR replace the value of a live entry, SET NX does not.
What has expired is absent to every statement, whether or not its row has been removed.
"""

from __future__ import annotations

import enum
from typing import NamedTuple


class CacheState(enum.Enum):
    """Where an entry is."""

    ABSENT = "absent"
    LIVE = "live"


class CacheEvent(enum.Enum):
    """What happens to it."""

    SET = "SET"
    SET_NX = "SET NX"
    INCR = "INCR"
    REMOVE = "REMOVE"
    CLEAR = "CLEAR"
    EXPIRE = "expiry"
    EVICT = "eviction"


class CacheTransition(NamedTuple):
    """In `state`, `event` leads to `then`."""

    state: CacheState
    event: CacheEvent
    then: CacheState


CACHE_TRANSITIONS = (
    *(
        CacheTransition(CacheState.ABSENT, event, CacheState.LIVE)
        for event in (CacheEvent.SET, CacheEvent.SET_NX, CacheEvent.INCR)
    ),
    *(
        CacheTransition(CacheState.LIVE, event, CacheState.ABSENT)
        for event in (CacheEvent.REMOVE, CacheEvent.CLEAR, CacheEvent.EXPIRE, CacheEvent.EVICT)
    ),
)
