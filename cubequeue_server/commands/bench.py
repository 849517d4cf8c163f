"""`cubequeue bench`: load on any server that speaks the protocol, by life cycles of items and a mix on the cache.

It first measures its own ceiling, against a bare echo on this machine: near that, it limits the rate, not the server.
All names start with one that no client uses, and the rest of them is removed at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeAlias

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_create_server

from cubequeue_server.commands.address import CommandError
from cubequeue_server.commands.client import Connection, connected
from cubequeue_server.commands.output import print_json
from cubequeue_server.commands.tables import printable
from protocol.client_codec import ErrorReply, Reply, Rows
from protocol.flat import fields, follow, read_u32

_CEILING_SECONDS: Final = 2.0
_CACHE_KEYS: Final = 256  # of each worker
_PAYLOAD: Final = "x" * 512
_TTL_S: Final = 600  # ends the entries of a bench that was killed
_END_TIMEOUT_S: Final = 30.0


@dataclass(slots=True)
class Measured:
    """Latencies in seconds, in the order of the answers, and error texts with their counts."""

    seconds: float
    latencies_s: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    def note(self, error: str) -> None:
        """Count an error. Past 20 texts, new ones count as `other errors`."""
        self.errors[error if len(self.errors) < 20 else "other errors"] += 1

    async def ask(self, connection: Connection, statement: str) -> list[Row] | None:
        """The rows; None for an error reply, which is counted. Raises CommandError when the connection has ended."""
        start = time.perf_counter()
        reply = await connection.begin(statement)
        self.latencies_s.append(time.perf_counter() - start)
        if isinstance(reply, Rows):
            return reply.rows
        self.note(reply.text if isinstance(reply, ErrorReply) else "a reply in another format")
        return None


Row: TypeAlias = tuple[bytes | None, ...]
Ask: TypeAlias = Callable[[str], Awaitable[list[Row] | None]]
Worker: TypeAlias = Callable[[Ask, str, float], Awaitable[None]]


def run(arguments: argparse.Namespace) -> int:
    """The exit code: 1 when there were errors. Raises CommandError without a connection."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_bench(arguments))


async def _bench(arguments: argparse.Namespace) -> int:
    run_name = f"cubequeue-bench-{secrets.token_hex(8)}"
    count, depth, seconds = arguments.connections, arguments.depth, float(arguments.seconds)
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(connected(arguments.url)) for _ in range(count)]
        say: Callable[[str], None] = _ignore if arguments.json else _say
        say(f"{count} connections, {depth} requests in flight on each, {arguments.seconds} s each part")
        ceiling = await _ceiling(count, depth, min(_CEILING_SECONDS, seconds))
        say(f"the generator is Python: at most {ceiling:.0f} requests/s, measured against a bare echo on this machine")
        say(f"{'':<12}{'requests/s':>12}{'p50 ms':>10}{'p99 ms':>10}{'errors':>10}")
        figures: dict[str, Any] = {"ceiling_per_s": round(ceiling), "connections": count, "depth": depth}
        has_errors = False
        for name, worker in (("queue", _life_cycles), ("cache", _cache_mix)):
            try:
                measured = await _load(connections, depth, seconds, worker, run_name)
            finally:
                await asyncio.shield(_remove(arguments.url, run_name))
            figures[name] = _report(name, measured, say)
            has_errors |= bool(measured.errors)
    if arguments.json:
        print_json(figures)
    return int(has_errors)


async def _load(connections: list[Connection], depth: int, seconds: float, worker: Worker, run_name: str) -> Measured:
    measured = Measured(seconds)
    start = time.perf_counter()

    async def work(ask: Ask, name: str) -> None:
        try:
            await worker(ask, name, start + seconds)
        except CommandError as error:
            measured.note(str(error))

    tasks = [
        asyncio.create_task(work(partial(measured.ask, connection), f"{run_name}-{number}-{lane}"))
        for number, connection in enumerate(connections)
        for lane in range(depth)
    ]
    try:
        _, late = await asyncio.wait(tasks, timeout=seconds + _END_TIMEOUT_S)
    finally:
        for task in tasks:
            task.cancel()
    measured.seconds = time.perf_counter() - start
    for _ in late:
        measured.note(f"no answer within {_END_TIMEOUT_S:.0f} s")
    return measured


async def _life_cycles(ask: Ask, name: str, until_s: float) -> None:
    """Add, claim, end and read one item after the other, in a queue of its own."""
    number = 0
    while time.perf_counter() < until_s:
        number += 1
        path = f"'{name}:{number}'"
        if not await ask(f"QUEUE ADD PRIORITY 1 {path} '{_PAYLOAD}'"):
            continue
        if await ask(f"QUEUE RETRIEVE CONCURRENCY 1 {path}"):
            await ask(f"QUEUE ACK {path} '{_PAYLOAD}'")
            await ask(f"QUEUE RESULT {path}")
        else:  # it was not claimed, but must not stay
            await ask(f"QUEUE CANCEL {path}")


async def _cache_mix(ask: Ask, name: str, until_s: float) -> None:
    """Three GETs for one SET, over a few hundred keys."""
    number = 0
    while time.perf_counter() < until_s:
        key = number // 4 * 7 % _CACHE_KEYS
        if number % 4 == 0:
            await ask(f"CACHE SET TTL {_TTL_S} '{name}:{key}' '{_PAYLOAD}'")
        else:
            await ask(f"CACHE GET '{name}:{key}'")
        number += 1


async def _remove(url: str, run_name: str) -> None:
    """Remove the rest of this run, on a new connection because the others may have ended."""
    async with connected(url) as connection:
        like = f"prefix LIKE '{run_name}-%'"
        for table, command in (("queue", "QUEUE CANCEL"), ("cache", "CACHE REMOVE")):
            rows = (await connection.rows(f"SELECT prefix, id FROM system.{table} WHERE {like}")).rows  # noqa: S608
            for prefix, key in rows:
                await connection.ask(f"{command} '{(prefix or b'').decode()}:{(key or b'').decode()}'")
        unread = f"path LIKE '{run_name}-%' AND deleted = false"  # the server drops results that were read
        rows = (await connection.rows(f"SELECT path FROM system.queue_results WHERE {unread}")).rows  # noqa: S608
        for (path,) in rows:
            await connection.ask(f"QUEUE RESULT '{(path or b'').decode()}'")


def _report(name: str, measured: Measured, say: Callable[[str], None]) -> dict[str, Any]:
    latencies = sorted(measured.latencies_s)
    p50, p99 = (latencies[int(len(latencies) * share)] * 1000 if latencies else 0.0 for share in (0.5, 0.99))
    rate = len(latencies) / measured.seconds
    say(f"{name:<12}{rate:>12.0f}{p50:>10.2f}{p99:>10.2f}{measured.errors.total():>10}")
    for text, count in measured.errors.most_common():
        say(f"  {count} × {printable(text)}")
    errors = dict(measured.errors.most_common())
    return {"per_s": round(rate, 1), "p50_ms": round(p50, 3), "p99_ms": round(p99, 3), "errors": errors}


def _ignore(_line: str) -> None:
    """Nobody reads along."""


def _say(line: str) -> None:
    print(line, flush=True)


# The generator's own ceiling


async def _ceiling(count: int, depth: int, seconds: float) -> float:
    """Requests/s of this generator against an echo in another process."""
    program = "from cubequeue_server.commands.bench import serve_echo; serve_echo()"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        port = int(await asyncio.wait_for(process.stdout.readline(), _END_TIMEOUT_S))
        async with AsyncExitStack() as stack:
            url = f"ws://127.0.0.1:{port}"
            connections = [await stack.enter_async_context(connected(url, _EchoClient)) for _ in range(count)]
            measured = await _load(connections, depth, seconds, _cache_mix, "echo")
    finally:
        process.kill()
        await process.wait()
    return len(measured.latencies_s) / measured.seconds


class _EchoClient(Connection):
    """A client of the echo, whose replies are the queries themselves."""

    def decode(self, message: bytes) -> Reply:
        """No rows, for the message id of the query."""
        position = follow(message, 0)
        id_, *_ = fields(message, position, 4)
        return Rows(read_u32(message, position + id_)[0], (), [])


class _Echo(WSListener):
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.BINARY:
            transport.send(WSMsgType.BINARY, frame.get_payload_as_bytes())


def serve_echo() -> None:
    """Print the port and echo messages for ever."""

    async def serve() -> None:
        server = await ws_create_server(lambda _request: _Echo(), "127.0.0.1", 0)
        _say(str(server.sockets[0].getsockname()[1]))
        await server.serve_forever()

    uvloop.run(serve())
