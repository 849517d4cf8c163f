"""A real server with something to see in it."""

from __future__ import annotations

import http.client
import json
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from websockets.sync.client import connect

from protocol.client_codec import Rows, decode_reply, encode_query
from storage.vocabulary import Cell
from tests.cli.running import Running

HOSTILE = "</script><img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
USER, PASSWORD = "ann", "pass word"
AUTHORIZATION = "Basic " + b64encode(f"{USER}:{PASSWORD}".encode()).decode()


def payload(sql: str) -> bytes:
    """What Cube puts into its queue."""
    query = {"query": [sql, ["a parameter"], {"persistent": True}], "cacheKeyQueries": [], "requestId": "r"}
    return json.dumps({"queryHandler": "query", "query": query, "priority": 1}).encode()


def run(
    server: Running, statements: Iterable[tuple[str, Sequence[Cell] | None]], authorization: str = ""
) -> list[Rows]:
    """Execute statements one after the other."""
    headers = {"authorization": authorization} if authorization else None
    host, port = server.ws
    replies = []
    with connect(f"ws://{host}:{port}/ws", additional_headers=headers, max_size=None) as client:
        for number, (text, parameters) in enumerate(statements):
            client.send(encode_query(number + 1, text, parameters))
            message = client.recv(10)
            assert isinstance(message, bytes)
            reply = decode_reply(message)
            assert isinstance(reply, Rows), reply
            replies.append(reply)
    return replies


def fill(server: Running, authorization: str = "") -> None:
    """Two queues with hostile names and payloads among ordinary ones, a result, and some cache."""
    added = [
        (f"QUEUE ADD PRIORITY {number % 3} 'SQL_QUERY:k{number:02}' ?", [payload(f"SELECT {number} FROM orders")])
        for number in range(60)
    ]
    hostile: list[tuple[str, Sequence[Cell] | None]] = [
        ("QUEUE ADD PRIORITY 1 ? ?", [f"{HOSTILE}:k".encode(), payload(HOSTILE)]),
        ("QUEUE ADD PRIORITY 1 'hostile:raw' ?", [HOSTILE.encode()]),
        ("QUEUE ADD PRIORITY 1 'hostile:huge' ?", [b"x" * 5_000_000]),
        ("QUEUE ADD PRIORITY 1 'hostile:deep' ?", [b"[" * 100_000]),
        ("QUEUE ADD PRIORITY 1 'hostile:surrogate' ?", [b'{"query": "\\ud800 lone"}']),
    ]
    claims: list[tuple[str, Sequence[Cell] | None]] = [
        (f"QUEUE RETRIEVE CONCURRENCY 9 'SQL_QUERY:k{number:02}'", None) for number in range(3)
    ]
    rest: list[tuple[str, Sequence[Cell] | None]] = [
        ("QUEUE ACK 'SQL_QUERY:k00' '{\"rows\": []}'", None),
        ("CACHE SET TTL 600 'SQL_QUERY_RESULT:a' ?", [b"r" * 3_000]),
        ("CACHE SET TTL 600 ? 'v'", [f"{HOSTILE}:a".encode()]),
        ("CACHE GET 'SQL_QUERY_RESULT:a'", None),
        ("CACHE GET 'SQL_QUERY_RESULT:b'", None),
    ]
    run(server, [*added, *hostile, *claims, *rest], authorization)


def fetch(
    server: Running, path: str, method: str = "GET", headers: Mapping[str, str] | None = None
) -> tuple[int, Any, Mapping[str, str]]:
    """Status, body (of JSON the content) and headers of one request of the status port."""
    connection = http.client.HTTPConnection(*server.status, timeout=10)
    try:
        connection.request(method, path, headers=dict(headers or {}))
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        body = answer.read()
        content = json.loads(body) if found.get("content-type") == "application/json" else body
        return answer.status, content, found
    finally:
        connection.close()
