"""The work of the bench, as prebuilt messages for `load.c`: the same cycle for cubequeue and for Redis.

A cycle is a list of steps on one fresh key. Steps that are sent once come before it: the cycle then repeats on the key
that they filled. `ws` plans carry CubeStore statements as the clients' driver writes them, `resp` plans the EVALSHA or
plain commands that do the same in Redis; the echo gets the `ws` plan.

Each message has a connection id, so its answer is kept if it matters, and a trace object, as those of every driver
have. An item is addressed by its id, which `load.c` reads from the answer to ADD, where the driver does that: in all
statements but ADD, RETRIEVE and RESULT. The text of a statement carries its values, as drivers before 1.6.38 send it,
but for the lines that say otherwise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from bench.payloads import ANSWER, cached, payload, sqlstring
from protocol.client_codec import QueryEncoder, encode_query
from protocol.messages import ResponseFormat
from storage.vocabulary import Cell

KEY = b"k" * 32  # stands where load.c puts the key of the cycle
CONNECTION_ID = b"c" * 36
MESSAGE_ID = 0x7E57AB1E
ITEM = 1_234_567_890_123_456  # stands where load.c puts the id of the cycle's item, as text or as a number
ITEM_TEXT = b"%d" % ITEM
TRACE = "{}"  # what a driver without CUBEJS_INSTANCE_ID writes
PREFIX = b"SQL_QUERY_STANDALONE_default"
CACHE_PREFIX = b"STANDALONE#SQL_QUERY_RESULT:"
TTL_S = 86_400
LUA = Path(__file__).parent / "lua"
_PATH = sqlstring(PREFIX + b":" + KEY)
NOW = b"1700000000"


@dataclass(frozen=True)
class Step:
    """One request of a cycle and the smallest reply that can be an answer to it."""

    name: str
    sql: bytes
    redis: tuple[bytes, ...]
    min_reply_bytes: int
    min_redis_reply_bytes: int
    parameters: tuple[Cell, ...] | None = None
    response_format: int = ResponseFormat.LEGACY
    has_connection_id: bool = True
    gives_id: bool = False  # its answer carries the id of the item
    is_once: bool = False  # sent once, before the cycle


def lua(name: str, *arguments: bytes, prefix: bytes = PREFIX) -> tuple[bytes, ...]:
    """The call of a script, which Redis knows by its SHA1."""
    digest = hashlib.sha1((LUA / f"{name}.lua").read_bytes()).hexdigest().encode()
    return (b"EVALSHA", digest, b"1", prefix, *arguments)


def _steps_of_item(path: bytes, work: bytes, prefix: bytes = PREFIX) -> dict[str, Step]:
    """The statements about an item, by name; `path` is the literal of its path, `work` its payload."""
    queue, call, extra = sqlstring(prefix), partial(lua, prefix=prefix), b'{"startQueryTime":1700000000000}'
    add, ack = sqlstring(work), sqlstring(ANSWER)
    work_bytes, answer_bytes = len(work), len(ANSWER)
    steps = [
        Step(
            "add",
            b"QUEUE ADD PRIORITY 10 %s %s" % (path, add),
            call("add", KEY, work, b"10", NOW),
            60,
            4,
            gives_id=True,
        ),
        Step(
            "retrieve",
            b"QUEUE RETRIEVE CONCURRENCY 1000000 " + path,
            call("retrieve", KEY, b"1000000", NOW),
            work_bytes,
            work_bytes,
        ),
        Step(
            "merge_extra",
            b"QUEUE MERGE_EXTRA %s %s" % (ITEM_TEXT, sqlstring(extra)),
            call("merge_extra", KEY, extra),
            40,
            4,
        ),
        Step("heartbeat", b"QUEUE HEARTBEAT " + ITEM_TEXT, call("heartbeat", KEY, NOW), 40, 4),
        Step("ack", b"QUEUE ACK %s %s" % (ITEM_TEXT, ack), call("ack", KEY, ANSWER), 40, 4),
        Step("result", b"QUEUE RESULT " + path, call("result", KEY), answer_bytes, answer_bytes),
        Step(
            "result_blocking",
            b"QUEUE RESULT_BLOCKING 10000 " + ITEM_TEXT,
            call("result", KEY),
            answer_bytes,
            answer_bytes,
        ),
        Step("no_result", b"QUEUE RESULT " + path, call("result", KEY), 40, 4),
        Step("get", b"QUEUE GET " + ITEM_TEXT, call("get", KEY), work_bytes, work_bytes),
        Step("to_cancel", b"QUEUE TO_CANCEL 120000 120000 " + queue, call("to_cancel", b"1699999880"), 40, 4),
        Step("list", b"QUEUE LIST " + queue, call("list"), 60, 4),
    ]
    return {step.name: step for step in steps}


def _item(size_bytes: int = 2048) -> dict[str, Step]:
    """The statements about an item of the one queue that most cycles work on."""
    return _steps_of_item(_PATH, payload(size_bytes))


def life_cycle(size_bytes: int = 2048) -> list[Step]:
    """ADD, RETRIEVE, ACK and RESULT of one item."""
    steps = _item(size_bytes)
    return [steps[name] for name in ("add", "retrieve", "ack", "result")]


def life_cycle_with_parameters() -> list[Step]:
    """The same as driver 1.7.43 sends it: the values of ACK as parameters, and it asks for Arrow."""
    steps = [
        replace(step, sql=b"QUEUE ACK ? ?", parameters=(ITEM, ANSWER)) if step.name == "ack" else step
        for step in life_cycle()
    ]
    return in_arrow(steps)


def full_life_cycle() -> list[Step]:
    """The same with MERGE_EXTRA, HEARTBEAT and RESULT_BLOCKING, as a worker does it."""
    steps = _item()
    names = ("add", "retrieve", "merge_extra", "heartbeat", "ack", "result_blocking")
    return [steps[name] for name in names]


def many_prefixes() -> list[Step]:
    """The life cycle with a queue of its own for each item."""
    prefix = PREFIX + b"_" + KEY
    steps = _steps_of_item(sqlstring(prefix + b":item"), payload(2048), prefix)
    return [steps[name] for name in ("add", "retrieve", "ack", "result")]


def query_queue_mix() -> list[Step]:
    """What one API request that misses the cache sends, in its order (clients.md §6)."""
    steps = _item()
    cache = {step.name: step for step in cache_mix(1024)}
    miss = replace(cache["get1"], name="cache_miss", min_reply_bytes=40, min_redis_reply_bytes=4)
    order = "no_result add to_cancel list retrieve list merge_extra merge_extra heartbeat get ack"
    order += " to_cancel list result_blocking"
    queue = [replace(steps[name], name=f"{name}{at}") for at, name in enumerate(order.split())]
    again = replace(cache["get1"], name="cache_hit")
    return [miss, *queue, replace(cache["set"], name="cache_set"), again]


def add_only(size_bytes: int) -> list[Step]:
    """Pending items at a low priority, to fill a store; small ones have a payload that is no JSON."""
    work = payload(size_bytes) if size_bytes >= 2048 else b"x" * size_bytes
    step = _steps_of_item(_PATH, work)["add"]
    return [_filling(replace(step, sql=step.sql.replace(b"PRIORITY 10", b"PRIORITY 0")))]


def prefix_only() -> list[Step]:
    """One pending item in a queue of its own, to fill a store."""
    return [_filling(many_prefixes()[0])]


def _filling(step: Step) -> Step:
    """The step without a connection id, so that no answer is kept: a million kept answers would be part of what is
    measured on the filled store, and would expire meanwhile. A store that is as deep has lost them long ago."""
    return replace(step, has_connection_id=False)


def heartbeat_of_absent() -> list[Step]:
    """The smallest statement there is, of an item that is not there."""
    return [replace(_item()["heartbeat"], sql=b"QUEUE HEARTBEAT " + _PATH)]


def heartbeat_of_active() -> list[Step]:
    """A HEARTBEAT over and over, of an item that was added and claimed before."""
    steps = _item()
    return [*(replace(steps[name], is_once=True) for name in ("add", "retrieve")), steps["heartbeat"]]


def select() -> list[Step]:
    """A rollup query of some 300 bytes, which is for a CubeStore behind."""
    text = (
        b"SELECT `orders__status` `orders__status`, date_trunc('month', `orders__created_at_day`)"
        b" `orders__created_at_month`, sum(`orders__count`) `orders__count` FROM prod_pre_aggregations."
        b"orders_main20261101_jrrr3eve_tco2izcz_1lglkf6 AS `orders__main` GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 10000"
    )
    return [Step("select", text, (b"PING",), 300, 4)]


def _cache_steps(value: bytes, *, as_parameters: bool) -> tuple[Step, Step]:
    """SET and GET of a value."""
    key = CACHE_PREFIX + KEY
    put = Step("set", b"CACHE SET TTL ? ? ?", (b"SET", key, value, b"EX", b"%d" % TTL_S), 40, 5, (TTL_S, key, value))
    get = Step("get", b"CACHE GET ?", (b"GET", key), len(value), len(value), (key,))
    if as_parameters:
        return put, get
    in_text = b"CACHE SET TTL %d %s %s" % (TTL_S, sqlstring(key), sqlstring(value))
    return (
        replace(put, sql=in_text, parameters=None),
        replace(get, sql=b"CACHE GET " + sqlstring(key), parameters=None),
    )


def cache_mix(size_bytes: int = 100) -> list[Step]:
    """One SET and four GETs of a value; from 1 KB on as parameters, as drivers from 1.6.38 on send them."""
    put, get = _cache_steps(cached(size_bytes), as_parameters=size_bytes >= 1024)
    return [put, *(replace(get, name=f"get{at}") for at in range(1, 5))]


def cache_get() -> list[Step]:
    """A GET over and over, of a value of 1 KB that was set before."""
    put, get = _cache_steps(cached(1024), as_parameters=False)
    return [replace(put, is_once=True), get]


def in_arrow(steps: Sequence[Step]) -> list[Step]:
    """The same with Arrow replies, as clients of a new server ask for them."""
    return [replace(step, response_format=ResponseFormat.ARROW) for step in steps]


CYCLES: dict[str, Callable[[], list[Step]]] = {
    "life cycle 2 KB": life_cycle,
    "life cycle 2 KB, Arrow": lambda: in_arrow(life_cycle()),
    "life cycle 2 KB, parameters, Arrow": life_cycle_with_parameters,
    "life cycle 2 KB with MERGE_EXTRA, HEARTBEAT, RESULT_BLOCKING": full_life_cycle,
    "life cycle 2 KB, a prefix each": many_prefixes,
    "QueryQueue mix": query_queue_mix,
    "HEARTBEAT of an active item": heartbeat_of_active,
    "HEARTBEAT of an absent item": heartbeat_of_absent,
    "CACHE GET of 1 KB": cache_get,
    "cache 1 SET, 4 GET of 100 B": cache_mix,
    "cache 1 SET, 4 GET of 1 KB": lambda: cache_mix(1024),
    "cache 1 SET, 4 GET of 100 KB": lambda: cache_mix(100 * 1024),
    "cache 1 SET, 4 GET of 5 MB": lambda: cache_mix(5 << 20),
}


def ws_message(step: Step) -> bytes:
    """The message of a step. A plain one has its text last, as the drivers put it."""
    connection_id = CONNECTION_ID.decode() if step.has_connection_id else None
    if step.parameters is None:
        return QueryEncoder(connection_id, step.response_format, TRACE).encode(MESSAGE_ID, step.sql)
    return encode_query(
        MESSAGE_ID,
        step.sql,
        step.parameters,
        connection_id=connection_id,
        response_format=step.response_format,
        trace=TRACE,
    )


def filled_in(message: bytes, key: bytes, item: int) -> bytes:
    """The message with the key of a cycle and the id of its item, of 16 digits, as `load.c` would send it."""
    for mark, value in ((KEY, key), (ITEM_TEXT, b"%d" % item), (_number(ITEM), _number(item))):
        assert len(mark) == len(value)
        message = message.replace(mark, value)
    return message


def _number(value: int) -> bytes:
    return value.to_bytes(8, "little")


def ws_plan(steps: Sequence[Step], *, echo: bool = False) -> str:
    """The plan file of a WebSocket server; an echo is not held to what the replies contain."""
    marks = (KEY, MESSAGE_ID.to_bytes(4, "little"), CONNECTION_ID, ITEM_TEXT, _number(ITEM))
    lines = [
        _plan_line(step, ws_message(step), marks, 0 if echo else step.min_reply_bytes, step.gives_id and not echo)
        for step in steps
    ]
    return _plan("ws", steps, lines)


def resp_plan(steps: Sequence[Step]) -> str:
    """The plan file of Redis, where items are addressed by their key."""
    lines = []
    for step in steps:
        message = b"*%d\r\n" % len(step.redis) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in step.redis)
        lines.append(_plan_line(step, message, (KEY, *(None,) * 4), step.min_redis_reply_bytes, gives_id=False))
    return _plan("resp", steps, lines)


def _plan_line(step: Step, message: bytes, marks: Sequence[bytes | None], min_reply_bytes: int, gives_id: bool) -> str:
    offsets = [-1 if mark is None else message.find(mark) for mark in marks]
    return " ".join(map(str, [step.name, *offsets, int(gives_id), min_reply_bytes, message.hex()]))


def _plan(protocol: str, steps: Sequence[Step], lines: list[str]) -> str:
    once = sum(step.is_once for step in steps)
    assert all(step.is_once for step in steps[:once]), "what is sent once is sent first"
    return "\n".join([f"{protocol} {once}", *lines]) + "\n"
