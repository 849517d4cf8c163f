"""The data of the console on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.cli.running import Running, serving
from tests.page.filling import AUTHORIZATION, PASSWORD, USER, fetch, fill, run

PATHS = (
    "/api/server",
    "/api/queues",
    "/api/queue",
    "/api/series",
    "/api/history",
    "/api/clients",
    "/api/items",
    "/api/item",
    "/api/results",
    "/api/cache",
    "/api/cache/keys",
    "/api/cache/entry",
)


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serving("--durability", "memory", "--client-names", "127.0.0.1=here") as running:
        fill(running)
        yield running


def get(server: Running, path: str, **parameters: object) -> Any:
    status, content, headers = fetch(server, f"{path}?{urlencode(parameters)}")
    assert status == 200, content
    assert headers["cache-control"] == "no-store"
    return content


def test_the_server_and_its_limits(server: Running) -> None:
    found = get(server, "/api/server")
    assert (found["ready"], found["reason"], found["durability"]) == (True, None, "memory")
    limits = {each["name"]: each for each in found["limits"]}
    assert limits["items"]["used"] == 64
    assert limits["items"]["setting"] == "CUBEQUEUE_QUEUE_MAX_ITEMS"
    assert 0 < limits["descriptors"]["used"] < limits["descriptors"]["limit"]
    assert all(each["limit"] > 0 for each in limits.values())
    assert found["attention"] == []


def test_queues_history_and_clients(server: Running) -> None:
    rows = get(server, "/api/queues", sort="pending", order="desc")["rows"]
    assert rows[0]["name"] == "SQL_QUERY"
    assert get(server, "/api/queue", queue=rows[0]["id"])["pending"] == 57
    assert sum(get(server, "/api/series", queue=rows[0]["id"])["added"]) == 60
    [ended] = get(server, "/api/history")["rows"]
    assert (ended["key"], ended["outcome"], ended["claimed_by"]["name"]) == ("k00", "acknowledged", "here")
    assert get(server, "/api/history", number=ended["number"])["rows"][0]["payload"]["text"] == "SELECT 0 FROM orders"
    assert get(server, "/api/clients")["rows"] == []


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/api/queues?sort=color", 400),
        ("/api/queue", 400),
        ("/api/queue?queue=bm9uZQ==", 404),
        ("/api/series?range=1y", 400),
        ("/api/history?outcome=lost", 400),
        ("/api/clients?sort=color", 400),
    ],
)
def test_what_cannot_be_answered_says_why(server: Running, address: str, status: int) -> None:
    found, content, _ = fetch(server, address)
    assert found == status
    assert content["error"]


def test_without_credentials_nothing_is_told() -> None:
    with serving("--durability", "memory", CUBEQUEUE_USER=USER, CUBEQUEUE_PASSWORD=PASSWORD) as server:
        for path in PATHS:
            assert fetch(server, path)[0] == 401
        assert fetch(server, "/api/server", headers={"authorization": AUTHORIZATION})[0] == 200


def test_history_and_minutes_by_select(server: Running) -> None:
    [answer] = run(server, [("SELECT id, outcome, payload_bytes, length(value) FROM system.history", None)])
    [(key, outcome, payload_bytes, length)] = answer.rows
    assert (key, outcome, payload_bytes) == (b"k00", b"acknowledged", length)
    [answer] = run(server, [("SELECT count(*) FROM system.queue_minutes", None)])
    assert answer.rows[0][0] is not None
    [answer] = run(server, [("SELECT peer, name, holds FROM system.connections", None)])
    assert answer.rows[0][1] == b"here"
