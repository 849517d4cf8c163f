"""Metrics pushed to StatsD or DogStatsD over UDP, under CubeStore's names (config.md §3).

The changes since the last push are sent once a second, so requests cost nothing more. Durations are sent as one timing
for each step of their histogram, with the sampling rate that makes StatsD count all of them.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator, Mapping
from typing import Final

from cubequeue_server.observe.counters import Histogram
from cubequeue_server.observe.metrics.sources import Sources
from cubequeue_server.settings.resolve import StatsdTarget
from storage import vocabulary
from storage.vocabulary import Statement

_INTERVAL_S: Final = 1.0
_MAX_DATAGRAM: Final = 1_400  # bytes that every network carries in one piece

_TO_CANCEL: Final = (vocabulary.QueueStalled, vocabulary.QueueOrphaned)
_UNTIMED: Final = (vocabulary.QueueResultBlocking, vocabulary.QueueClear, vocabulary.CacheClear)

# Names of the store's gauges by CubeStore's counter.
_CACHE_COUNTERS: Final[Mapping[str, str]] = {
    "cs.cachestore.eviction.expired.keys": "cache_expired_keys",
    "cs.cachestore.eviction.expired.size": "cache_expired_bytes",
    "cs.cachestore.eviction.removed.keys": "cache_evicted_keys",
    "cs.cachestore.eviction.removed.size": "cache_evicted_bytes",
}

_log = logging.getLogger(__name__)


class Statsd:
    """Sends the changes. Lost datagrams are not sent again, as usual with StatsD."""

    def __init__(self, target: StatsdTarget, sources: Sources) -> None:
        self._target = target
        self._sources = sources
        self._durations: dict[type[Statement], Histogram] = {}
        self._totals: dict[str, int] = dict.fromkeys(_CACHE_COUNTERS, 0)
        self._task: asyncio.Task[None] | None = None
        self._has_warned = False

    def start(self) -> None:
        """Start to send, on the running loop. An unreachable target is one warning, never an error."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def stop(self) -> None:
        """Stop. The changes of the last second are not sent."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        lines = ["cs.startup:1|c"]
        while True:
            if lines:
                await self._send(lines)
            await asyncio.sleep(_INTERVAL_S)
            lines = [*self._changes()]

    async def _send(self, lines: list[str]) -> None:
        """Send lines. The name is resolved each time: it may move, or be unknown for a while."""
        host, port = self._target.endpoint
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_DGRAM)
            family, kind, protocol, _, address = found[0]
            with socket.socket(family, kind, protocol) as sender:
                sender.setblocking(False)
                if self._target.bind_host:
                    sender.bind((self._target.bind_host, 0))
                for datagram in datagrams(lines):
                    sender.sendto(datagram, address)
        except OSError as error:
            if not self._has_warned:
                self._has_warned = True
                _log.warning("metrics cannot be sent to %s: %s", self._target.endpoint, error)
        else:
            self._has_warned = False

    def _changes(self) -> Iterator[str]:
        for statement, histogram in list(self._sources.counters.durations.items()):
            before = self._durations.get(statement)
            self._durations[statement] = list(histogram)
            changes = histogram if before is None else [now - then for now, then in zip(histogram, before, strict=True)]
            yield from self._of_statement(statement, changes)
        gauges = self._sources.store.gauges()
        for name, source in _CACHE_COUNTERS.items():
            change = gauges[source] - self._totals[name]
            self._totals[name] = gauges[source]
            if change:
                yield f"{name}:{change}|c"

    def _of_statement(self, statement: type[Statement], changes: Histogram) -> Iterator[str]:
        executed = sum(changes[1:])
        if not executed:
            return
        name, tags = self._name(statement)
        yield f"{name}:{executed}|c{tags}"
        if issubclass(statement, _UNTIMED):
            return
        for bits, times in enumerate(changes):
            if bits and times:
                middle_ms = 0.75 * 2**bits / 1e6  # between 2^(bits-1) and 2^bits nanoseconds
                rate = f"|@{1 / times:.9g}" if times > 1 else ""
                yield f"{name}.ms:{middle_ms:.6g}|ms{rate}{tags}"

    def _name(self, statement: type[Statement]) -> tuple[str, str]:
        """CubeStore's name for the counter of a statement, and its tags."""
        if not issubclass(statement, vocabulary.QueueStatement | vocabulary.CacheStatement):
            return ("cs.sql.query.meta" if issubclass(statement, vocabulary.SysStatement) else "cs.sql.query.data"), ""
        command = vocabulary.QueueToCancel.command if issubclass(statement, _TO_CANCEL) else statement.command
        return f"cs.sql.query.{statement.family}", f"|#command:{command}" if self._target.with_tags else ""


def datagrams(lines: list[str]) -> Iterator[bytes]:
    """The lines in as few datagrams as they fit in."""
    part, size = list[bytes](), 0
    for line in (each.encode() for each in lines):
        if part and size + len(line) + 1 > _MAX_DATAGRAM:
            yield b"\n".join(part)
            part, size = [], 0
        part.append(line)
        size += len(line) + 1
    if part:
        yield b"\n".join(part)
