"""The engine over a Valkey or Redis that any number of servers share (`storage.engine.Store`)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Final

from cubequeue_server.engines.shared_store.cache_statements import CacheStatements
from cubequeue_server.engines.shared_store.calls import Call
from cubequeue_server.engines.shared_store.clock import StoreClock
from cubequeue_server.engines.shared_store.core import Core
from cubequeue_server.engines.shared_store.item_statements import Handler, ItemStatements
from cubequeue_server.engines.shared_store.large import LargeValues
from cubequeue_server.engines.shared_store.links import Links
from cubequeue_server.engines.shared_store.options import StoreOptions
from cubequeue_server.engines.shared_store.queue_statements import QueueStatements
from cubequeue_server.engines.shared_store.readings import Readings
from cubequeue_server.engines.shared_store.shards import Shards
from cubequeue_server.engines.shared_store.sys_statements import SysStatements
from cubequeue_server.engines.shared_store.tallies import Tallies
from cubequeue_server.engines.shared_store.topology import Cluster, Sentinel, Single, Topology
from cubequeue_server.engines.shared_store.upkeep import Upkeep
from cubequeue_server.engines.shared_store.waits import SLACK_MS, Waits
from cubequeue_server.settings.store_address import Kind
from storage.asking import Caller, Later, NewLater
from storage.errors import SEEN_WAS_LOST, InternalError, UserError
from storage.limits import AnswerLimits, CacheLimits, QueueLimits
from storage.queue.history import EndedItem
from storage.stats import PrefixTotalsTable, QueueFigures, QueueStatsTable
from storage.system_tables import SystemTable
from storage.vocabulary import (
    EMPTY_RESULT,
    Path,
    QueueResultBlocking,
    RequestKey,
    Result,
    Row,
    Statement,
)

_SWEEP_INTERVAL_MS: Final = 1_000
_SWEPT_ON_DEMAND: Final = 1_000
_USES_INTERVAL_S: Final = 1.0
_ABSENCE_S: Final = 1.0  # a store that was away for longer gives workers a moment to come back
_TOPOLOGIES: Final[dict[Kind, Callable[[StoreOptions, Shards], Topology]]] = {
    Kind.SINGLE: Single,
    Kind.SENTINEL: Sentinel,
    Kind.CLUSTER: Cluster,
}
_FOR_EVER_MS: Final = 10**13


class SharedStore:
    """One server's part of a store. To be made in a running loop; `open` links it, `close` ends it.

    With `is_exact` the time is that of the statements and not the engine's: for tests.
    """

    def __init__(
        self,
        options: StoreOptions,
        queue_limits: QueueLimits,
        cache_limits: CacheLimits,
        answer_limits: AnswerLimits,
        *,
        new_later: NewLater,
        random: Callable[[], float],
        batch: Callable[[Callable[[], object]], None],
        is_exact: bool = False,
        topology: Topology | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        shards = Shards(options.name, options.shards)
        self._is_exact = is_exact
        self._now_s = loop.time
        self._random = random
        self.server_id = os.urandom(8)
        clock = StoreClock(loop.time)
        core = self.core = Core(
            shards,
            clock,
            new_later,
            call_soon=loop.call_soon,
            queue_limits=queue_limits,
            answer_limits=answer_limits,
            is_exact=is_exact,
        )
        self.links = Links(
            options,
            shards,
            topology or _TOPOLOGIES[options.address.kind](options, shards),
            batch=batch,
            owner=self,
            on_expired=self._on_expired,
            kept_request=core.kept_request,
        )
        core.sender = self.links
        core.large = self.large = LargeValues(shards, loop.time, options.timeout_s, self.links.node_of)
        self.links.primaries.large = self.large
        self._tallies = Tallies()
        self._waits = Waits(core, self.server_id, loop.time, _FOR_EVER_MS if is_exact else SLACK_MS)
        self._upkeep = Upkeep(
            core,
            self._tallies,
            cache_limits,
            now_s=loop.time,
            random=random,
            interval_ms=0 if is_exact else _SWEEP_INTERVAL_MS,
        )
        self._cache = CacheStatements(core, cache_limits)
        self._sys = SysStatements(core, self._upkeep)
        self._readings = Readings(core)
        self._handlers: dict[type[Statement], Handler] = {
            **QueueStatements(core, self._tallies).handlers,
            **ItemStatements(core, self._tallies).handlers,
            **self._cache.handlers,
            **self._sys.handlers,
            QueueResultBlocking: self._waits.result_blocking,
        }
        self._next_uses_s = 0.0

    async def open(self) -> None:
        """Link to the store. One that cannot be reached now is tried again. Raises CannotUseError."""
        await self.links.open()

    def close(self) -> None:
        """End all links."""
        self.links.close()

    @property
    def failure(self) -> str | None:
        """Why statements cannot be answered now, if so."""
        return self.links.failure

    @property
    def is_busy(self) -> bool:
        """Whether anything is on its way that will be answered by itself."""
        return bool(self.links.waiting or self.large.waiting)

    # Statements.

    def execute(
        self, statement: Statement, caller: Caller, request_key: RequestKey | None, now_ms: int
    ) -> Result | Later:
        """Send the call that a statement is. A few microseconds."""
        if self._is_exact:
            self.core.see(now_ms)
        handler = self._handlers.get(type(statement))
        if handler is None:
            raise InternalError(f"{type(statement).__name__} is not for the store")
        return handler(statement, caller, request_key)

    def give_up(self, later: Later, now_ms: int) -> None:
        if self._is_exact:
            self.core.see(now_ms)
        self._waits.give_up(later)

    def write_ahead(self, statement: Statement) -> None:
        """Nothing is written ahead: large values go out in pieces."""

    def let_go(self, statement: Statement) -> None:
        """Nothing was."""

    def end_waits(self, now_ms: int) -> None:
        if self._is_exact:
            self.core.see(now_ms)
        self._waits.end_all()

    def confirm_delivered(self, request_keys: list[RequestKey]) -> None:
        self.core.kept.confirm(request_keys)

    def mark_undelivered(self, request_key: RequestKey) -> None:
        shard = self.core.kept.shard_of(request_key)
        if shard is not None:
            self._upkeep.mark_undelivered(shard, request_key)

    def tick(self, now_ms: int, max_rows: int) -> bool:
        """Background work of the store, and what this server has to tell it. O(shards)."""
        if self._is_exact:
            self.core.see(now_ms)
        if self._now_s() >= self._next_uses_s:
            self._next_uses_s = self._now_s() + _USES_INTERVAL_S
            self._cache.tell_uses(int(self._random() * (1 << 30)))
            self._waits.ask_old()
            self.large.end_overdue()
        return self._upkeep.tick(max_rows)

    # What the links tell. (`primaries.Owner`)

    def _on_expired(self, call: Call) -> None:
        """An item has expired that a call would have met: it goes first."""
        self._upkeep.sweep(call.shard, _SWEPT_ON_DEMAND, _nothing_to_do)
        self.links.send_again(call)

    def on_message(self, shard: int, payload: bytes) -> None:
        self._waits.on_message(shard, payload)

    def on_subscribed(self, shards: set[int]) -> None:
        self._waits.ask_all(shards)

    def on_up(self, shards: set[int], away_s: float) -> None:
        """A primary can be asked again."""
        if away_s >= _ABSENCE_S:
            self.core.grace_until_ms = self.core.now_ms + self.core.queue_limits.restart_grace_ms

    # What people look at.

    @property
    def losses(self) -> int:
        """How often a primary was replaced, or left its link, so that what it told may be lost."""
        return self.links.figures.losses

    def settled(self, losses: int) -> Later | None:
        """With replicas, done when enough of them have what was read; else None."""
        if losses != self.losses:
            raise UserError(SEEN_WAS_LOST)
        if not self.links.demands_replicas:
            return None
        later = self.core.new_later(None)
        self._sys.sweep_all(partial(later.done, EMPTY_RESULT))
        return later

    def read_table(self, table: SystemTable) -> AsyncIterator[list[Row]]:
        """All rows of a table, in slices."""
        return self._readings.read_table(table)

    def take_cancels(self) -> list[EndedItem]:
        """None: no history of ended items is kept."""
        return []

    async def queue_stats(self) -> QueueStatsTable:
        """What this server has done in each queue since its start; to be read only."""
        return self._tallies.table

    def queue_figures(self, now_ms: int) -> AsyncIterator[list[QueueFigures]]:
        """How each queue of the store stands, in slices."""
        if self._is_exact:
            self.core.see(now_ms)
        return self._readings.queue_figures()

    async def waited_paths(self) -> AsyncIterator[list[Path | None]]:
        """The path of the item that each RESULT_BLOCKING of this server waits for, None if not known, in slices."""
        keys = list(self._waits.keys())
        for first in range(0, len(keys), _SWEPT_ON_DEMAND):
            yield await self._readings.paths_of(keys[first : first + _SWEPT_ON_DEMAND])

    async def cache_totals(self) -> PrefixTotalsTable:
        """What CACHE GET of this server found by prefix since its start; to be read only."""
        return self._cache.totals

    def look(self) -> None:
        """Learn the gauges anew."""
        self._sys.sweep_all(_nothing_to_do)

    def gauges(self) -> dict[str, int]:
        """What the store holds, as of the last sweeps; waiters, uses and losses are this server's."""
        figures, losses = self._upkeep.figures, self._upkeep.losses
        links, nodes = self.links.figures, self.links.nodes
        items = sum(each.items for each in figures)
        active = sum(each.active for each in figures)
        return {
            "queue_items": items,
            "queue_pending": items - active,
            "queue_active": active,
            "queue_bytes": sum(each.queue_bytes for each in figures),
            "queue_results": sum(each.results for each in figures),
            "queue_result_bytes": sum(each.result_bytes for each in figures),
            "waiters": self._waits.count,
            "cache_keys": sum(each.entries for each in figures),
            "cache_bytes": sum(each.cache_bytes for each in figures),
            "cache_hits": self._cache.totals.hits,
            "cache_misses": self._cache.totals.misses,
            "cache_evicted_keys": losses.evicted_keys,
            "cache_evicted_bytes": losses.evicted_bytes,
            "cache_expired_keys": losses.expired_keys,
            "cache_expired_bytes": losses.expired_bytes,
            "answers_unconfirmed": self.core.kept.unconfirmed,
            "answer_bytes": sum(each.answer_bytes for each in figures),
            "store_primaries": len(nodes),
            "store_memory_bytes": sum(node.memory_bytes for node in nodes),
            "store_max_memory_bytes": sum(node.max_memory_bytes for node in nodes),
            "store_calls": links.calls,
            "store_calls_waiting": self.links.waiting,
            "store_calls_repeated": links.repeated_calls,
            "store_calls_unknown": links.unknown_calls,
            "store_late_replies": links.late_replies,
            "store_connects": links.connects,
            "store_link_losses": links.losses,
            "store_large_bytes_put": self.large.bytes_put,
            "store_large_bytes_read": self.large.bytes_read,
        }


def _nothing_to_do() -> None:
    """Nobody waits for it."""
