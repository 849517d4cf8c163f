"""Items for people: the order of service, search, and why one waits."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from typing import Any

import pytest

from cubequeue_server.observe.console.lists import BadRequestError
from storage.asking import Caller
from storage.vocabulary import (
    Binary,
    QueueAck,
    QueueAdd,
    QueueHeartbeat,
    QueueResultBlocking,
    QueueRetrieve,
    QueueStalled,
)
from tests.console.scene import START_MS, WORKER, Scene, request
from tests.page.filling import payload

ADDER = Caller(b"api-uuid", "10.0.0.2:1", 2)


def encoded(path: bytes) -> str:
    return urlsafe_b64encode(path).decode()


def scene() -> Scene:
    """Two slots of two are taken, three items wait, another queue has one."""
    made = Scene()
    for key, priority in (("a", 0), ("b", 0), ("low", -1), ("mid", 5), ("top", 10)):
        made.run(QueueAdd(f"q:{key}".encode(), payload(f"SELECT {key} FROM Orders"), priority), caller=ADDER)
        made.later(10)
    made.run(QueueRetrieve(b"q:a", 2), QueueRetrieve(b"q:b", 2), caller=WORKER)
    made.run(QueueAdd(b"other:x", b'{"requestId":"r-77"}'))
    return made


async def listed(made: Scene, **asked: object) -> dict[str, Any]:
    return await made.items.listed(request(**asked))


def keys(answer: dict[str, Any]) -> list[str]:
    return [row["key"] for row in answer["rows"]]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"queue": encoded(b"q")}, ["a", "b", "top", "mid", "low"]),
        ({"queue": encoded(b"q"), "state": "active"}, ["a", "b"]),
        ({"queue": encoded(b"q"), "state": "pending"}, ["top", "mid", "low"]),
        ({"queue": encoded(b"q"), "offset": 1, "limit": 3}, ["b", "top", "mid"]),
        ({"queue": encoded(b"q"), "search": "select MID from orders"}, ["mid"]),
        ({"queue": encoded(b"q"), "search": "worker-1"}, ["a", "b"]),
        ({"queue": encoded(b"none")}, []),
        ({}, ["a", "b", "low", "mid", "top", "x"]),
        ({"search": "r-77"}, ["x"]),
        ({"search": "api-uuid"}, ["a", "b", "low", "mid", "top"]),
        ({"search": "10.0.0.2"}, ["a", "b", "low", "mid", "top"]),
        ({"search": "6"}, ["x"]),  # its id
    ],
)
async def test_filters_and_order(asked: dict[str, object], found: list[str]) -> None:
    answer = await listed(scene(), **asked)
    assert keys(answer) == found
    assert answer["total"] == (5 if "limit" in asked else len(found))


async def test_a_filter_changes_no_place() -> None:
    rows = (await listed(scene(), queue=encoded(b"q"), search="low"))["rows"]
    assert [(row["key"], row["place"]) for row in rows] == [("low", 3)]


@pytest.mark.parametrize("asked", [{"state": "lost"}, {"queue": "ü"}, {"offset": "x"}])
async def test_a_bad_parameter_is_named(asked: dict[str, str]) -> None:
    with pytest.raises(BadRequestError, match=next(iter(asked))):
        await listed(scene(), **asked)


async def test_an_item_that_waits_tells_its_place_and_the_slots() -> None:
    made = scene()
    made.store.execute(QueueResultBlocking(b"q:mid", 5_000), ADDER, None, made.now_ms)
    made.later(1_000)
    one = await made.items.one(b"q:mid")
    assert one is not None
    assert (one["active"], one["concurrency"], one["pending"], one["waiting"]) == (2, 2, 3, 1)
    assert one["found"]["place"] == 2
    assert [slot["key"] for slot in one["slots"]] == ["a", "b"]
    assert one["slots"][0]["claimed_by"]["name"] == "worker-1"
    assert one["slots"][0]["claimed_ms"] == START_MS + 50
    assert one["found"]["added_by"] == {"process": "api-uuid", "peer": "10.0.0.2:1", "name": None, "user": None}
    assert one["found"]["payload"]["text"] == "SELECT mid FROM Orders"
    assert one["found"]["payload"]["parameters"] == '["a parameter"]'
    assert one["found"]["raw"]["text"].startswith('{\n  "queryHandler"')
    assert one["found"]["request_id"] == "r"


async def test_an_item_without_heartbeats_is_told() -> None:
    made = scene()
    made.run(QueueStalled(b"q", 5_000))
    made.later(6_000)
    made.run(QueueHeartbeat(b"q:b"))
    rows = (await listed(made, queue=encoded(b"q"), state="active"))["rows"]
    assert [(row["key"], row["is_stalled"]) for row in rows] == [("a", True), ("b", False)]


async def test_an_item_that_ended_has_its_result_and_its_ends() -> None:
    made = scene()
    made.run(QueueAck(b"q:a", b'{"rows": 1}'), caller=WORKER)
    one = await made.items.one(b"q:a")
    assert one is not None
    assert one["found"] is None
    assert one["result"]["value"]["bytes"] == 11
    [ended] = one["ended"]
    assert (ended["outcome"], ended["claimed_by"]["name"]) == ("acknowledged", "worker-1")
    assert await made.items.one(b"q:none") is None
    results = await made.items.results(request(queue=encoded(b"q")))
    assert [row["key"] for row in results["rows"]] == ["a"]


async def test_items_that_come_between_two_readings_are_on_no_page() -> None:
    """The list is read twice: what changed between may be missed, and must not fail."""
    made = scene()
    reads = 0
    read_table = made.store.read_table

    def reading(table: Any) -> Any:
        nonlocal reads
        reads += 1
        if reads == 2:
            made.run(QueueAdd(b"q:late", b"{}", 99))
        return read_table(table)

    made.store.read_table = reading  # type: ignore[method-assign]
    assert keys(await listed(made, queue=encoded(b"q"))) == ["a", "b", "top", "mid", "low"]


async def test_a_search_reads_the_begin_and_the_end_of_a_payload() -> None:
    made = Scene()
    made.run(QueueAdd(b"q:a", b"Begin" + b"x" * 1_000_000 + b"End"))
    assert [keys(await listed(made, search=text)) for text in ("begin", "xend", "begin end")] == [["a"], ["a"], []]


def test_a_binary_payload_of_an_ended_item_can_be_written() -> None:
    """The journal's encoder knows no subclass of bytes."""
    made = Scene()
    made.live(b"q:a", payload=Binary(b"\x00"))
    [[ended]] = [list(made.store.queue.history.entries())]
    assert type(ended.head) is bytes
