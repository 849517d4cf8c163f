"""What Cube's clients put into statements: payloads, values of the cache, and the literals around them (clients.md §2).

SQL of several lines with quoted names stands in JSON, and the JSON in a literal: each quote of a name costs two
escapes on the way, each end of a line one. A server undoes more than two hundred of them in a QUEUE ADD of 2 KB.
"""

from __future__ import annotations

import json
import re

ANSWER = b'{"result":[{"orders__status":"new","orders__count":"42"}]}'

_REQUEST_ID = "7d0f1c52-3a94-4e0b-9d53-5f2c6a1e8b47-span-1"
_ADDED_MS = 1_700_000_000_000
_SELECT = (
    'SELECT\n      "orders".status "orders__status", count("orders".id) "orders__count"\n'
    '    FROM\n      public.orders AS "orders"\n'
    "  WHERE (\"orders\".created_at >= date_trunc('day', $1::timestamptz))"
)
_FURTHER = " AND (\"orders\".status <> 'returned')"
_END = "\n  GROUP BY 1 ORDER BY 2 DESC LIMIT 10000"
_COPIES = 4  # of the SQL in one payload

_ESCAPES = {b"\0": b"\\0", b"\b": b"\\b", b"\t": b"\\t", b"\n": b"\\n", b"\r": b"\\r", b"\x1a": b"\\Z"}
_ESCAPED = re.compile(rb"[\0\b\t\n\r\x1a\"'\\]")


def sqlstring(text: bytes) -> bytes:
    """The literal that the clients' `sqlstring` writes."""
    return b"'" + _ESCAPED.sub(lambda found: _ESCAPES.get(found[0], b"\\" + found[0]), text) + b"'"


def payload(size_bytes: int) -> bytes:
    """A payload as QueryQueue sends it, at most three bytes shorter than asked for.

    The SQL grows with the size. Sizes below that of the shortest payload, 1 KB, give that one.
    """
    conditions = max(0, size_bytes - len(_payload(0, 0))) // (len(_payload(1, 0)) - len(_payload(0, 0)))
    return _payload(conditions, max(0, size_bytes - len(_payload(conditions, 0))) // _COPIES)


def _payload(conditions: int, indentation: int) -> bytes:
    """The SQL stands in it four times: as the query, and in the three keys of it that Cube sends along."""
    sql = _SELECT + _FURTHER * conditions + " " * indentation + _END
    key = [sql, ["2024-01-01T00:00:00.000"], []]
    query = {"queryKey": key, "query": sql, "values": key[1], "requestId": _REQUEST_ID}
    body = {
        "queryHandler": "query",
        "query": query,
        "queryKey": key,
        "stageQueryKey": key,
        "priority": 10,
        "requestId": _REQUEST_ID,
        "addedToQueueTime": _ADDED_MS,
    }
    return _json(body)


def cached(size_bytes: int) -> bytes:
    """A value of the cache of exactly this size, 64 bytes or more: rows of a result and the name of the request."""
    row = {"orders__status": "new", "orders__count": "42"}
    rows = [row] * (max(0, size_bytes - len(_cached([], ""))) // (len(_json(row)) + 1))
    return _cached(rows, "r" * (size_bytes - len(_cached(rows, ""))))


def _cached(rows: list[dict[str, str]], request_id: str) -> bytes:
    return _json({"time": _ADDED_MS, "result": rows, "requestId": request_id})


def _json(value: object) -> bytes:
    """As JSON.stringify writes it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
