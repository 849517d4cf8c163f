"""The links of a server to its store: each call goes to the primary of its shard, again and again if need be.

A call that waits for its primary is parked. One that is lost on the way is asked again, when that cannot do harm; its
client sees latency, and an error when `timeout_s` is over. What a demoted primary still says is not believed: its link
is cut as soon as anybody names another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

from hiredis import ReplyError

from cubequeue_server.engines.shared_store.calls import Call
from cubequeue_server.engines.shared_store.connection import NOBODY, Connection, Reply, Taker, command
from cubequeue_server.engines.shared_store.errors import (
    NOT_NOW,
    UNKNOWN,
    CannotUseError,
    StoreRefusedError,
    StoreUnreachableError,
    TooBusyError,
    of_reply,
)
from cubequeue_server.engines.shared_store.large import LargeValues
from cubequeue_server.engines.shared_store.node import Node
from cubequeue_server.engines.shared_store.options import StoreOptions
from cubequeue_server.engines.shared_store.shards import Shards, undo
from cubequeue_server.engines.shared_store.topology import Topology
from cubequeue_server.settings.store_address import Address
from storage.errors import StatementError, UserError

_RETRY_S: Final = 0.1
_SLOWEST_RETRY_S: Final = 1.0
_MAP_INTERVAL_S: Final = 1.0
_LOOK_INTERVAL_S: Final = 0.05
_AGAIN_S: Final = 0.05
_SAY_EVERY_S: Final = 10.0
_PING: Final = command("PING")
_ASKING: Final = command("ASKING")

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

    def on_expired(self, call: Call) -> None:
        """A call found an expired item in its shard: sweep, then send it again."""

    def on_message(self, shard: int, payload: bytes) -> None:
        """An outcome that somebody waits for was published."""

    def on_subscribed(self, shards: set[int]) -> None:
        """From now on messages of these shards arrive; earlier ones may have been missed."""

    def on_up(self, shards: set[int], away_s: float) -> None:
        """These shards can be asked again, after so long."""


class Links:
    """Sends calls. To be made in a running loop; `open` finds the primaries, and then keeps them found."""

    def __init__(
        self,
        options: StoreOptions,
        shards: Shards,
        topology: Topology,
        batch: Callable[[Callable[[], object]], None],
        owner: Owner,
    ) -> None:
        self._options = options
        self._shards = shards
        self._topology = topology
        self.batch = batch
        self._owner = owner
        self.on_message = owner.on_message
        self._loop = asyncio.get_running_loop()
        self._of_shard: list[Node | None] = [None] * shards.count
        self._nodes: dict[Address, Node] = {}
        self._opening: dict[Address, asyncio.Task[None]] = {}
        self._parked: deque[Call] = deque()
        self._parked_bytes = 0
        self._waiting = 0  # calls without an outcome
        self._refresh_wanted = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._refusal: CannotUseError | None = None
        self._reason = "no connection was tried yet"
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
        if self._refusal is not None:
            raise self._refusal
        self._spawn(self._keep_map())
        self._topology.watch(self._refresh_wanted.set)
        self._look()

    async def _demand_lateness(self) -> None:
        down_after_s = await self._topology.down_after_s()
        if down_after_s is not None and self._options.late_s >= down_after_s:
            raise CannotUseError(
                f"a primary that is silent for {down_after_s:g} s is replaced:"
                f" set CUBEQUEUE_STORE_LATE, which is {self._options.late_s:g} s, below that"
            )

    def close(self) -> None:
        """End everything; what waits gets an error."""
        self._is_closed = True
        for task in (*self._tasks, *self._opening.values()):
            task.cancel()
        for timer in self._timers.values():
            timer.cancel()
        self._topology.close()
        for node in list(self._nodes.values()):
            node.cut("the server stops")
        while self._parked:
            self._parked.popleft().end(UserError(UNKNOWN))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @property
    def failure(self) -> str | None:
        """Why statements cannot be answered now, if so."""
        if self._refusal is not None:
            return f"cannot use the store at {self._options.address}: {self._refusal}"
        if any(node is None or not node.is_up for node in self._of_shard):
            return f"the store cannot be reached: {self._reason}"
        return None

    @property
    def demands_replicas(self) -> bool:
        """Whether replies are held until replicas have what they have seen."""
        return self._options.replicas > 0

    @property
    def nodes(self) -> list[Node]:
        """The primaries that are linked."""
        return [node for node in self._nodes.values() if node.is_up]

    @property
    def waiting(self) -> int:
        """Calls without an outcome."""
        return len(self._parked) + sum(node.hot.pending + len(node.hot.held) for node in self._nodes.values())

    def node_of(self, shard: int) -> Node | None:
        """The primary of a shard, while it can be asked."""
        node = self._of_shard[shard]
        return node if node is not None and node.is_up else None

    # Calls.

    def send(self, call: Call) -> None:
        """Have a call answered. Raises TooBusyError when too many wait."""
        call.deadline_s = self._loop.time() + self._options.timeout_s
        self.figures.calls += 1
        node = self._of_shard[call.shard]
        if node is not None and node.is_up and not node.hot.is_doubted:
            if node.hot.pending >= self._options.max_waiting:
                raise TooBusyError(f"refused: {node.hot.pending} statements wait for the store already")
            call.was_sent = True
            node.hot.send(call.request, call)
        else:
            if len(self._parked) >= self._options.max_waiting or (
                self._parked_bytes + len(call.request) > self._options.max_waiting_bytes
            ):
                raise TooBusyError(f"refused: the store cannot be reached: {self._reason}")
            self._park(call)

    def send_again(self, call: Call) -> None:
        """Send a call that was answered otherwise than by an outcome."""
        node = self._of_shard[call.shard]
        if call.is_over:
            return
        if node is not None and node.is_up and not node.hot.is_doubted:
            call.was_sent = True
            node.hot.send(call.request, call)
        else:
            self._park(call)

    def _park(self, call: Call) -> None:
        if self._is_closed:
            call.end(UserError(UNKNOWN))
            return
        self._parked.append(call)
        self._parked_bytes += len(call.request)

    def _unpark(self) -> None:
        """Send what waited for a primary that is there now."""
        parked, self._parked = self._parked, deque()
        self._parked_bytes = 0
        for call in parked:
            self.send_again(call)

    # Replies that are no outcome. (`calls.Handler`)

    def on_other(self, call: Call, reply: Reply) -> None:
        """A kept answer, an expired item, an error of the engine."""
        if call.is_over:
            return
        if isinstance(reply, ReplyError):
            self._on_error(call, str(reply))
        elif call.script is not None and reply[0] == b"K":
            call.end([b"=", *read_cells(reply[1])])
        elif call.script is not None and reply[0] == b"D":
            self._owner.on_expired(call)
        else:
            call.end(reply)

    def _on_error(self, call: Call, text: str) -> None:
        kind = text.partition(" ")[0]
        call.was_sent = False  # it was not executed
        if kind == "NOSCRIPT" and call.script is not None:
            call.request = undo(call.request, call.script)
            self.send_again(call)
        elif kind in {"MOVED", "ASK"}:
            self._redirect(call, *text.split(" "))
        elif kind == "READONLY":
            node = self._of_shard[call.shard]
            self._park(call)
            if node is not None:
                node.cut("it has become a replica")
        elif kind in NOT_NOW:
            self._loop.call_later(_AGAIN_S, self._retry, call, text)
        else:
            if kind not in {"OOM"}:
                _log.error("the store refused a script: %s: %s", call.script, text)
            call.end(of_reply(text))

    def _retry(self, call: Call, text: str) -> None:
        if self._loop.time() >= call.deadline_s:
            call.end(of_reply(text))
        else:
            self.send_again(call)

    def _redirect(self, call: Call, kind: str, _slot: str, where: str) -> None:
        host, _, port = where.rpartition(":")
        node = self._of_shard[call.shard]
        address = host or (node.address[0] if node is not None else ""), int(port)
        self._topology.moved(call.shard, address)
        target = self._nodes.get(address)
        if kind == "ASK":
            if target is None or not target.is_up:
                self._open_node(address, [])
                self._loop.call_later(_AGAIN_S, self._retry, call, f"TRYAGAIN {where}")
                return
            call.was_sent = True
            target.hot.send(_ASKING, NOBODY)
            target.hot.send(call.request, call)
            return
        self._refresh_wanted.set()
        if target is not None and target.is_up:
            self._of_shard[call.shard] = target
            target.take_shards(target.shards | {call.shard})
            self.send_again(call)
        else:
            self._loop.call_later(_AGAIN_S, self._retry, call, f"CLUSTERDOWN {where}")

    # Finding primaries.

    async def _keep_map(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._refresh_wanted.wait(), self._map_interval_s())
            self._refresh_wanted.clear()
            try:
                await self._refresh()
                for node in self.nodes:
                    node.look_at_memory()
            except (StoreUnreachableError, StoreRefusedError) as error:
                self._note(str(error))
                await asyncio.sleep(_RETRY_S)
            except CannotUseError as error:
                self._note(str(error))
                await asyncio.sleep(_SLOWEST_RETRY_S)

    def _map_interval_s(self) -> float:
        return _MAP_INTERVAL_S if self.failure is None else _RETRY_S

    async def _refresh(self) -> None:
        """Learn which primary has which shard; cut links to what is none any longer. Raises StoreUnreachableError."""
        primaries = await self._topology.primaries()
        by_address: dict[Address, list[int]] = {}
        for shard, address in enumerate(primaries):
            by_address.setdefault(address, []).append(shard)
        for address, node in list(self._nodes.items()):
            if address not in by_address:
                node.cut("another primary has taken over")
        for address, mine in by_address.items():
            known = self._nodes.get(address)
            if known is None or not known.is_up:
                self._open_node(address, mine)
            else:
                known.take_shards(set(mine))
                for shard in mine:
                    self._of_shard[shard] = known

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
            self._refusal = error
            self._note(str(error))
            return
        except StoreUnreachableError as error:
            self._note(f"{node}: {error}")
            return
        self._refusal = None
        self.figures.connects += 1
        self._nodes[address] = node
        for shard in mine:
            self._of_shard[shard] = node
        _log.info("linked to the store at %s, %s", node, node.version)
        away_s = max(
            (self._loop.time() - self._lost_s.pop(shard) for shard in mine if shard in self._lost_s), default=0
        )
        self._owner.on_up(set(mine), away_s)
        self._unpark()

    def _note(self, reason: str) -> None:
        """Why it cannot be reached: said once in a while."""
        self._reason = reason
        if self._loop.time() - self._said_s >= _SAY_EVERY_S:
            self._said_s = self._loop.time()
            _log.warning("the store at %s cannot be used: %s", self._options.address, reason)

    # What nodes tell. (`node.Host`)

    def on_lost(self, node: Node, unanswered: list[Taker]) -> None:
        """A link is lost: what has no reply is asked again, or its client is told that nobody knows."""
        if self._nodes.get(node.address) is node:
            del self._nodes[node.address]
        for shard, each in enumerate(self._of_shard):
            if each is node:
                self._of_shard[shard] = None
                self._lost_s.setdefault(shard, self._loop.time())
        self.figures.losses += 1
        self._note(f"{node}: {node.hot.reason}")
        calls = [taker for taker in unanswered if isinstance(taker, Call) and not taker.is_over]
        again = [call for call in calls if call.may_repeat]
        self.figures.repeated_calls += len(again)
        self.figures.unknown_calls += len(calls) - len(again)
        later, self._parked = self._parked, deque()
        self._parked_bytes = 0
        for call in (*again, *later):
            self._park(call)
        self.batch(partial(_end_all, [call for call in calls if not call.may_repeat]))
        self._refresh_wanted.set()

    def on_doubt(self, node: Node) -> None:
        """Ask whether it still is the primary, until somebody knows."""
        self.figures.late_replies += 1
        self._spawn(self._confirm(node))

    async def _confirm(self, node: Node) -> None:
        while node.is_up:
            if node.hot.is_silent:
                self._refresh_wanted.set()
                await asyncio.sleep(_LOOK_INTERVAL_S)
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
                    self._unpark()
                    return
            else:
                await asyncio.sleep(_LOOK_INTERVAL_S)

    def on_bulk(self, node: Node, connection: Connection) -> None:
        self.large.opened(node, connection)

    def on_bulk_lost(self, node: Node, unanswered: list[Taker]) -> None:
        self.large.lost(node, unanswered)

    def on_subscribed(self, node: Node) -> None:
        self._owner.on_subscribed(node.shards)

    # Time.

    def _look(self) -> None:
        """What is late, and what has waited for too long. A link that is not in use is asked, to know that it lives."""
        self._timers["look"] = self._loop.call_later(_LOOK_INTERVAL_S, self._look)
        for node in list(self._nodes.values()):
            node.hot.look()
            if node.hot.oldest_s is None:
                node.hot.send(_PING, NOBODY)
        self.batch(self._end_overdue)

    def _end_overdue(self) -> None:
        now_s = self._loop.time()
        still: deque[Call] = deque()
        for call in self._parked:
            if call.deadline_s > now_s:
                still.append(call)
            else:
                self._parked_bytes -= len(call.request)
                call.end(self._overdue(call, is_held=False))
        self._parked = still
        for node in self._nodes.values():
            for call, is_held in node.hot.overdue(now_s):
                call.end(self._overdue(call, is_held=is_held))

    def _overdue(self, call: Call, *, is_held: bool) -> StatementError:
        timeout = f"{self._options.timeout_s:g} s"
        if is_held and call.script is not None and not call.script.only_reads:
            return UserError(f"written, but no replica confirmed it within {timeout}: it may be lost at a failover")
        if is_held:
            return UserError("refused: the store has too few replicas")
        if call.was_sent:
            return UserError(f"the store has not answered within {timeout}: nobody knows whether it was executed")
        return UserError(f"refused: the store cannot be reached: {self._reason}")


def _end_all(calls: list[Call]) -> None:
    for call in calls:
        call.end(UserError(UNKNOWN))


def read_cells(answer: bytes) -> list[bytes | None]:
    """The cells of a kept answer (lua/answers.lua)."""
    cells: list[bytes | None] = []
    at = 0
    while at < len(answer):
        size = int.from_bytes(answer[at : at + 4], "big")
        at += 4
        cells.append(answer[at : at + size - 1] if size else None)
        at += max(size - 1, 0)
    return cells
