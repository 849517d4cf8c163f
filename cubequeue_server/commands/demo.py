"""`cubequeue demo`: a server in memory and a made-up Cube deployment on it, so that page and commands show life.

API instances add queries, claim and run them, wait for results and fill the cache, with the statements of Cube's own
driver (docs/spec/clients.md). Some queries are slow, some fail, some requests are wrong, and a worker dies at times.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import random
import signal
import sys
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

from cubequeue_server.commands.address import CommandError
from cubequeue_server.commands.client import Connection, connected, quoted
from cubequeue_server.commands.output import paint

_START_TIMEOUT_S: Final = 30.0
_INSTANCES: Final = ("api-1", "api-2", "api-3", "refresh-worker-1")
_CLIENTS: Final = 3  # people who look at dashboards, of each instance
_HEARTBEAT_S: Final = 2.0
_STALLED_MS: Final = 15_000
_ORPHANED_MS: Final = 60_000
_DEATH_EVERY_S: Final = 45.0
_QUEUES: Final = {
    "SQL_QUERY_STANDALONE_default": 3,
    "SQL_QUERY_STANDALONE_warehouse": 2,
    "SQL_PRE_AGGREGATIONS_default": 1,
}
_TABLES: Final = ("orders", "line_items", "users", "products", "events", "sessions", "invoices", "shipments")
_MEASURES: Final = ("count(*)", "sum(amount)", "avg(duration)", "count(distinct user_id)")
_ERRORS: Final = (
    'Error: relation "public.shipments_2019" does not exist',
    "Error: Query execution timeout after 10 min of waiting",
    'Error: too many connections for role "cube"',
)


def run(arguments: argparse.Namespace) -> int:
    """The exit code. Raises CommandError when the server does not start."""
    return asyncio.run(_demo(arguments))


async def _demo(arguments: argparse.Namespace) -> int:
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, over.set)
    async with _server(arguments.port) as addresses:
        _greet(addresses)
        deployment = _Deployment(addresses["ws"])
        tasks = [asyncio.create_task(part) for part in deployment.parts()]
        ending = asyncio.create_task(over.wait())
        try:
            done, _ = await asyncio.wait(
                [ending, *tasks], timeout=arguments.seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for task in [ending, *tasks]:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
    if done and ending not in done:  # one that never ends by itself
        raise CommandError(next((str(error) for error in ended if isinstance(error, CommandError)), "the demo ended"))
    return 0


@contextlib.asynccontextmanager
async def _server(port: int) -> AsyncIterator[dict[str, str]]:
    """A server of its own on this machine, in memory, without any setting of the environment; its addresses."""
    environment = {name: text for name, text in os.environ.items() if not name.startswith(("CUBESTORE_", "CUBEQUEUE_"))}
    flags = ["--http-bind", "127.0.0.1:auto", "--status-bind", f"127.0.0.1:{port or 'auto'}", "--mysql-port", "0"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cubequeue_server", "serve", *flags, "--log-level", "error",
        env=environment, stdout=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), _START_TIMEOUT_S)).decode()
        if not line:
            raise CommandError("the server of the demo did not start")
        yield dict(word.split("=", 1) for word in line.split() if "=" in word)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _START_TIMEOUT_S)


def _greet(addresses: dict[str, str]) -> None:
    url = addresses["ws"]
    lines = (
        ("page", f"http://{addresses['status']}/"),
        ("commands", f"cubequeue top --url {url}"),
        ("", f"cubequeue queues --url {url}"),
        ("", f"cubequeue monitor --url {url}"),
        ("state", "in memory, for this machine only; it ends with this command"),
        ("stop", "Ctrl-C"),
    )
    print("cubequeue demo: 4 made-up Cube instances with 3 queues; some queries are slow, some fail, a worker dies")
    for name, text in lines:
        print(f"  {paint(f'{name:<10}', 'bold')}{text}", flush=True)


@dataclass(frozen=True, slots=True)
class _Query:
    """A query of a dashboard: where it is queued, under which key, what it is, and how long it runs."""

    queue: str
    key: str
    payload: str
    run_s: float
    error: str | None


class _Deployment:
    def __init__(self, url: str) -> None:
        self._url = url
        self._random = random.Random(7)  # noqa: S311  # the same life each time
        self._dying = ""

    def parts(self) -> list[Any]:
        """The coroutines of everything that goes on; none of them ends by itself."""
        dashboards = [self._dashboard(name, number) for name in _INSTANCES for number in range(_CLIENTS)]
        return [*dashboards, *(self._sweeper(name) for name in _INSTANCES[:2]), self._wrong_client(), self._death()]

    def _query(self) -> _Query:
        draw = self._random
        queue = draw.choices(list(_QUEUES), (6, 3, 1))[0]
        table, value, day = draw.choice(_TABLES), draw.choice(_MEASURES), draw.randrange(1, 4)
        sql = f"SELECT {value} AS value FROM public.{table} WHERE created_at >= $1 GROUP BY 1 ORDER BY 1 LIMIT 10000"  # noqa: S608  # a payload
        key = hashlib.sha256(f"{sql}{day}".encode()).hexdigest()[:32]
        request_id = f"{uuid.UUID(int=draw.getrandbits(128))}-span-1"
        content = {
            "queryHandler": "query",
            "queryKey": [sql, [f"2026-01-{day:02}"]],
            "query": {"query": [sql, [f"2026-01-{day:02}"], {"external": False}], "requestId": request_id},
            "priority": draw.choice((0, 10, 100)),
            "requestId": request_id,
        }
        slow = draw.random() < 0.08
        run_s = draw.uniform(8.0, 25.0) if slow else min(6.0, draw.lognormvariate(-0.5, 0.8))
        return _Query(queue, key, json.dumps(content), run_s, draw.choice(_ERRORS) if draw.random() < 0.06 else None)

    async def _dashboard(self, instance: str, number: int) -> None:
        """One request after the other, as Cube handles it: the cache, else the queue."""
        draw = random.Random(f"{instance}{number}")  # noqa: S311
        async with connected(self._url, process_id=instance) as connection:
            while True:
                await asyncio.sleep(draw.expovariate(1.2))
                query = self._query()
                cached = f"{query.queue}_result:{query.key}"
                found = await connection.rows(f"CACHE GET {quoted(cached)}")
                if found.rows and found.rows[0][0] is not None:
                    continue
                result = await self._run(connection, instance, query)
                if result is not None:
                    await connection.rows(f"CACHE SET TTL {draw.randrange(20, 90)} {quoted(cached)} {quoted(result)}")

    async def _run(self, connection: Connection, instance: str, query: _Query) -> str | None:
        """Add the query, claim it or wait for it; its result, None without one."""
        path = quoted(f"{query.queue}:{query.key}")
        added = await connection.rows(
            f"QUEUE ADD PRIORITY {self._random.choice((0, 10, 100))} {path} {quoted(query.payload)}"
        )
        number = (added.rows[0][0] or b"").decode()
        claimed = await connection.rows(f"QUEUE RETRIEVE EXTENDED CONCURRENCY {_QUEUES[query.queue]} {path}")
        if not claimed.rows or claimed.rows[0][0] is None:
            waited = await connection.rows(f"QUEUE RESULT_BLOCKING 5000 {number}")
            await self._claim_next(connection, instance, query.queue)
            return None if not waited.rows or waited.rows[0][0] is None else waited.rows[0][0].decode()
        return await self._work(connection, instance, number, query.run_s, query.error)

    async def _claim_next(self, connection: Connection, instance: str, queue: str) -> None:
        """Cube reconciles its queue after each wait: a slot that has become free is taken."""
        for key, *_ in (await connection.rows(f"QUEUE PENDING {quoted(queue)}")).rows[:1]:
            path = quoted(f"{queue}:{(key or b'').decode()}")
            claimed = await connection.rows(f"QUEUE RETRIEVE EXTENDED CONCURRENCY {_QUEUES[queue]} {path}")
            if claimed.rows and claimed.rows[0][0] is not None:
                number = (claimed.rows[0][4] or b"").decode()
                await self._work(connection, instance, number, self._query().run_s, None)

    async def _work(
        self, connection: Connection, instance: str, number: str, run_s: float, error: str | None
    ) -> str | None:
        """Run for so long, with heartbeats, and acknowledge; a worker that dies does neither."""
        if self._dying == instance:
            self._dying = ""
            return None
        left_s = run_s
        while left_s > 0:
            await asyncio.sleep(min(left_s, _HEARTBEAT_S))
            left_s -= _HEARTBEAT_S
            await connection.rows(f"QUEUE HEARTBEAT {number}")
        rows = [{"value": self._random.randrange(100_000)} for _ in range(self._random.randrange(1, 40))]
        result = json.dumps({"error": error} if error else {"result": rows})
        await connection.rows(f"QUEUE ACK {number} {quoted(result)}")
        return None if error else result

    async def _sweeper(self, instance: str) -> None:
        """Cancel what is stalled or orphaned and claim what waits, as each instance of Cube does."""
        async with connected(self._url, process_id=instance) as connection:
            while True:
                await asyncio.sleep(5.0)
                for queue in _QUEUES:
                    asked = f"QUEUE TO_CANCEL {_STALLED_MS} {_ORPHANED_MS} {quoted(queue)}"
                    for _, number in (await connection.rows(asked)).rows:
                        await connection.rows(f"QUEUE CANCEL {(number or b'').decode()}")
                    await self._claim_next(connection, instance, queue)

    async def _wrong_client(self) -> None:
        """A tool of somebody's that asks for a table of another product."""
        async with connected(self._url, process_id="nightly-report") as connection:
            while True:
                await asyncio.sleep(11.0)
                await connection.ask("SELECT * FROM system.jobs")

    async def _death(self) -> None:
        while True:
            await asyncio.sleep(_DEATH_EVERY_S)
            self._dying = self._random.choice(_INSTANCES[:3])
