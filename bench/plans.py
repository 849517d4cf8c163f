"""The work of the bench, as prebuilt messages for `load.c`: the same cycle for cubequeue and for Redis.

A cycle is a list of steps on one fresh key. `ws` plans carry CubeStore statements, `resp` plans the EVALSHA or plain
commands that do the same in Redis; the echo gets the `ws` plan.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from protocol.client_codec import QueryEncoder

KEY = b"k" * 32  # stands where load.c puts the key of the cycle
CONNECTION_ID = b"c" * 36
MESSAGE_ID = 0x7E57AB1E
PREFIX = b"SQL_QUERY_bench"
LUA = Path(__file__).parent / "lua"


@dataclass(frozen=True)
class Step:
    """One request of a cycle and the smallest reply that can be an answer to it."""

    name: str
    sql: bytes
    redis: tuple[bytes, ...]
    min_reply_bytes: int
    min_redis_reply_bytes: int


def payload(size_bytes: int) -> bytes:
    """A payload as QueryQueue makes it: JSON around SQL, with quotes that the client has to escape."""
    sql = 'SELECT "orders".status "orders__status", count("orders".id) FROM public.orders AS "orders" '
    sql += "WHERE status = 'new' AND "
    body = {"queryHandler": "query", "query": {"query": ""}, "priority": 10, "requestId": "bench", "queryKey": []}
    filler = sql + '("orders".created_at >= $1::timestamptz) AND ' * (size_bytes // 40)
    body["query"] = {"query": filler[: size_bytes - len(json.dumps(body)) - filler[:size_bytes].count('"')]}
    return json.dumps(body).encode()


def sqlstring(text: bytes) -> bytes:
    """The literal that the clients' `sqlstring` writes."""
    return b"'" + text.replace(b"\\", b"\\\\").replace(b"'", b"\\'").replace(b'"', b'\\"') + b"'"


def script(name: str) -> bytes:
    """The SHA1 that Redis knows the script by."""
    return hashlib.sha1((LUA / f"{name}.lua").read_bytes()).hexdigest().encode()


def life_cycle(size_bytes: int = 2048) -> list[Step]:
    """ADD, RETRIEVE, ACK and RESULT of one item."""
    work, answer = payload(size_bytes), b'{"result":[{"orders__status":"new","orders__count":"42"}]}'
    path = sqlstring(PREFIX + b":" + KEY)
    call = (b"1", PREFIX, KEY)
    return [
        Step(
            "add",
            b"QUEUE ADD PRIORITY 10 " + path + b" " + sqlstring(work),
            (b"EVALSHA", script("add"), *call, work, b"10", b"1700000000"),
            60,
            4,
        ),
        Step(
            "retrieve",
            b"QUEUE RETRIEVE CONCURRENCY 1000000 " + path,
            (b"EVALSHA", script("retrieve"), *call, b"1000000", b"1700000000"),
            len(work),
            len(work),
        ),
        Step(
            "ack",
            b"QUEUE ACK " + path + b" " + sqlstring(answer),
            (b"EVALSHA", script("ack"), *call, answer),
            40,
            4,
        ),
        Step("result", b"QUEUE RESULT " + path, (b"EVALSHA", script("result"), *call), len(answer), len(answer)),
    ]


def cache_mix(size_bytes: int = 100) -> list[Step]:
    """One SET and four GETs of a value."""
    value = (b'{"time":1700000000000,"result":"' + b"v" * size_bytes)[: size_bytes - 2] + b'"}'
    path, key = sqlstring(b"bench#SQL_QUERY_RESULT:" + KEY), b"bench#SQL_QUERY_RESULT:" + KEY
    get = Step("get", b"CACHE GET " + path, (b"GET", key), len(value), len(value))
    put = Step("set", b"CACHE SET TTL 60 " + path + b" " + sqlstring(value), (b"SET", key, value, b"EX", b"60"), 40, 5)
    return [put, *(Step(f"get{i}", get.sql, get.redis, get.min_reply_bytes, len(value)) for i in range(1, 5))]


CYCLES: dict[str, Callable[[], list[Step]]] = {"life cycle 2 KB": life_cycle, "cache SET/GET 100 B": cache_mix}


def ws_plan(steps: list[Step], *, echo: bool = False) -> str:
    """The plan file of a WebSocket server; an echo is not held to the length of the replies."""
    lines = ["ws"]
    encoder = QueryEncoder(CONNECTION_ID.decode())  # the text last, as the drivers put it
    for step in steps:
        message = encoder.encode(MESSAGE_ID, step.sql)
        offsets = (message.find(mark) for mark in (KEY, MESSAGE_ID.to_bytes(4, "little"), CONNECTION_ID))
        least = 0 if echo else step.min_reply_bytes
        lines.append(" ".join([step.name, *map(str, offsets), str(least), message.hex()]))
    return "\n".join(lines) + "\n"


def resp_plan(steps: list[Step]) -> str:
    """The plan file of Redis."""
    lines = ["resp"]
    for step in steps:
        message = b"*%d\r\n" % len(step.redis) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in step.redis)
        least = step.min_redis_reply_bytes
        lines.append(" ".join([step.name, str(message.find(KEY)), "-1", "-1", str(least), message.hex()]))
    return "\n".join(lines) + "\n"
