"""`cubequeue top`: queues, throughput, cache and memory of a server, live in a terminal of any size."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from cubequeue_server.commands.client import CommandError, Connection, connected, credentials, websocket_url
from cubequeue_server.commands.queues import QueueLine, age, queue_lines
from cubequeue_server.commands.tables import fit, printable

_STATUS_TIMEOUT_S: Final = 2.0
_MAX_ANSWER_BYTES: Final = 16 << 20
_SMALL = (80, 24)
_ALTERNATE, _BACK = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"
_QUITS: Final = frozenset(b"qQ\x03\x04")


@dataclass(slots=True)
class Figures:
    """The figures of one moment. `overview` and `memory_bytes` come from the status port, None without it."""

    at_s: float
    queues: list[QueueLine]
    info: dict[str, int]
    overview: dict[str, Any] | None = None
    memory_bytes: int | None = None
    queue_totals: dict[str, dict[str, Any]] = field(default_factory=dict)


def run(arguments: argparse.Namespace) -> int:
    """The exit code. Raises CommandError without a connection."""
    if arguments.once:
        return asyncio.run(_once(arguments))
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise CommandError("top needs a terminal; --once prints one frame without", is_usage=True)
    return asyncio.run(_live(arguments))


async def _once(arguments: argparse.Namespace) -> int:
    status_url = _status_url(arguments)
    async with connected(arguments.url) as connection:
        before = await _look(connection, status_url)
        await asyncio.sleep(1.0 if before.overview else 0.0)  # a rate takes two looks
        now = await _look(connection, status_url)
    width = shutil.get_terminal_size(_SMALL).columns
    print("\n".join(line.rstrip() for line in frame(now, before, arguments.url, (width, 10_000))))
    return 0


async def _live(arguments: argparse.Namespace) -> int:
    """Watch until a key or a signal ends it."""
    loop = asyncio.get_running_loop()
    watching = loop.create_task(_watch(arguments))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, watching.cancel)

    def on_key() -> None:
        typed = os.read(sys.stdin.fileno(), 64)
        if not typed or _QUITS & set(typed):
            watching.cancel()

    loop.add_reader(sys.stdin.fileno(), on_key)
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await watching
    finally:
        loop.remove_reader(sys.stdin.fileno())
    return 0


async def _watch(arguments: argparse.Namespace) -> None:
    resized = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGWINCH, resized.set)
    status_url = _status_url(arguments)
    async with connected(arguments.url) as connection:
        before = now = await _look(connection, status_url)
        with _screen():
            while True:
                _draw(frame(now, before, arguments.url, shutil.get_terminal_size(_SMALL)))
                resized.clear()
                try:
                    await asyncio.wait_for(resized.wait(), arguments.interval)
                except TimeoutError:
                    before, now = now, await _look(connection, status_url)


@contextlib.contextmanager
def _screen() -> Iterator[None]:
    """The alternate screen of the terminal, without echo, restored at the end."""
    import termios  # noqa: PLC0415  # missing on some systems
    import tty  # noqa: PLC0415

    number = sys.stdin.fileno()
    kept = termios.tcgetattr(number)
    try:
        tty.setcbreak(number)
        sys.stdout.write(_ALTERNATE)
        sys.stdout.flush()
        yield
    finally:
        sys.stdout.write(_BACK)
        sys.stdout.flush()
        termios.tcsetattr(number, termios.TCSADRAIN, kept)


def _draw(lines: list[str]) -> None:
    sys.stdout.write(_HOME + "\r\n".join(line + _CLEAR_LINE for line in lines) + _CLEAR_BELOW)
    sys.stdout.flush()


# Frames


def frame(now: Figures, before: Figures, url: str, size: tuple[int, int]) -> list[str]:
    """The lines of one frame, which fit the terminal. O(queues)."""
    width, height = size
    width = max(1, width - 1)  # a full last column would begin a new line on some terminals
    heads = [
        f"cubequeue top  {printable(url, 60)}  q quits",
        _throughput_line(now, before),
        _cache_line(now),
        _memory_line(now),
        "",
        _queue_row(width, "QUEUE", "PENDING", "ACTIVE", "OLDEST", "ADD/s", "END/s"),
    ]
    room = max(0, height - len(heads))
    shown = now.queues[: room if len(now.queues) <= room else max(0, room - 1)]
    now_ms = time.time_ns() // 1_000_000
    rows = [
        _queue_row(
            width,
            printable(line.name),
            str(line.pending),
            str(line.active),
            age(line.oldest_ms, now_ms),
            *(_queue_rate(now, before, line.name, kind) for kind in ("added", "ended")),
        )
        for line in shown
    ]
    if len(shown) < len(now.queues) and room:
        rows.append(f"… and {len(now.queues) - len(shown)} more")
    return [fit(line, width) for line in [*heads, *rows][:height]]


def _queue_row(width: int, name: str, *cells: str) -> str:
    right = "".join(f"{cell:>10}" for cell in cells)
    return fit(name, max(8, width - len(right))) + right


def _throughput_line(now: Figures, before: Figures) -> str:
    items = sum(line.pending + line.active for line in now.queues)
    text = f"queues {len(now.queues)}  items {items}  results {now.info.get('QueueResults.keys_total', 0)}"
    if now.overview is None:
        return text + "  (no status port: no rates)"
    rate = _rate(now, before, _number(now.overview, "executed"), _number(before.overview, "executed"))
    connections, in_flight = (_number(now.overview, name) for name in ("connections", "in_flight"))
    return f"{text}  statements/s {rate}  connections {connections}  in flight {in_flight}"


def _cache_line(now: Figures) -> str:
    info = now.info
    text = f"cache {info.get('CacheItems.keys_total', 0)} keys  {_bytes(info.get('CacheItems.size_total', 0))}"
    if now.overview is None:
        return text
    gauges = now.overview.get("gauges")
    hits, misses = _number(gauges, "cache_hits"), _number(gauges, "cache_misses")
    rate = f"{100 * hits / (hits + misses):.1f} %" if hits + misses else "-"
    return f"{text}  hits {rate}  evicted {_number(gauges, 'cache_evicted_keys')}"


def _memory_line(now: Figures) -> str:
    held = sum(now.info.get(f"{table}.size_total", 0) for table in ("QueueItems", "QueueItemPayload", "QueueResults"))
    resident = _bytes(now.memory_bytes) if now.memory_bytes is not None else "-"
    return f"memory {resident} resident  queue and results {_bytes(held)}"


def _queue_rate(now: Figures, before: Figures, name: str, kind: str) -> str:
    if name not in now.queue_totals or name not in before.queue_totals:
        return "-"
    return _rate(now, before, now.queue_totals[name][kind], before.queue_totals[name][kind])


def _rate(now: Figures, before: Figures, count: int, count_before: int) -> str:
    seconds = now.at_s - before.at_s
    return f"{max(0, count - count_before) / seconds:.0f}" if seconds > 0 else "-"


def _bytes(count: int) -> str:
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"


# Figures


async def _look(connection: Connection, status_url: str) -> Figures:
    info = (await connection.rows("SYS CACHESTORE INFO")).rows
    figures = Figures(time.monotonic(), await queue_lines(connection), {})
    for name, value, *_ in info:
        if name is not None and value is not None and value.isdigit():
            figures.info[name.decode("utf-8", "replace")] = int(value)
    overview, figures.memory_bytes = await asyncio.to_thread(_ask_status_port, status_url)
    if overview is not None:
        figures.overview = overview
        for queue in overview["queues"]:
            totals = {kind: queue.get(kind) for kind in ("added", "ended")}
            if all(isinstance(total, int) for total in totals.values()):  # else the queue has no totals of its own
                figures.queue_totals[str(queue.get("name"))] = totals
    return figures


def _number(source: Any, name: str) -> int:
    value = source.get(name) if isinstance(source, dict) else None
    return value if isinstance(value, int) else 0


def _status_url(arguments: argparse.Namespace) -> str:
    """The address of the status port: --status-url, or port 3031 on the host of --url, with TLS if that has it."""
    if arguments.status_url:
        url = str(arguments.status_url)
    else:
        parts = urlsplit(websocket_url(arguments.url))
        host = f"[{parts.hostname}]" if ":" in str(parts.hostname) else parts.hostname
        url = f"{'https' if parts.scheme == 'wss' else 'http'}://{host}:3031"
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in {"http", "https"} and parts.hostname and "@" not in url and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable:
        raise CommandError("--status-url: not an http:// or https:// address without credentials", is_usage=True)
    return url


def _ask_status_port(url: str) -> tuple[dict[str, Any] | None, int | None]:
    """The overview of the live page and the resident bytes; None for each that is not available."""
    try:
        overview = json.loads(_get(url, "/api/overview"))
        if not all(isinstance(queue, dict) for queue in overview["queues"]):
            return None, None
        resident = re.search(rb"^process_resident_memory_bytes (\S+)", _get(url, "/metrics"), re.MULTILINE)
        return overview, None if resident is None else int(float(resident[1]))
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):  # TypeError: JSON of another shape
        return None, None


def _get(url: str, path: str) -> bytes:
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(str(parts.hostname), parts.port, timeout=_STATUS_TIMEOUT_S)
    try:
        connection.request("GET", path, headers=credentials())
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            raise ValueError(f"answered {answer.status}")
        return answer.read(_MAX_ANSWER_BYTES)
    finally:
        connection.close()
