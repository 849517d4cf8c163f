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

from cubequeue_server.observe.console.payloads import readable
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


def test_items_are_paged_in_the_order_of_service(server: Running) -> None:
    rows: list[Any] = []
    offset: int | None = 0
    while offset is not None:
        page = get(server, "/api/items", queue=encoded("SQL_QUERY"), offset=offset, limit=25)
        assert len(page["rows"]) <= 25
        rows += page["rows"]
        offset = page["next"]
    assert [row["key"] for row in rows[:2]] == ["k01", "k02"]  # those that run
    assert all(row["heartbeat_ms"] is not None and row["place"] is None for row in rows[:2])
    pending = sorted(range(3, 60), key=lambda number: (-(number % 3), number))
    assert [row["key"] for row in rows[2:]] == [f"k{number:02}" for number in pending]
    assert [row["place"] for row in rows[2:]] == list(range(1, 58))
    assert rows[0]["preview"] == "SELECT 1 FROM orders"


@pytest.mark.parametrize("limit", ["1000000", "0", "-1", "x", "9" * 50])
def test_no_request_gets_more_than_a_page(server: Running, limit: str) -> None:
    status, content, _ = fetch(server, f"/api/items?{urlencode({'queue': encoded('SQL_QUERY'), 'limit': limit})}")
    assert status == 400 or 1 <= len(content["rows"]) <= 100


@pytest.mark.parametrize("queue", ["", "!", "é", "YQ=", encoded("no such queue"), "_" * 4000])
def test_any_queue_is_answered(server: Running, queue: str) -> None:
    for path in ("/api/items", "/api/results"):
        status, content, _ = fetch(server, f"{path}?{urlencode({'queue': queue})}")
        assert status in {200, 400}
        assert not content.get("rows")


def test_huge_and_odd_payloads_are_cut(server: Running) -> None:
    page = get(server, "/api/items", queue=encoded("hostile"))
    assert {row["key"]: row["payload_bytes"] for row in page["rows"]}["huge"] == 5_000_000
    assert len(json.dumps(page)) < 10_000
    found = {key: get(server, "/api/item", item=encoded(f"hostile:{key}"))["found"] for key in ("raw", "huge", "deep")}
    assert found["raw"]["payload"]["text"] == HOSTILE
    assert found["huge"]["payload"]["text"] == found["huge"]["raw"]["text"] == "x" * 8192
    assert found["huge"]["payload"]["is_cut"]
    assert found["huge"]["raw"]["is_cut"]
    assert found["deep"]["payload"]["kind"] == "text"
    [surrogate] = [row for row in page["rows"] if row["key"] == "surrogate"]
    assert "? lone" in surrogate["preview"]


def test_results_and_cache(server: Running) -> None:
    [row] = get(server, "/api/results", queue=encoded("SQL_QUERY"))["rows"]
    assert (row["key"], row["value"]["kind"], row["is_taken"]) == ("k00", "json", False)
    rows = {row["name"]: row for row in get(server, "/api/cache")["rows"]}
    cached = rows["SQL_QUERY_RESULT"]
    assert (cached["entries"], cached["hits"], cached["misses"]) == (1, 1, 1)
    assert cached["bytes"] > 3_000


def test_answers_are_not_kept_and_not_shown_in_others_pages(server: Running) -> None:
    for path in ("/", "/main.js", "/page.css", "/icon.svg", "/vendor/uPlot.js", "/views/item.js", "/api/server"):
        status, _, headers = fetch(server, path)
        assert status == 200
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        if path.startswith("/api"):
            continue
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]


def test_no_other_file_is_served(server: Running) -> None:
    for path in ("/files.py", "/page.html", "/../pages.py", "/vendor/", "/views/../files.py", "/__init__.py"):
        assert fetch(server, path)[0] == 404


def cancelling(server: Running, key: str, headers: dict[str, str], method: str = "POST") -> tuple[int, Any]:
    status, content, _ = fetch(server, f"/api/cancel?item={encoded(key)}", method, headers)
    return status, content


def test_cancelling_is_off_by_default_and_without_credentials(server: Running) -> None:
    assert cancelling(server, "SQL_QUERY:k59", ACTION)[0] == 403
    assert cancelling(server, "SQL_QUERY:k59", ACTION, "GET")[0] == 404
    with serving("--durability", "memory", "--status-cancel", "true") as other:
        run(other, [("QUEUE ADD PRIORITY 1 'q:a' 'x'", None)])
        assert cancelling(other, "q:a", ACTION)[0] == 403
        assert get(other, "/api/server")["may_cancel"] is False
    with serving("--durability", "memory", **CREDENTIALS) as other:
        assert cancelling(other, "q:a", {**ACTION, "authorization": AUTHORIZATION})[0] == 403


def test_who_is_known_cancels_and_nobody_else() -> None:
    known = {"authorization": AUTHORIZATION}
    with serving("--durability", "memory", "--status-cancel", "true", **CREDENTIALS) as server:
        run(server, [("QUEUE ADD PRIORITY 1 'q:a' 'x'", None)], AUTHORIZATION)
        assert cancelling(server, "q:a", ACTION)[0] == 401
        assert cancelling(server, "q:a", known)[0] == 403  # a form of another site cannot send the header
        assert fetch(server, "/api/cancel?item=!", "POST", {**known, **ACTION})[0] in {200, 400}
        for is_there in (True, False):
            status, done = cancelling(server, "q:a", {**known, **ACTION})
            assert (status, done["cancelled"], done["by"]["user"]) == (200, is_there, USER)
        for path in ("/", "/main.js", "/api/server", "/api/items", "/api/item", "/api/cache/keys", "/metrics"):
            assert fetch(server, path)[0] == 401
            assert fetch(server, path, headers=known)[0] in {200, 400}
        _, _, errors = server.end(signal.SIGTERM)
    logged = [json.loads(line) for line in errors.splitlines() if "item cancelled by hand" in line]
    assert [(line["key"], line["user"]) for line in logged] == [("q:a", USER)]
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+", line["peer"]) for line in logged)


def test_who_is_known_removes_from_the_cache() -> None:
    known = {"authorization": AUTHORIZATION, "x-cubequeue-action": "remove"}
    path = f"/api/cache/remove?key={encoded('c:k')}"
    with serving("--durability", "memory", "--status-cancel", "true", **CREDENTIALS) as server:
        run(server, [("CACHE SET TTL 60 'c:k' 'v'", None)], AUTHORIZATION)
        assert fetch(server, path, "POST")[0] == 401
        assert fetch(server, path, "POST", {**known, **ACTION})[0] == 403  # the header of another action
        status, done, _ = fetch(server, path, "POST", known)
        assert (status, done["removed"], done["by"]["user"]) == (200, True, USER)
        assert fetch(server, f"/api/cache/entry?key={encoded('c:k')}", headers=known)[0] == 404
        _, _, errors = server.end(signal.SIGTERM)
    [line] = [json.loads(line) for line in errors.splitlines() if "cache entry removed by hand" in line]
    assert (line["key"], line["user"]) == ("c:k", USER)
    with serving("--durability", "memory", "--status-cancel", "true") as other:
        assert fetch(other, path, "POST", known)[0] == 403


def test_results_without_a_prefix_are_a_queue() -> None:
    with serving("--durability", "memory") as server:
        run(server, [(f"QUEUE ADD PRIORITY 1 '{path}' 'x'", None) for path in ("bare", "q:a", "q:b:c")])
        run(server, [(f"QUEUE RETRIEVE CONCURRENCY 9 '{path}'", None) for path in ("bare", "q:a", "q:b:c")])
        run(server, [(f"QUEUE ACK '{path}' 'y'", None) for path in ("bare", "q:a", "q:b:c")])
        for queue, results in (("", ["bare"]), ("q", ["a"]), ("q:b", ["c"])):
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
