"""What is counted of each queue, and that names are bounded without a total ever falling."""

from __future__ import annotations

import random

import pytest

from storage.minutes import no_durations
from storage.stats import QueueStats, QueueStatsTable
from storage.vocabulary import (
    QueueAck,
    QueueAdd,
    QueueAddAndRetrieve,
    QueueCancel,
    QueueClear,
    QueueHeartbeat,
    QueueOrphaned,
    QueueRetrieve,
    QueueStalled,
    QueueToCancel,
    Statement,
)
from tests.asking import rows_of, run
from tests.audit import audit
from tests.storage.queue_world import HOUR_MS, World

STALLED = QueueStalled(b"q", 1_000)
ORPHANED = QueueOrphaned(b"q", 1_000)


def stats(world: World) -> QueueStats:
    return run(world.store.queue_stats()).named[b"q"]


def durations(*each_ms: int) -> list[int]:
    counted = no_durations()
    for ms in each_ms:
        counted[max(1, ms.bit_length())] += 1
        counted[0] += ms
    return counted


def test_claims_and_what_they_waited() -> None:
    world = World()
    world.run(QueueAdd(b"q:a", b""))
    world.now_ms += 700
    world.run(QueueRetrieve(b"q:a", 9))
    world.run(QueueAddAndRetrieve(b"q:b", b"", 9))
    world.run(QueueRetrieve(b"q:b", 9))  # is active already
    world.run(QueueAck(b"q:a", b"1"))
    waits, runs = durations(700, 0), durations(0)
    assert stats(world) == QueueStats(added=2, claimed=2, acknowledged=1, waits=waits, runs=runs, tables=1)


def test_an_acknowledgement_with_an_error_of_cube_counts_as_one() -> None:
    world = World()
    for path, value in ((b"q:a", b'{"error":"no such table"}'), (b"q:b", b'{"result":[]}'), (b"q:c", None)):
        world.add(path)
        world.retrieve(path)
        world.later(3)
        world.ack(path, value)
    counted = stats(world)
    assert (counted.errors, counted.acknowledged, counted.ended, counted.failed) == (1, 2, 3, 1)
    assert counted.runs == durations(3, 3, 3)


@pytest.mark.parametrize(
    ("asked", "claimed", "later_ms", "reason"),
    [
        ([], False, 5_000, "manual"),
        ([STALLED], True, 1_001, "stalled"),
        ([STALLED], True, 1_000, "manual"),
        ([STALLED], False, 5_000, "manual"),
        ([ORPHANED], False, 1_001, "orphaned"),
        ([ORPHANED], False, 1_000, "manual"),
        ([ORPHANED], True, 5_000, "manual"),
        ([QueueToCancel(b"q", 1_000, 2_000)], True, 1_001, "stalled"),
        ([QueueToCancel(b"q", 1_000, 2_000)], False, 2_001, "orphaned"),
    ],
)
def test_the_reason_of_a_cancel(asked: list[Statement], claimed: bool, later_ms: int, reason: str) -> None:
    world = World()
    world.run(QueueAdd(b"q:a", b""))
    if claimed:
        world.run(QueueRetrieve(b"q:a", 1))
    world.now_ms += later_ms
    for statement in asked:
        world.run(statement)
    world.run(QueueCancel(b"q:a"))
    counted = {each: getattr(stats(world), each) for each in ("stalled", "orphaned", "manual")}
    assert counted == {"stalled": 0, "orphaned": 0, "manual": 0, reason: 1}


def test_an_item_with_a_time_of_its_own_is_orphaned_at_that_time() -> None:
    world = World()
    world.run(QueueAdd(b"q:a", b"", orphaned_s=60))
    world.now_ms += 59_000
    world.run(ORPHANED)
    world.now_ms += 1_001
    world.run(QueueCancel(b"q:a"))
    assert stats(world).orphaned == 1


def test_figures_of_a_queue() -> None:
    world = World()
    for path in (b"q:a", b"q:b", b"q:c"):
        world.run(QueueAdd(path, b"", orphaned_s=60 if path == b"q:a" else None))
        world.now_ms += 100
    world.run(QueueRetrieve(b"q:b", 1))
    world.now_ms += 50
    [figures] = run(rows_of(world.store.queue_figures(world.now_ms)))
    assert (figures.prefix, figures.pending, figures.active) == (b"q", 2, 1)
    assert (figures.oldest_pending_ms, figures.oldest_heartbeat_ms) == (350, 50)
    world.run(QueueHeartbeat(b"q:b"))
    world.run(QueueAck(b"q:a", None))
    [figures] = run(rows_of(world.store.queue_figures(world.now_ms)))
    assert (figures.oldest_pending_ms, figures.oldest_heartbeat_ms) == (150, 0)


def test_expiry_is_counted_and_totals_outlive_items_queues_and_clear() -> None:
    world = World()
    world.run(QueueAdd(b"q:a", b""))
    world.now_ms += 4 * HOUR_MS
    world.run(QueueAdd(b"q:b", b""))
    world.run(QueueClear())
    while world.store.tick(world.now_ms, 10):
        pass
    world.run(QueueAdd(b"q:c", b""))
    audit(world.store)
    assert stats(world) == QueueStats(added=3, expired=1, tables=1)


def test_an_empty_queue_gives_its_name_to_a_newcomer() -> None:
    table = QueueStatsTable(2)
    first, second = table.acquire(b"1"), table.acquire(b"2")
    assert table.acquire(b"3") is table.other
    first.added = 5
    table.release(b"1", first)
    assert table.acquire(b"4") is table.named[b"4"]
    assert table.other.added == 5
    assert list(table.named) == [b"2", b"4"]
    assert table.acquire(b"2") is second
    audit(table)


def test_names_stay_bounded_and_no_total_is_lost() -> None:
    draw = random.Random(5)
    table = QueueStatsTable(4)
    live: list[tuple[bytes, QueueStats]] = []
    for number in range(3_000):
        if live and draw.random() < 0.5:
            table.release(*live.pop(draw.randrange(len(live))))
        prefix = b"%d" % draw.randrange(30)
        queue_stats = table.acquire(prefix)
        queue_stats.added += 1
        live.append((prefix, queue_stats))
        if len(live) > 6:
            table.release(*live.pop(0))
        audit(table)
        assert table.other.added + sum(each.added for each in table.named.values()) == number + 1
