"""The work of the bench, as prebuilt messages for `load.c`: the same cycle for cubequeue and for Redis.

A cycle is a list of steps on one fresh key. `ws` plans carry CubeStore statements, `resp` plans the EVALSHA or plain
commands that do the same in Redis; the echo gets the `ws` plan.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from protocol.client_codec import QueryEncoder, encode_query
from protocol.messages import ResponseFormat

KEY = b"k" * 32  # stands where load.c puts the key of the cycle
CONNECTION_ID = b"c" * 36
MESSAGE_ID = 0x7E57AB1E
PREFIX = b"SQL_QUERY_bench"
LUA = Path(__file__).parent / "lua"
NOW = b"1700000000"
ANSWER = b'{"result":[{"orders__status":"new","orders__count":"42"}]}'


@dataclass(frozen=True)
class Step:
    """One request of a cycle and the smallest reply that can be an answer to it."""

    name: str
    sql: bytes
    redis: tuple[bytes, ...]
    min_reply_bytes: int
    min_redis_reply_bytes: int
    parameters: tuple[bytes, ...] | None = None
    response_format: int = ResponseFormat.LEGACY
    has_connection_id: bool = True  # without one no answer is kept


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


def lua(name: str, *arguments: bytes, prefix: bytes = PREFIX) -> tuple[bytes, ...]:
    """The call of a script, which Redis knows by its SHA1."""
    digest = hashlib.sha1((LUA / f"{name}.lua").read_bytes()).hexdigest().encode()
    return (b"EVALSHA", digest, b"1", prefix, *arguments)


# The statements of a life cycle, by name; `path` is the literal of the item's path, `work` its payload.


def _steps_of_item(path: bytes, work: bytes, prefix: bytes = PREFIX) -> dict[str, Step]:
    queue, call = sqlstring(prefix), partial(lua, prefix=prefix)
    steps = [
        Step(
            "add", b"QUEUE ADD PRIORITY 10 %s %s" % (path, sqlstring(work)), call("add", KEY, work, b"10", NOW), 60, 4
        ),
        Step(
            "retrieve",
            b"QUEUE RETRIEVE CONCURRENCY 1000000 " + path,
            call("retrieve", KEY, b"1000000", NOW),
            len(work),
            len(work),
        ),
        Step(
            "merge_extra",
            b"QUEUE MERGE_EXTRA " + path + b" " + sqlstring(b'{"startQueryTime":1700000000000}'),
            call("merge_extra", KEY, b'{"startQueryTime":1700000000000}'),
            40,
            4,
        ),
        Step("heartbeat", b"QUEUE HEARTBEAT " + path, call("heartbeat", KEY, NOW), 40, 4),
        Step("ack", b"QUEUE ACK %s %s" % (path, sqlstring(ANSWER)), call("ack", KEY, ANSWER), 40, 4),
        Step("result", b"QUEUE RESULT " + path, call("result", KEY), len(ANSWER), len(ANSWER)),
        Step("result_blocking", b"QUEUE RESULT_BLOCKING 10000 " + path, call("result", KEY), len(ANSWER), len(ANSWER)),
        Step("no_result", b"QUEUE RESULT " + path, call("result", KEY), 40, 4),
        Step("get", b"QUEUE GET " + path, call("get", KEY), len(work), len(work)),
        Step("to_cancel", b"QUEUE TO_CANCEL 120000 120000 " + queue, call("to_cancel", b"1699999880"), 40, 4),
        Step("list", b"QUEUE LIST " + queue, call("list"), 60, 4),
    ]
    return {step.name: step for step in steps}


def life_cycle(size_bytes: int = 2048) -> list[Step]:
    """ADD, RETRIEVE, ACK and RESULT of one item."""
    steps = _steps_of_item(sqlstring(PREFIX + b":" + KEY), payload(size_bytes))
    return [steps[name] for name in ("add", "retrieve", "ack", "result")]


def full_life_cycle() -> list[Step]:
    """The same with MERGE_EXTRA, HEARTBEAT and RESULT_BLOCKING, as a worker does it."""
    steps = _steps_of_item(sqlstring(PREFIX + b":" + KEY), payload(2048))
    names = ("add", "retrieve", "merge_extra", "heartbeat", "ack", "result_blocking")
    return [steps[name] for name in names]


def many_prefixes() -> list[Step]:
    """The life cycle with a queue of its own for each item."""
    prefix = PREFIX + b"_" + KEY
    steps = _steps_of_item(sqlstring(prefix + b":item"), payload(2048), prefix)
    return [steps[name] for name in ("add", "retrieve", "ack", "result")]


def query_queue_mix() -> list[Step]:
    """What one API request that misses the cache sends, in its order (clients.md §6)."""
    steps = _steps_of_item(sqlstring(PREFIX + b":" + KEY), payload(2048))
    cache = {step.name: step for step in cache_mix(1024)}
    miss = replace(cache["get1"], name="cache_miss", min_reply_bytes=40, min_redis_reply_bytes=4)
    order = "no_result add to_cancel list retrieve list merge_extra merge_extra heartbeat get ack"
    order += " to_cancel list result_blocking"
    queue = [replace(steps[name], name=f"{name}{at}") for at, name in enumerate(order.split())]
    again = replace(cache["get1"], name="cache_hit")
    return [miss, *queue, replace(cache["set"], name="cache_set"), again]


def add_only(size_bytes: int) -> list[Step]:
    """Pending items at a low priority; no answer is kept of these."""
    step = _steps_of_item(
        sqlstring(PREFIX + b":" + KEY), payload(size_bytes) if size_bytes > 200 else b"x" * size_bytes
    )
    sql = step["add"].sql.replace(b"PRIORITY 10", b"PRIORITY 0")
    return [replace(step["add"], sql=sql, has_connection_id=False)]


def heartbeat_only() -> list[Step]:
    """The smallest statement there is, of an item that is not there."""
    return [_steps_of_item(sqlstring(PREFIX + b":" + KEY), b"")["heartbeat"]]


def prefix_only() -> list[Step]:
    """One pending item in a queue of its own."""
    return [replace(many_prefixes()[0], has_connection_id=False)]


def cache_mix(size_bytes: int = 100) -> list[Step]:
    """One SET and four GETs of a value; large values travel as parameters, as the drivers send them."""
    value = (b'{"time":1700000000000,"result":"' + b"v" * size_bytes)[: size_bytes - 2] + b'"}'
    key = b"bench#SQL_QUERY_RESULT:" + KEY
    get = Step("get", b"CACHE GET " + sqlstring(key), (b"GET", key), len(value), len(value))
    set_redis = (b"SET", key, value, b"EX", b"60")
    if size_bytes < 1024:
        put = Step("set", b"CACHE SET TTL 60 %s %s" % (sqlstring(key), sqlstring(value)), set_redis, 40, 5)
    else:
        put = Step("set", b"CACHE SET TTL 60 " + sqlstring(key) + b" ?", set_redis, 40, 5, (value,))
    return [put, *(replace(get, name=f"get{at}") for at in range(1, 5))]


def in_arrow(steps: Sequence[Step]) -> list[Step]:
    """The same with Arrow replies, as clients of a new server ask for them."""
    return [replace(step, response_format=ResponseFormat.ARROW) for step in steps]


CYCLES: dict[str, Callable[[], list[Step]]] = {
    "life cycle 2 KB": life_cycle,
    "life cycle 2 KB, Arrow": lambda: in_arrow(life_cycle()),
    "life cycle 2 KB with MERGE_EXTRA, HEARTBEAT, RESULT_BLOCKING": full_life_cycle,
    "life cycle 2 KB, a prefix each": many_prefixes,
    "QueryQueue mix": query_queue_mix,
    "HEARTBEAT": heartbeat_only,
    "cache 1 SET, 4 GET of 100 B": cache_mix,
    "cache 1 SET, 4 GET of 1 KB": lambda: cache_mix(1024),
    "cache 1 SET, 4 GET of 100 KB": lambda: cache_mix(100 * 1024),
    "cache 1 SET, 4 GET of 5 MB": lambda: cache_mix(5 << 20),
}


def ws_message(step: Step) -> bytes:
    """The message of a step. A plain one has its text last, as the drivers put it."""
    connection_id = CONNECTION_ID.decode() if step.has_connection_id else None
    if step.parameters is None:
        return QueryEncoder(connection_id, step.response_format).encode(MESSAGE_ID, step.sql)
    return encode_query(
        MESSAGE_ID,
        step.sql,
        step.parameters,
        connection_id=connection_id,
        response_format=step.response_format,
    )


def ws_plan(steps: list[Step], *, echo: bool = False) -> str:
    """The plan file of a WebSocket server; an echo is not held to the length of the replies."""
    lines = ["ws"]
    for step in steps:
        message = ws_message(step)
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
