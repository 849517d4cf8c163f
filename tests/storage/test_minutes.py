"""The minutes of queues: counts, percentiles, depths, their bounds, and a clock that steps."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.minutes import KEPT_MINUTES, MINUTE_MS, Minute, Minutes, Totals, no_durations, percentile
from storage.stats import QueueStatsTable
from storage.system_tables import SYSTEM_COLUMNS, SystemTable
from tests.asking import rows_of, run
from tests.storage.queue_world import World

NAMES = SYSTEM_COLUMNS[SystemTable.MINUTES].names


def minutes(world: World) -> list[dict[str, Any]]:
    rows = run(rows_of(world.store.read_table(SystemTable.MINUTES)))
    return [dict(zip(NAMES, row, strict=True)) for row in rows]


def next_minute(world: World) -> None:
    world.settle()
    world.later(MINUTE_MS - world.now_ms % MINUTE_MS)
    world.settle()


def test_a_minute_counts_what_happened_in_it() -> None:
    world = World()
    world.settle()
    begin_ms = world.now_ms // MINUTE_MS * MINUTE_MS
    for name in (b"q:a", b"q:b", b"q:c"):
        world.add(name)
    world.later(100)
    world.retrieve(b"q:a")
    world.retrieve(b"q:b")
    world.later(1_000)
    world.ack(b"q:a", b'{"error":"x"}')
    next_minute(world)
    next_minute(world)
    first, second = minutes(world)
    assert (first["prefix"], first["minute"], second["minute"]) == (b"q", begin_ms, begin_ms + MINUTE_MS)
    assert [first[name] for name in ("added", "claimed", "ended", "failed", "pending", "active")] == [3, 2, 1, 1, 1, 1]
    assert 64 <= first["wait_p50_ms"] <= first["wait_p95_ms"] <= 128
    assert 512 <= first["run_p50_ms"] <= first["run_p95_ms"] <= 1024
    assert [second[name] for name in ("added", "claimed", "ended", "pending", "active")] == [0, 0, 0, 1, 1]
    assert second["run_p95_ms"] is None


def test_an_empty_queue_in_which_nothing_happens_has_no_row() -> None:
    world = World()
    world.settle()
    world.add(b"q:a")
    world.ack(b"q:a")
    for _ in range(5):
        next_minute(world)
    assert len(minutes(world)) == 1


def test_rows_are_kept_for_a_day() -> None:
    world = World()
    world.settle()
    world.add(b"q:a", orphaned_s=10_000_000)
    for _ in range(KEPT_MINUTES + 10):
        world.later(MINUTE_MS)
        world.store.tick(world.now_ms, 10)
    assert len(minutes(world)) == KEPT_MINUTES


def test_a_clock_that_steps_back_ends_no_minute() -> None:
    world = World()
    world.settle()
    world.add(b"q:a")
    world.later(-3_600_000)
    world.settle()
    assert minutes(world) == []
    next_minute(world)
    assert [each["added"] for each in minutes(world)] == [1]


def test_queues_without_an_entry_share_one_row() -> None:
    table = QueueStatsTable(max_named=2)
    acquired = {name: table.acquire(name) for name in (b"a", b"b", b"c", b"d")}
    for stats in acquired.values():
        stats.added += 1
    depths = {b"a": (1, 0), b"b": (2, 1), None: (10, 5)}
    assert table.end_minute(7, depths.__getitem__) == []
    rows = dict(table.end_minute(8, depths.__getitem__))
    assert {name: (row.minute, row.added, row.pending, row.active) for name, row in rows.items()} == {
        b"a": (7, 1, 1, 0),
        b"b": (7, 1, 2, 1),
        None: (7, 2, 7, 4),
    }


def test_totals_that_join_the_others_did_not_happen_in_this_minute() -> None:
    table = QueueStatsTable(max_named=1)
    stats = table.acquire(b"a")
    stats.added += 5
    table.end_minute(1, lambda _: (0, 0))
    table.end_minute(2, lambda _: (0, 0))
    stats.added += 1
    table.release(b"a", stats)
    table.acquire(b"b")  # takes the entry of a
    assert table.other.added == 6
    assert [(name, row.added) for name, row in table.end_minute(3, lambda _: (0, 0))] == [(None, 1)]


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_a_percentile_is_within_its_step(share: float) -> None:
    draw = random.Random(5)
    values = sorted(int(draw.lognormvariate(6, 1.5)) for _ in range(5_000))
    counted = no_durations()
    for value in values:
        counted[max(1, value.bit_length())] += 1
    exact, found = values[int(share * len(values))], percentile(counted, share)
    assert found is not None
    assert exact / 2 <= found <= exact * 2


def test_no_durations_have_no_percentile() -> None:
    assert percentile(no_durations(), 0.5) is None


_CELLS = st.integers(0, (1 << 32) - 2)


@given(st.lists(st.tuples(_CELLS, *[_CELLS | st.none()] * 4), max_size=20))
def test_rows_come_back_as_they_were(cells: list[tuple[Any, ...]]) -> None:
    rows = [Minute(at, 1, 2, 3, 4, some[1], some[2], some[3], some[4], some[0], 6) for at, some in enumerate(cells)]
    kept = Minutes()
    for row in rows:
        kept.restore(row)
    assert list(kept.rows()) == rows
    assert list(kept.rows(since_minute=5)) == rows[5:]


def test_numbers_beyond_32_bits_are_clamped() -> None:
    kept = Minutes()
    waits = no_durations()
    waits[47] = 1
    row = kept.close(1, Totals(1 << 40, 0, 0, 0, waits, no_durations()), 0, 0)
    assert row is not None
    assert [(each.added, each.wait_p95_ms) for each in kept.rows()] == [((1 << 32) - 2, (1 << 32) - 2)]
