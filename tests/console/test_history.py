"""The history for people: its filters, its order, and the distribution of durations."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from typing import Any

import pytest

from cubequeue_server.observe.console.lists import BadRequestError
from storage.asking import Caller
from storage.vocabulary import QueueAdd, QueueCancel
from tests.console.scene import START_MS, Scene
from tests.page.filling import payload

SQL = urlsafe_b64encode(b"sql").decode()


def scene() -> Scene:
    """Three ends, 10 s apart: a slow one, a fast one with an error, and one cancelled by hand."""
    made = Scene()
    made.live(b"sql:slow", wait_ms=100, run_ms=9_000, payload=payload("SELECT slow FROM Orders"))
    made.later(START_MS + 10_000 - made.now_ms)
    made.live(b"sql:fast", run_ms=5, value=b'{"error":"Error: no such table"}', payload=b"x" * 10_000 + b"Needle")
    made.later(START_MS + 20_000 - made.now_ms)
    made.run(QueueAdd(b"pre:cancelled", b'{"requestId":"r-7"}'))
    made.later(40)
    made.run(QueueCancel(b"pre:cancelled"), caller=Caller(None, "10.9.9.9:1", 5, b"ops"))
    return made


def keys(answer: dict[str, Any]) -> list[str]:
    return [row["key"] for row in answer["rows"]]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, ["slow", "cancelled", "fast"]),
        ({"sort": "newest"}, ["cancelled", "fast", "slow"]),
        ({"by": "wait"}, ["slow", "cancelled", "fast"]),
        ({"by": "run"}, ["slow", "fast", "cancelled"]),
        ({"queue": SQL}, ["slow", "fast"]),
        ({"outcome": "error"}, ["fast"]),
        ({"outcome": "error,cancelled"}, ["cancelled", "fast"]),
        ({"min_ms": 40}, ["slow", "cancelled"]),
        ({"max_ms": 39}, ["fast"]),
        ({"by": "run", "min_ms": 5, "max_ms": 5}, ["fast"]),
        ({"since_ms": START_MS + 10_000}, ["cancelled", "fast"]),
        ({"until_ms": START_MS + 10_004}, ["slow"]),
        ({"text": "from ORDERS"}, ["slow"]),
        ({"text": "needle"}, ["fast"]),
        ({"text": "r-7"}, ["cancelled"]),
        ({"text": "WORKER-1"}, ["slow", "fast"]),
        ({"text": "10.9.9.9"}, ["cancelled"]),
        ({"text": "ops"}, ["cancelled"]),
        ({"text": "no such table"}, ["fast"]),
        ({"number": 2}, ["fast"]),
        ({"limit": 1, "offset": 1}, ["cancelled"]),
    ],
)
async def test_filters(asked: dict[str, object], found: list[str]) -> None:
    assert keys(await scene().past(**asked)) == found


async def test_an_entry_tells_all() -> None:
    [row] = (await scene().past(text="slow", limit=1))["rows"]
    assert row["queue"] == "sql"
    assert row["preview"] == "SELECT slow FROM Orders"
    assert (row["wait_ms"], row["run_ms"], row["outcome"]) == (100, 9_000, "acknowledged")
    worker = {"process": "worker-uuid", "peer": "10.0.0.1:5000", "name": "worker-1", "user": None}
    assert row["claimed_by"] == row["ended_by"] == worker
    assert row["added_by"] is None
    assert row["request_id"] == "r"
    [row] = (await scene().past(outcome="cancelled"))["rows"]
    assert row["ended_by"] == {"process": None, "peer": "10.9.9.9:1", "name": None, "user": "ops"}
    assert (row["claimed_ms"], row["run_ms"], row["wait_ms"]) == (None, None, 40)


async def test_one_entry_has_its_payload() -> None:
    [row] = (await scene().past(number=2))["rows"]
    assert row["payload_bytes"] == row["payload"]["bytes"] == 10_006
    assert row["payload"]["is_cut"]
    assert "preview" not in row
    assert row["error"] == '{"error":"Error: no such table"}'


async def test_the_distribution_counts_what_is_found() -> None:
    answer = await scene().past()
    counted = answer["distribution"]
    assert (sum(counted["wait"]), sum(counted["run"])) == (3, 2)
    bounds = counted["bounds_ms"]
    for ms in (5, 9_000):
        at = next(at for at, bound in enumerate(bounds) if ms < bound)
        assert counted["run"][at] == 1
    assert (answer["kept"], answer["since_ms"]) == (3, START_MS + 9_100)
    only = await scene().past(outcome="error")
    assert (only["total"], sum(only["distribution"]["run"]), only["kept"]) == (1, 1, 3)


@pytest.mark.parametrize("asked", [{"outcome": "lost"}, {"by": "color"}, {"min_ms": "x"}, {"sort": "up"}])
async def test_bad_parameters(asked: dict[str, str]) -> None:
    with pytest.raises(BadRequestError, match=next(iter(asked))):
        await Scene().past(**asked)
