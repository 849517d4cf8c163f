"""Long statements, and what a HEARTBEAT on another connection waits for meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench import payloads, plans, servers
from bench.client import Client
from bench.measure import run_steps
from bench.prober import Probed, probing
from bench.record import Bench, Line, Target, line

_PENDING, _KEYS, _CLEARED = 10_000, 100_000, 1_000_000


@dataclass(frozen=True)
class Long:
    """A statement, what it is asked beside, and whether it is asked once, because it takes that away."""

    name: str
    query: bytes
    is_arrow: bool = False
    is_once: bool = False


def _fill_pending(bench: Bench, server: servers.Running, client: Client) -> None:
    work = payloads.sqlstring(payloads.payload(2048))
    client.ask_all([b"QUEUE ADD PRIORITY 0 'long:%d' " % at + work for at in range(_PENDING)])


def _claim(bench: Bench, server: servers.Running, client: Client) -> None:
    client.ask_all([b"QUEUE RETRIEVE CONCURRENCY 1000000 'long:%d'" % at for at in range(_PENDING)])


def _fill_keys(bench: Bench, server: servers.Running, client: Client) -> None:
    client.ask_all([b"CACHE SET 'app#SQL_QUERY_RESULT:%032d' 'v'" % at for at in range(_KEYS)])


def _fill_many(bench: Bench, server: servers.Running, client: Client) -> None:
    plan = bench.folder / "many"
    plan.write_text(plans.ws_plan(plans.add_only(100)))
    run_steps(bench.load, plan, server, bench.scaled(_CLEARED, _CLEARED // 10))


def _fill_nothing(bench: Bench, server: servers.Running, client: Client) -> None:
    """Large values are their own filling."""


def _set_of(size_mib: int) -> Long:
    """Most of a result of Cube is text with quotes, which a literal escapes."""
    row = b'{"orders.status":"completed","orders.count":"12345"},'
    value = payloads.sqlstring(row * ((size_mib << 20) // len(payloads.sqlstring(row))))
    return Long(f"CACHE SET of {size_mib} MiB", b"CACHE SET 'app#SQL_QUERY_RESULT:large' " + value)


def _both(name: str, query: bytes) -> list[Long]:
    return [Long(f"{name}, legacy", query), Long(f"{name}, Arrow", query, is_arrow=True)]


# What is filled in, and what is asked then, one after the other on the same server.
_SCENES: list[tuple[Callable[[Bench, servers.Running, Client], None], list[Long]]] = [
    (
        _fill_pending,
        [
            *_both("LIST WITH_PAYLOAD of 10 000", b"QUEUE LIST WITH_PAYLOAD 'long'"),
            *_both("LIST of 10 000", b"QUEUE LIST 'long'"),
            *_both("TO_CANCEL of 10 000", b"QUEUE TO_CANCEL 0 0 'long'"),
        ],
    ),
    (_fill_nothing, [_set_of(5), _set_of(20), _set_of(60)]),
    (_claim, _both("RETRIEVE beside 10 000 active", b"QUEUE RETRIEVE EXTENDED CONCURRENCY 1 'long:0'")),
    (
        _fill_keys,
        [
            *_both("KEYS of 100 000", b"CACHE KEYS 'app#SQL_QUERY_RESULT:'"),
            Long("CACHE CLEAR of 100 000", b"CACHE CLEAR", is_once=True),
        ],
    ),
    (_fill_many, [Long("CLEAR of {}", b"QUEUE CLEAR", is_once=True)]),
    (_fill_many, [Long("TRUNCATE of {}", b"SYS CACHESTORE TRUNCATE", is_once=True)]),
]


def stalls(bench: Bench) -> Iterator[Line]:
    """Each statement over and over while the prober asks, or once where it leaves nothing to be asked again."""
    for mode in ("memory", "relaxed"):
        settings = {"CUBESTORE_CACHE_MAX_KEYS": "200000", "CUBEQUEUE_QUEUE_MAX_ITEMS": "2000000"}
        with servers.durable_cubequeue(mode, **settings) as server:
            server.settle()
            with probing(server) as probed:
                time.sleep(bench.seconds)
            yield _line(f"nothing else, {mode}", probed, 0, 0.0)
            for fill, statements in _SCENES:
                with Client(server.port, f"fills-{fill.__name__}") as client:
                    fill(bench, server, client)
                server.settle()
                with Client(server.port, f"asks-{statements[0].name}") as client:
                    for long in statements:
                        count = f"{bench.scaled(_CLEARED, _CLEARED // 10):,}"
                        yield _probe(bench, server, client, long, f"{long.name.format(count)}, {mode}")


def _probe(bench: Bench, server: servers.Running, client: Client, long: Long, name: str) -> Line:
    asked, size = 0, 0
    with probing(server) as probed:
        started = time.monotonic()
        while time.monotonic() < started + bench.seconds and not (long.is_once and asked):
            client.send(long.query, arrow=long.is_arrow)
            size = len(client.receive())
            asked += 1
        took_s = time.monotonic() - started
        if long.is_once:
            time.sleep(max(bench.seconds, 2.0))  # what it took away is freed meanwhile
    return _line(name, probed, size, took_s / asked)


def _line(name: str, probed: Probed, size: int, took_s: float) -> Line:
    figures = {
        "heartbeat_p50_ms": probed.p50_ms,
        "heartbeat_p99_ms": probed.p99_ms,
        "heartbeat_max_ms": probed.max_ms,
        "heartbeat_server_p99_ms": probed.server_p99_ms,
        "heartbeat_server_max_ms": probed.server_max_ms,
        "statement_ms": took_s * 1e3,
        "reply_mib": size / (1 << 20),
    }
    return line("stalls", name, figures, Target("heartbeat_p99_ms", "≤", 10))
