"""The commands about what the server remembers: history, stats and clients, and how an item ended."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cli.running import Running, run, serving
from tests.cli.test_incident_commands import of_json, sql, url

PAYLOAD = json.dumps({"query": {"query": ["SELECT 1 AS needle"], "requestId": "req-7-span-1"}})


@pytest.fixture
def server() -> Iterator[Running]:
    with serving() as running:
        sql(
            running,
            f"QUEUE ADD PRIORITY 1 'q:good' '{PAYLOAD}'",
            "QUEUE RETRIEVE CONCURRENCY 9 'q:good'",
            "QUEUE ACK 'q:good' '{\"result\": []}'",
            "QUEUE ADD PRIORITY 1 'q:bad' 'x'",
            "QUEUE RETRIEVE CONCURRENCY 9 'q:bad'",
            "QUEUE ACK 'q:bad' '{\"error\": \"Error: no such table\"}'",
            "QUEUE ADD PRIORITY 1 'other:dropped' 'x'",
            "QUEUE CANCEL 'other:dropped'",
        )
        yield running


def test_history_tells_how_items_ended(server: Running) -> None:
    rows: list[dict[str, Any]] = of_json("history", url(server))
    assert [(row["queue"], row["key"], row["outcome"]) for row in rows] == [
        ("other", "dropped", "cancelled"),
        ("q", "bad", "error"),
        ("q", "good", "acknowledged"),
    ]
    assert rows[2]["request_id"] == "req-7-span-1"
    assert rows[2]["created_ms"] <= rows[2]["claimed_ms"] <= rows[2]["ended_ms"]
    assert isinstance(rows[2]["run_ms"], int)
    assert rows[0]["claimed_ms"] is None


@pytest.mark.parametrize(
    ("filters", "keys"),
    [
        (["q"], ["bad", "good"]),
        (["--outcome=cancelled"], ["dropped"]),
        (["--text=needle"], ["good"]),
        (["--text=req-7"], ["good"]),
        (["--text=no such table"], ["bad"]),
        (["q", "--outcome=expired"], []),
    ],
)
def test_history_is_filtered(server: Running, filters: list[str], keys: list[str]) -> None:
    assert [row["key"] for row in of_json("history", url(server), *filters)] == keys


def test_history_is_a_table_for_people(server: Running) -> None:
    lines = run("history", url(server), "--limit=2").stdout.splitlines()
    assert "cancelled" in lines[2]
    assert lines[-1] == "… there may be more (--limit)"
    assert run("history", "none", url(server)).stdout.startswith("no item ended so in the last 60 minutes")


def test_an_item_that_ended_is_told_with_its_end(server: Running) -> None:
    told = run("item", "q:bad", url(server))
    assert told.returncode == 0
    assert "q:bad: error at " in told.stdout
    assert "no such table" in told.stdout
    assert of_json("item", "q:good", url(server))["outcome"] == "acknowledged"


@pytest.mark.parametrize(("key", "code", "outcome"), [("q:good", 0, "acknowledged"), ("q:bad", 1, "error")])
def test_wait_for_exits_by_the_outcome(server: Running, key: str, code: int, outcome: str) -> None:
    done = run("wait-for", key, url(server), "--json")
    assert (done.returncode, json.loads(done.stdout)["outcome"]) == (code, outcome)


def test_clients_lists_connections_those_with_errors_first(server: Running) -> None:
    done = run("sql", url(server), "--json", "CACHE nonsense; SELECT errors, last_error FROM system.connections")
    (mine,) = json.loads(done.stdout.splitlines()[-1])
    assert mine["errors"] == 1
    (client,) = of_json("clients", url(server))
    assert (client["protocol"], client["errors"], client["statements"]) == ("websocket", 0, 1)
    assert isinstance(client["since_ms"], int)
    assert run("clients", url(server)).stdout.splitlines()[0].startswith("id")


def test_stats_sum_up_minutes(server: Running) -> None:
    asked = run("stats", url(server), "--json")
    assert asked.returncode == 0
    for queue in json.loads(asked.stdout)["queues"]:
        assert queue["added"] >= queue["ended"] >= queue["failed"]
        assert isinstance(queue["per_minute"], float)
