"""The list of queues: search, order, pages and figures; and the minutes of a queue as columns."""

from __future__ import annotations

from base64 import urlsafe_b64encode

import pytest

from cubequeue_server.observe.console.lists import BadRequestError
from storage.minutes import MINUTE_MS
from storage.vocabulary import QueueAdd, QueueHeartbeat, QueueRetrieve, QueueStalled
from tests.console.scene import START_MS, Scene, request


def encoded(prefix: bytes) -> str:
    return urlsafe_b64encode(prefix).decode()


def names(answer: dict[str, object]) -> list[str]:
    rows = answer["rows"]
    assert isinstance(rows, list)
    return [row["name"] for row in rows]


async def test_the_figures_of_a_queue() -> None:
    scene = Scene()
    for number in range(10):
        scene.live(b"q:%d" % number, wait_ms=100, run_ms=1_000, value=b'{"error":"x"}' if number == 0 else b"1")
    scene.later(MINUTE_MS)
    scene.run(QueueAdd(b"q:a", b"{}"), QueueAdd(b"q:b", b"{}"), QueueRetrieve(b"q:a", 3))
    scene.run(QueueStalled(b"q", 5_000))
    scene.later(7_000)
    [row] = (await scene.listed())["rows"]
    assert row["name"] == "q"
    assert row["id"] == encoded(b"q")
    assert [row[name] for name in ("pending", "active", "concurrency", "stalled")] == [1, 1, 3, 1]
    assert (row["oldest_ms"], row["heartbeat_ms"]) == (7_000, 7_000)
    assert row["totals"] == {"added": 12, "claimed": 11, "ended": 10, "failed": 1}
    assert 64 <= row["wait_p50_ms"] <= row["wait_p95_ms"] <= 128
    assert 512 <= row["run_p50_ms"] <= row["run_p95_ms"] <= 1_024
    assert row["per_minute"] == 2
    assert sum(row["chart"]["ended"]) == 10
    assert len(row["chart"]["depth"]) == 30
    scene.run(QueueHeartbeat(b"q:a"))
    assert (await scene.listed())["rows"][0]["stalled"] == 0


async def test_pages_of_thousands_of_queues_are_stable() -> None:
    scene = Scene()
    for number in range(3_000):
        scene.run(QueueAdd(b"q%04d:a" % number, b"{}"))
    seen: list[str] = []
    offset: int | None = 0
    while offset is not None:
        page = await scene.listed(sort="pending", order="desc", offset=offset, limit=100)
        assert page["total"] == page["sums"]["queues"] == 3_000
        seen += names(page)
        offset = page["next"]
    assert seen == [f"q{number:04}" for number in range(3_000)]


async def test_search_is_over_all_queues_and_in_any_case() -> None:
    scene = Scene()
    for number in range(300):
        scene.run(QueueAdd(b"SQL_%d:a" % number, b"{}"))
    assert names(await scene.listed(search="sql_29")) == ["SQL_29", *(f"SQL_29{digit}" for digit in range(10))]
    assert (await scene.listed(search="none"))["rows"] == []


@pytest.mark.parametrize(
    ("sort", "order", "expected"),
    [
        ("name", "asc", ["a", "b", "c"]),
        ("name", "desc", ["c", "b", "a"]),
        ("pending", "desc", ["b", "c", "a"]),
        ("pending", "asc", ["a", "c", "b"]),
        ("oldest", "desc", ["b", "c", "a"]),
        ("active", "desc", ["a", "b", "c"]),
        ("throughput", "desc", ["c", "a", "b"]),
        ("wait", "desc", ["c", "a", "b"]),
        ("run", "desc", ["c", "a", "b"]),
        ("failed", "desc", ["c", "a", "b"]),
    ],
)
async def test_orders(sort: str, order: str, expected: list[str]) -> None:
    scene = Scene()
    scene.live(b"c:x", wait_ms=500, run_ms=500, value=b'{"error":"x"}')
    scene.later(MINUTE_MS)
    scene.run(QueueAdd(b"b:1", b"{}"), QueueAdd(b"b:2", b"{}"))
    scene.later(10)
    scene.run(QueueAdd(b"c:1", b"{}"), QueueAdd(b"a:1", b"{}"), QueueRetrieve(b"a:1", 9))
    assert names(await scene.listed(sort=sort, order=order)) == expected


async def test_an_empty_queue_stays_in_the_list() -> None:
    scene = Scene()
    scene.live(b"q:a")
    scene.later(10 * MINUTE_MS)
    assert scene.store.gauges()["queues"] == 0
    [row] = (await scene.listed())["rows"]
    assert (row["name"], row["pending"], row["totals"]["ended"]) == ("q", 0, 1)
    assert await scene.queues.one(b"q") == row
    assert await scene.queues.one(b"other") is None


@pytest.mark.parametrize(
    ("asked", "name"),
    [({"sort": "color"}, "sort"), ({"order": "up"}, "order"), ({"offset": "-1"}, "offset"), ({"limit": "x"}, "limit")],
)
async def test_a_bad_parameter_is_named(asked: dict[str, str], name: str) -> None:
    with pytest.raises(BadRequestError, match=name):
        await Scene().listed(**asked)


async def test_minutes_as_columns() -> None:
    scene = Scene()
    scene.live(b"q:a", wait_ms=100, run_ms=1_000)
    scene.later(2 * MINUTE_MS)
    scene.run(QueueAdd(b"q:b", b"{}"))
    series = await scene.queues.series(request(queue=encoded(b"q"), range="15m"))
    assert series["step_ms"] == MINUTE_MS
    assert series["times_ms"][-4:] == [START_MS + minute * MINUTE_MS for minute in range(-1, 3)]
    assert len(series["times_ms"]) == 15
    assert series["added"][-4:] == [0, 1, 0, 1]
    assert series["ended"][-4:] == [0, 1, 0, 0]
    assert series["pending"][-4:] == [0, 0, 0, 1]
    assert series["run_p95_ms"][-4] is None
    assert 512 <= series["run_p95_ms"][-3] <= 1_024
    assert {len(column) for column in series.values() if isinstance(column, list)} == {15}


async def test_a_day_is_in_steps_of_five_minutes() -> None:
    scene = Scene()
    for _ in range(60):
        scene.live(b"q:a", run_ms=1_000)
        scene.later(MINUTE_MS - 1_000)
    series = await scene.queues.series(request(queue=encoded(b"q"), range="24h"))
    assert series["step_ms"] == 5 * MINUTE_MS
    assert len(series["times_ms"]) == 288
    assert sum(series["ended"]) == 60
    assert max(series["ended"]) == 5


async def test_all_queues_are_summed() -> None:
    scene = Scene()
    for number in range(150):  # more than have an entry of their own
        scene.run(QueueAdd(b"q%d:a" % number, b"{}"))
    scene.later(MINUTE_MS)
    series = await scene.queues.series(request())
    assert series["added"][-2:] == [150, 0]
    assert series["pending"][-2:] == [150, 150]


async def test_a_queue_without_minutes_has_empty_columns() -> None:
    series = await Scene().queues.series(request(queue=encoded(b"none")))
    assert sum(series["added"]) == 0
    with pytest.raises(BadRequestError, match="queue"):
        await Scene().queues.series(request(queue="ü"))
