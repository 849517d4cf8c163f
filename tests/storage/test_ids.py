"""Ids are never given out again (decisions, "Ids, time, texts")."""

from __future__ import annotations

import pytest

from storage.keys import MAX_ID, first_id

NOW_MS = 1_764_000_000_000


@pytest.mark.parametrize(
    ("unix_ms", "last_id", "first"),
    [
        (NOW_MS, 0, NOW_MS * 1024),
        (NOW_MS, 5, NOW_MS * 1024),
        (NOW_MS, NOW_MS * 1024, NOW_MS * 1024 + 1),
        (NOW_MS - 1_000, NOW_MS * 1024, NOW_MS * 1024 + 1),
        (NOW_MS + 1, NOW_MS * 1024, NOW_MS * 1024 + 1024),
        (1 << 52, 7, 8),
        (1 << 52, 0, 1),
        (0, 0, 1),
        (NOW_MS, MAX_ID - 1, MAX_ID),
    ],
    ids=[
        "clock",
        "clock ahead",
        "last one is ahead",
        "clock stepped back",
        "next millisecond",
        "absurd clock",
        "absurd clock, no memory",
        "no clock",
        "the very last",
    ],
)
def test_first_id(unix_ms: int, last_id: int, first: int) -> None:
    assert first_id(unix_ms, last_id) == first
    assert 0 < first < 1 << 53


def test_ids_end() -> None:
    with pytest.raises(OverflowError):
        first_id(NOW_MS, MAX_ID)
