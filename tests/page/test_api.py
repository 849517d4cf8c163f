"""The JSON behind the page: what it tells, its bounds, and who may cancel."""

from __future__ import annotations

import json
import re
import signal
import time
import tracemalloc
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from websockets.sync.client import connect

from cubequeue_server.observe.console.payloads import readable
from protocol.client_codec import encode_query
from tests.cli.running import Running, serving
from tests.page.filling import AUTHORIZATION, HOSTILE, PASSWORD, USER, fetch, fill, payload, run

ACTION = {"x-cubequeue-action": "cancel"}
CREDENTIALS = {"CUBEQUEUE_USER": USER, "CUBEQUEUE_PASSWORD": PASSWORD}


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serving("--durability", "memory") as running:
        fill(running)
        yield running


def encoded(path: str) -> str:
    return urlsafe_b64encode(path.encode()).decode()


def get(server: Running, path: str, **parameters: object) -> Any:
    status, content, _ = fetch(server, f"{path}?{urlencode(parameters)}")
    assert status == 200, content
    return content


def test_the_overview_names_queues_with_their_figures(server: Running) -> None:
    overview = get(server, "/api/overview")
    queues = {queue["name"]: queue for queue in overview["queues"]}
    assert next(iter(queues)) == "SQL_QUERY"  # the deepest first
    queue = queues["SQL_QUERY"]
    assert (queue["pending"], queue["active"], queue["claimed"], queue["ended"]) == (57, 2, 3, 1)
    assert queue["oldest_ms"] >= 0
    assert HOSTILE in queues
    assert overview["gauges"]["queue_items"] == 64
    assert overview["may_cancel"] is False


def test_who_waits_is_told_by_queue() -> None:
    with serving("--durability", "memory") as server:
        run(server, [("QUEUE ADD PRIORITY 1 'q:a' 'x'", None)])
        with connect(f"ws://{server.ws[0]}:{server.ws[1]}/ws") as client:
            client.send(encode_query(1, "QUEUE RESULT_BLOCKING 20000 'q:a'"))
            while not (waiting := get(server, "/api/overview")["queues"][0]["waiting"]):
                pass
            assert waiting == 1


def test_items_are_paged_in_the_order_of_their_ids(server: Running) -> None:
    keys: list[str] = []
    offset: int | None = 0
    while offset is not None:
        page = get(server, "/api/items", queue=encoded("SQL_QUERY"), offset=offset, limit=25)
        assert len(page["rows"]) <= 25
        keys += [row["key"] for row in page["rows"]]
        offset = page["next"]
    assert keys == [f"k{number:02}" for number in range(1, 60)]
    active = get(server, "/api/items", queue=encoded("SQL_QUERY"), state="active")["rows"]
    assert [(row["key"], row["state"], row["heartbeat_ms"] is not None) for row in active] == [
        ("k01", "Active", True),
        ("k02", "Active", True),
    ]
    assert active[0]["payload"]["kind"] == "sql"
    assert active[0]["payload"]["text"] == "SELECT 1 FROM orders"


@pytest.mark.parametrize("limit", ["1000000", "0", "-1", "x", "9" * 50])
def test_no_request_gets_more_than_a_page(server: Running, limit: str) -> None:
    assert 1 <= len(get(server, "/api/items", queue=encoded("SQL_QUERY"), limit=limit)["rows"]) <= 100


@pytest.mark.parametrize("queue", ["", "!", "é", "YQ=", encoded("no such queue"), "_" * 4000])
def test_any_queue_is_answered(server: Running, queue: str) -> None:
    for path in ("/api/items", "/api/results"):
        status, content, _ = fetch(server, f"{path}?{urlencode({'queue': queue})}")
        assert status in {200, 400}
        assert not content.get("rows")


def test_huge_and_odd_payloads_are_cut(server: Running) -> None:
    page = get(server, "/api/items", queue=encoded("hostile"))
    payloads = {row["key"]: row["payload"] for row in page["rows"]}
    assert payloads["raw"]["text"] == HOSTILE
    assert payloads["huge"] == {"kind": "text", "text": "x" * 8192, "bytes": 5_000_000, "is_cut": True}
    assert payloads["deep"]["kind"] == "text"
    assert "? lone" in payloads["surrogate"]["text"]
    assert len(json.dumps(page)) < 50_000


def test_results_and_cache(server: Running) -> None:
    [row] = get(server, "/api/results", queue=encoded("SQL_QUERY"))["rows"]
    assert (row["key"], row["value"]["kind"], row["is_taken"]) == ("SQL_QUERY:k00", "json", False)
    rows = {row["name"]: row for row in get(server, "/api/cache")["rows"]}
    cached = rows["SQL_QUERY_RESULT"]
    assert (cached["entries"], cached["hits"], cached["misses"]) == (1, 1, 1)
    assert cached["bytes"] > 3_000


def test_answers_are_not_kept_and_not_shown_in_others_pages(server: Running) -> None:
    for path in ("/", "/page.js", "/page.css", "/icon.svg", "/api/overview"):
        status, _, headers = fetch(server, path)
        assert status == 200
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"


def cancelling(server: Running, key: str, headers: dict[str, str], method: str = "POST") -> tuple[int, Any]:
    status, content, _ = fetch(server, f"/api/cancel?item={encoded(key)}", method, headers)
    return status, content


def test_cancelling_is_off_by_default_and_without_credentials(server: Running) -> None:
    assert cancelling(server, "SQL_QUERY:k59", ACTION)[0] == 403
    assert cancelling(server, "SQL_QUERY:k59", ACTION, "GET")[0] == 404
    with serving("--durability", "memory", "--status-cancel", "true") as other:
        run(other, [("QUEUE ADD PRIORITY 1 'q:a' 'x'", None)])
        assert cancelling(other, "q:a", ACTION)[0] == 403
        assert get(other, "/api/overview")["may_cancel"] is False
    with serving("--durability", "memory", **CREDENTIALS) as other:
        assert cancelling(other, "q:a", {**ACTION, "authorization": AUTHORIZATION})[0] == 403


def test_who_is_known_cancels_and_nobody_else() -> None:
    known = {"authorization": AUTHORIZATION}
    with serving("--durability", "memory", "--status-cancel", "true", **CREDENTIALS) as server:
        run(server, [("QUEUE ADD PRIORITY 1 'q:a' 'x'", None)], AUTHORIZATION)
        assert cancelling(server, "q:a", ACTION)[0] == 401
        assert cancelling(server, "q:a", known)[0] == 403  # a form of another site cannot send the header
        assert fetch(server, "/api/cancel?item=!", "POST", {**known, **ACTION})[0] in {200, 400}
        assert cancelling(server, "q:a", {**known, **ACTION}) == (200, {"cancelled": True})
        assert cancelling(server, "q:a", {**known, **ACTION}) == (200, {"cancelled": False})
        for path in ("/", "/page.js", "/api/overview", "/api/items", "/metrics"):
            assert fetch(server, path)[0] == 401
            assert fetch(server, path, headers=known)[0] in {200, 400}
        _, _, errors = server.end(signal.SIGTERM)
    logged = [json.loads(line) for line in errors.splitlines() if "item cancelled by hand" in line]
    assert [(line["key"], line["user"]) for line in logged] == [("q:a", USER)]
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+", line["peer"]) for line in logged)


def test_results_without_a_prefix_are_a_queue() -> None:
    with serving("--durability", "memory") as server:
        run(server, [(f"QUEUE ADD PRIORITY 1 '{path}' 'x'", None) for path in ("bare", "q:a", "q:b:c")])
        run(server, [(f"QUEUE RETRIEVE CONCURRENCY 9 '{path}'", None) for path in ("bare", "q:a", "q:b:c")])
        run(server, [(f"QUEUE ACK '{path}' 'y'", None) for path in ("bare", "q:a", "q:b:c")])
        for queue, results in (("", ["bare"]), ("q", ["q:a"]), ("q:b", ["q:b:c"])):
            assert [row["key"] for row in get(server, "/api/results", queue=encoded(queue))["rows"]] == results


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (payload("SELECT 1"), "sql", "SELECT 1"),
        (b'{"query": "SELECT 2"}', "sql", "SELECT 2"),
        (b'{"query": {"query": []}}', "json", '{\n  "query": {\n    "query": []\n  }\n}'),
        (b'{"a": 1}', "json", '{\n  "a": 1\n}'),
        (b"5", "text", "5"),
        (b'"a text"', "sql", "a text"),
        (b"\xff\x00", "text", "\N{REPLACEMENT CHARACTER}\x00"),
        (b'{"query": ' * 20 + b"1" + b"}" * 20, "json", None),
    ],
)
def test_readable(value: bytes, kind: str, text: str | None) -> None:
    shown = readable(value)
    assert shown is not None
    assert shown["kind"] == kind
    assert text is None or shown["text"] == text
    assert shown["bytes"] == len(value)
    assert readable(None) is None


NESTED = {
    "ones in 150 lists": b"[" * 150 + b"1," * 130_000 + b"1" + b"]" * 150,
    "many lists": b"[" + b"[]," * 80_000 + b"1]",
    "many numbers": b"[" + b"1.5e-300," * 28_000 + b"1]",
    "short and deep": b"[" * 150 + b"1," * 3_000 + b"1" + b"]" * 150,
    "deeper than Python goes": b"[" * 100_000,
    "objects": b'{"query":' * 900 + b"1" + b"}" * 900,
}


@pytest.mark.parametrize("name", NESTED)
def test_no_payload_keeps_the_server_busy(name: str) -> None:
    """Indentation makes nested JSON a thousand times as long: one payload took 2.6 s and 80 MB once."""
    value = NESTED[name]
    tracemalloc.start()
    began = time.process_time()
    shown = readable(value)
    used_s = time.process_time() - began
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert shown is not None
    assert len(shown["text"]) <= 8_192
    assert peak_bytes < 3 * len(value) + 1_000_000
    assert used_s < 0.5  # some milliseconds, and tracing them


def test_the_largest_payload_in_which_sql_is_looked_for() -> None:
    value = payload("SELECT " + "x" * (256 * 1024 - len(payload("SELECT "))))
    assert [shown["kind"] for each in (value, b" " + value) if (shown := readable(each))] == ["sql", "text"]


def test_the_largest_payload_in_lines() -> None:
    value = b"[" + b" " * 8_190 + b"]"
    assert [shown["kind"] for each in (value, b" " + value) if (shown := readable(each))] == ["json", "text"]


def test_more_queues_than_have_names_are_told_as_one_and_not_counted_one_by_one() -> None:
    with serving("--durability", "memory") as crowded:
        added = [
            (f"QUEUE ADD PRIORITY 1 'many{number:03}:{item}' 'x'", None) for item in (1, 2) for number in range(101)
        ]
        run(crowded, [*added, *((f"QUEUE ADD PRIORITY 1 'late:{item}' 'x'", None) for item in range(9))])
        queues = {queue["name"]: queue for queue in get(crowded, "/api/overview")["queues"]}
    assert (queues["late"]["pending"], queues["late"]["added"], queues["late"]["claimed"]) == (9, None, None)
    assert queues["many000"]["added"] == 2
    assert queues["other"]["id"] is None
    assert queues["other"]["added"] == 9 + 2  # those of `late`, and of the 101st
