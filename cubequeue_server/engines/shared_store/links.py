"""The links of a server to its store: each call goes to the primary of its shard, again and again if need be.

A call that waits for its primary is parked. One that is lost on the way is asked again, when that cannot do harm; its
client sees latency, and an error when `timeout_s` is over. What a demoted primary still says is not believed: its link
is cut as soon as anybody names another one.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

from hiredis import ReplyError

from cubequeue_server.engines.shared_store.calls import Call
from cubequeue_server.engines.shared_store.connection import NOBODY, Reply, command
from cubequeue_server.engines.shared_store.errors import NOT_NOW, UNKNOWN, TooBusyError, of_reply
from cubequeue_server.engines.shared_store.node import Node
from cubequeue_server.engines.shared_store.options import StoreOptions
from cubequeue_server.engines.shared_store.primaries import LOOK_INTERVAL_S, LinkFigures, Owner, Primaries
from cubequeue_server.engines.shared_store.scripts import KEPT
from cubequeue_server.engines.shared_store.shards import Shards, undo
from cubequeue_server.engines.shared_store.topology import Topology
from storage.errors import StatementError, UserError

_AGAIN_S: Final = 0.05
_PING: Final = command("PING")
_ASKING: Final = command("ASKING")

_log = logging.getLogger(__name__)


class Links:
    """Sends calls. To be made in a running loop.

    `on_expired` is called with a call that found an expired item in its shard: sweep, then send it again.
    `kept_request` gives the request that looks for the kept answer of a call.
    """

    def __init__(
        self,
        options: StoreOptions,
        shards: Shards,
        topology: Topology,
        *,
        batch: Callable[[Callable[[], object]], None],
        owner: Owner,
        on_expired: Callable[[Call], None],
        kept_request: Callable[[Call], bytes],
    ) -> None:
        self._options = options
        self._batch = batch
        self._on_expired = on_expired
        self._kept_request = kept_request
        self._loop = asyncio.get_running_loop()
        self.primaries = Primaries(
            options,
            shards,
            topology,
            batch=batch,
            owner=owner,
            on_calls_lost=self._on_calls_lost,
            on_linked=self._unpark,
        )
        self._of_shard = self.primaries.of_shard
        self._parked: deque[Call] = deque()
        self._parked_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False

    # Its life.

    async def open(self) -> None:
        """Find the primaries. Raises CannotUseError."""
        await self.primaries.open()
        self._look()

    def close(self) -> None:
        """End everything; what waits gets an error."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        self.primaries.close()
        while self._parked:
            self._parked.popleft().end(UserError(UNKNOWN))

    @property
    def failure(self) -> str | None:
        """Why statements cannot be answered now, if so."""
        if self.primaries.refusal is not None:
            return f"cannot use the store at {self._options.address}: {self.primaries.refusal}"
        if any(node is None or not node.is_up for node in self._of_shard):
            return f"the store cannot be reached: {self.primaries.reason}"
        return None

    @property
    def figures(self) -> LinkFigures:
        """What has happened since the start."""
        return self.primaries.figures

    @property
    def demands_replicas(self) -> bool:
        """Whether replies are held until replicas have what they have seen."""
        return self._options.replicas > 0

    @property
    def nodes(self) -> list[Node]:
        """The primaries that are linked."""
        return self.primaries.linked

    @property
    def waiting(self) -> int:
        """Calls without an outcome."""
        nodes = self.primaries.by_address.values()
        return len(self._parked) + sum(node.hot.pending + len(node.hot.held) for node in nodes)

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
                raise TooBusyError(f"refused: the store cannot be reached: {self.primaries.reason}")
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
        elif call.script is KEPT:
            call.end(of_reply("OOM "))
        elif call.script is not None and reply[0] == b"D":
            self._on_expired(call)
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
        elif kind == "OOM" and call.key is not None:
            call.script, call.request, call.may_repeat = KEPT, self._kept_request(call), True
            call.key = None
            self.send_again(call)
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
        if kind == "MOVED":
            if self.primaries.moved(call.shard, address) is not None:
                self.send_again(call)
            else:
                self._loop.call_later(_AGAIN_S, self._retry, call, f"CLUSTERDOWN {where}")
            return
        target = self.primaries.importing(call.shard, address)
        if target is None:
            self._loop.call_later(_AGAIN_S, self._retry, call, f"TRYAGAIN {where}")
            return
        call.was_sent = True
        target.hot.send(_ASKING, NOBODY)
        target.hot.send(call.request, call)

    def _on_calls_lost(self, calls: list[Call]) -> None:
        """A link is lost: what has no reply is asked again, or its client is told that nobody knows."""
        again = [call for call in calls if call.may_repeat]
        unknown = [call for call in calls if not call.may_repeat]
        self.figures.repeated_calls += len(again)
        self.figures.unknown_calls += len(unknown)
        later, self._parked = self._parked, deque()
        self._parked_bytes = 0
        for call in (*again, *later):
            self._park(call)
        self._batch(partial(_end_all, unknown))

    # Time.

    def _look(self) -> None:
        """What is late, and what has waited for too long. A link that is not in use is asked, to know that it lives."""
        self._timer = self._loop.call_later(LOOK_INTERVAL_S, self._look)
        for node in list(self.primaries.by_address.values()):
            node.hot.look()
            if node.hot.oldest_s is None:
                node.hot.send(_PING, NOBODY)
        self._batch(self._end_overdue)

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
        for node in self.primaries.by_address.values():
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
        return UserError(f"refused: the store cannot be reached: {self.primaries.reason}")


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
