"""Which node is the primary of each shard: found, linked, and confirmed when it is in doubt."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, Protocol

from cubequeue_server.engines.shared_store.calls import Call
from cubequeue_server.engines.shared_store.connection import Connection, Taker
from cubequeue_server.engines.shared_store.errors import CannotUseError, StoreRefusedError, StoreUnreachableError
from cubequeue_server.engines.shared_store.large import LargeValues
from cubequeue_server.engines.shared_store.node import Node
from cubequeue_server.engines.shared_store.options import StoreOptions
from cubequeue_server.engines.shared_store.shards import Shards
from cubequeue_server.engines.shared_store.topology import Topology
from cubequeue_server.settings.store_address import Address

LOOK_INTERVAL_S: Final = 0.05
_RETRY_S: Final = 0.1
_SLOWEST_RETRY_S: Final = 1.0
_MAP_INTERVAL_S: Final = 1.0
_SAY_EVERY_S: Final = 10.0

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class LinkFigures:
    """What has happened on the links since the start; each only rises."""

    calls: int = 0
    repeated_calls: int = 0
    unknown_calls: int = 0
    late_replies: int = 0
    connects: int = 0
    losses: int = 0  # links that were lost with the state that they had told perhaps


class Owner(Protocol):
    """Who is told."""

    def on_message(self, shard: int, payload: bytes) -> None:
        """An outcome that somebody waits for was published."""

    def on_subscribed(self, shards: set[int]) -> None:
        """From now on messages of these shards arrive; earlier ones may have been missed."""

    def on_up(self, shards: set[int], away_s: float) -> None:
        """These shards can be asked again, after so long."""


class Primaries:
    """To be made in a running loop; `open` finds the primaries, and then keeps them found. (`node.Host`)

    `on_calls_lost` gets the calls without a reply of a link that was lost; `on_linked` is called when calls that wait
    for a primary may be sent.
    """

    def __init__(
        self,
        options: StoreOptions,
        shards: Shards,
        topology: Topology,
        *,
        batch: Callable[[Callable[[], object]], None],
        owner: Owner,
        on_calls_lost: Callable[[list[Call]], None],
        on_linked: Callable[[], None],
    ) -> None:
        self._options = options
        self._shards = shards
        self._topology = topology
        self.batch = batch
        self._owner = owner
        self.on_message = owner.on_message
        self._on_calls_lost = on_calls_lost
        self._on_linked = on_linked
        self._loop = asyncio.get_running_loop()
        self.of_shard: list[Node | None] = [None] * shards.count
        self.by_address: dict[Address, Node] = {}
        self._opening: dict[Address, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._refresh_wanted = asyncio.Event()
        self.refusal: CannotUseError | None = None
        self.reason = "no connection was tried yet"
        self._said_s = -_SAY_EVERY_S
        self._is_closed = False
        self._lost_s: dict[int, float] = {}  # when a shard was lost
        self.large: LargeValues
        self.figures = LinkFigures()

    # Its life.

    async def open(self) -> None:
        """Connect for the first time. A store that cannot be reached is tried again in the background.

        Raises CannotUseError.
        """
        try:
            await self._demand_lateness()
            await self._refresh()
        except StoreUnreachableError as error:
            self._note(str(error))
        for task in list(self._opening.values()):
            with contextlib.suppress(Exception):
                await asyncio.shield(task)
        if self.refusal is not None:
            raise self.refusal
        self._spawn(self._keep_map())
        self._topology.watch(self.want_refresh)

    async def _demand_lateness(self) -> None:
        down_after_s = await self._topology.down_after_s()
        if down_after_s is not None and self._options.late_s >= down_after_s:
            raise CannotUseError(
                f"a primary that is silent for {down_after_s:g} s is replaced:"
                f" set CUBEQUEUE_STORE_LATE, which is {self._options.late_s:g} s, below that"
            )

    def close(self) -> None:
        """End all links."""
        self._is_closed = True
        for task in (*self._tasks, *self._opening.values()):
            task.cancel()
        self._topology.close()
        for node in list(self.by_address.values()):
            node.cut("the server stops")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @property
    def linked(self) -> list[Node]:
        """Those that can be asked."""
        return [node for node in self.by_address.values() if node.is_up]

    def want_refresh(self) -> None:
        """Another primary may have taken over: look now."""
        self._refresh_wanted.set()

    def moved(self, shard: int, address: Address) -> Node | None:
        """A node said that another one has this shard: that one, if it can be asked."""
        self._topology.moved(shard, address)
        self.want_refresh()
        target = self.by_address.get(address)
        if target is None or not target.is_up:
            return None
        self.of_shard[shard] = target
        target.take_shards(target.shards | {shard})
        return target

    def importing(self, shard: int, address: Address) -> Node | None:
        """The node that a shard is being moved to, if it can be asked."""
        self._topology.moved(shard, address)
        target = self.by_address.get(address)
        if target is None or not target.is_up:
            self._open_node(address, [])
            return None
        return target

    # Finding primaries.

    async def _keep_map(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._refresh_wanted.wait(), self._map_interval_s())
            self._refresh_wanted.clear()
            try:
                await self._refresh()
                for node in self.linked:
                    node.look_at_memory()
            except (StoreUnreachableError, StoreRefusedError) as error:
                self._note(str(error))
                await asyncio.sleep(_RETRY_S)
            except CannotUseError as error:
                self._note(str(error))
                await asyncio.sleep(_SLOWEST_RETRY_S)

    def _map_interval_s(self) -> float:
        is_whole = all(node is not None and node.is_up for node in self.of_shard)
        return _MAP_INTERVAL_S if is_whole else _RETRY_S

    async def _refresh(self) -> None:
        """Learn which primary has which shard; cut links to what is none any longer. Raises StoreUnreachableError."""
        primaries = await self._topology.primaries()
        by_address: dict[Address, list[int]] = {}
        for shard, address in enumerate(primaries):
            by_address.setdefault(address, []).append(shard)
        for address, node in list(self.by_address.items()):
            if address not in by_address:
                node.cut("another primary has taken over")
        for address, mine in by_address.items():
            known = self.by_address.get(address)
            if known is None or not known.is_up:
                self._open_node(address, mine)
            else:
                known.take_shards(set(mine))
                self._has(known, mine)

    def _open_node(self, address: Address, mine: list[int]) -> None:
        if address not in self._opening and not self._is_closed:
            task = self._loop.create_task(self._open(address, mine))
            self._opening[address] = task
            task.add_done_callback(lambda _: self._opening.pop(address, None))

    async def _open(self, address: Address, mine: list[int]) -> None:
        node = Node(self, address, self._options, self._shards)
        try:
            await node.open(mine)
        except CannotUseError as error:
            self.refusal = error
            self._note(str(error))
            return
        except StoreUnreachableError as error:
            self._note(f"{node}: {error}")
            return
        self.refusal = None
        self.figures.connects += 1
        self.by_address[address] = node
        _log.info("linked to the store at %s, %s", node, node.version)
        self._has(node, mine)

    def _has(self, node: Node, mine: list[int]) -> None:
        """These shards are asked there."""
        for shard in mine:
            self.of_shard[shard] = node
        lost_s = [self._lost_s.pop(shard) for shard in mine if shard in self._lost_s]
        if lost_s:
            self._owner.on_up(set(mine), self._loop.time() - min(lost_s))
        self._on_linked()

    def _note(self, reason: str) -> None:
        """Why it cannot be reached: said once in a while."""
        self.reason = reason
        if self._loop.time() - self._said_s >= _SAY_EVERY_S:
            self._said_s = self._loop.time()
            _log.warning("the store at %s cannot be used: %s", self._options.address, reason)

    # What nodes tell. (`node.Host`)

    def on_lost(self, node: Node, unanswered: list[Taker]) -> None:
        """A link is lost: what has no reply is asked again, or its client is told that nobody knows."""
        if self.by_address.get(node.address) is node:
            del self.by_address[node.address]
        for shard, each in enumerate(self.of_shard):
            if each is node:
                self.of_shard[shard] = None
                self._lost_s.setdefault(shard, self._loop.time())
        if not self._is_closed:
            self.figures.losses += 1
            self._note(f"{node}: {node.hot.reason}")
        self._on_calls_lost([taker for taker in unanswered if isinstance(taker, Call) and not taker.is_over])
        self._refresh_wanted.set()

    def on_doubt(self, node: Node) -> None:
        """Ask whether it still is the primary, until somebody knows."""
        self.figures.late_replies += 1
        self._spawn(self._confirm(node))

    async def _confirm(self, node: Node) -> None:
        while node.is_up:
            if node.hot.is_silent:
                self._refresh_wanted.set()
                await asyncio.sleep(LOOK_INTERVAL_S)
                continue
            come = len(node.hot.held)
            try:
                is_primary = await self._topology.is_primary(node.address, node.hot.ask)
            except (StoreUnreachableError, StoreRefusedError):
                is_primary = None
            if is_primary is False:
                node.cut("another primary has taken over")
            elif is_primary and node.is_up:
                if node.hot.believe(come):
                    self._on_linked()
                    return
            else:
                await asyncio.sleep(LOOK_INTERVAL_S)

    def on_bulk(self, node: Node, connection: Connection) -> None:
        self.large.opened(node, connection)

    def on_bulk_lost(self, node: Node, unanswered: list[Taker]) -> None:
        self.large.lost(node, unanswered)

    def on_subscribed(self, node: Node) -> None:
        self._owner.on_subscribed(node.shards)
