"""Large values: in pieces, on a connection of their own, so that nothing else waits behind 64 MB.

Pieces are put ahead of the script that refers to them, which takes them over in its own step; until then they have a
TTL. They are read behind the script that told of them. A few are on their way at a time, of all transfers in turn.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable
from io import BytesIO
from typing import Final, TypeAlias

from hiredis import ReplyError

from cubequeue_server.engines.shared_store.connection import Connection, Reply, Taker, command
from cubequeue_server.engines.shared_store.errors import NOT_HERE, NOT_NOW, of_reply
from cubequeue_server.engines.shared_store.rows import LargeValue, stored_large
from cubequeue_server.engines.shared_store.scripts import PIECE
from cubequeue_server.engines.shared_store.shards import Shards
from storage.errors import StatementError, UserError
from storage.vocabulary import Binary, Value

LARGE_BYTES: Final = 64 * 1024  # a value of more lies in pieces
PIECE_BYTES: Final = 512 * 1024
_TTL_MS: Final = 120_000  # of pieces that no row refers to yet
_IN_FLIGHT: Final = 8
_AGAIN_S: Final = 0.1

GONE: Final = "the value was deleted while it was read"
# Gets the stored value that refers to the pieces, or why they could not be put.
ThenStored: TypeAlias = Callable[[bytes | StatementError, list[bytes]], None]
# Gets the value, None when a piece has gone, or why it could not be read.
ThenRead: TypeAlias = Callable[[Value | StatementError | None], None]


class _Transfer:
    """A value on its way. `next` is the piece to be asked for next, `done` counts those that came.

    `begin` is called when it begins, and when it begins anew.
    """

    __slots__ = ("begin", "commands", "count", "deadline_s", "done", "end", "is_over", "next", "shard", "take")

    def __init__(
        self,
        shard: int,
        count: int,
        deadline_s: float,
        commands: Callable[[int], bytes],
        end: Callable[[StatementError | None], None],
        *,
        begin: Callable[[], object] = bool,
        take: Callable[[Reply], object] = bool,
    ) -> None:
        self.shard = shard
        self.count = count
        self.deadline_s = deadline_s
        self.commands = commands
        self.end = end
        self.begin = begin
        self.take = take
        self.next = self.done = 0
        self.is_over = False

    def anew(self) -> _Transfer:
        """The same from its beginning; what is still on its way for this one counts no longer."""
        self.is_over = True
        return _Transfer(
            self.shard, self.count, self.deadline_s, self.commands, self.end, begin=self.begin, take=self.take
        )

    def finish(self, failure: StatementError | None) -> None:
        if not self.is_over:
            self.is_over = True
            self.end(failure)


class _Piece:
    """Takes the reply to one command of a transfer."""

    __slots__ = ("lane", "transfer")

    def __init__(self, lane: _Lane, transfer: _Transfer) -> None:
        self.lane = lane
        self.transfer = transfer

    def take(self, reply: Reply) -> None:
        self.lane.took(self.transfer, reply)


class _Lane:
    """The transfers of one node. `put_off` takes one that is to begin anew a moment later."""

    def __init__(self, put_off: Callable[[_Transfer], None]) -> None:
        self.put_off = put_off
        self.connection: Connection | None = None
        self.waiting: deque[_Transfer] = deque()
        self.in_flight = 0

    def pump(self) -> None:
        """Send what may be sent."""
        connection = self.connection
        while connection is not None and not connection.is_lost and self.in_flight < _IN_FLIGHT and self.waiting:
            transfer = self.waiting.popleft()
            if transfer.is_over:
                continue
            request = transfer.commands(transfer.next)
            transfer.next += 1
            if transfer.next < transfer.count:
                self.waiting.append(transfer)
            self.in_flight += 1
            connection.send(request, _Piece(self, transfer))

    def took(self, transfer: _Transfer, reply: Reply) -> None:
        """A reply has come; those of one transfer come in order."""
        self.in_flight -= 1
        if not transfer.is_over:
            if isinstance(reply, ReplyError) and str(reply).startswith((*NOT_NOW, *NOT_HERE)):
                self.put_off(transfer.anew())
            elif isinstance(reply, ReplyError):
                transfer.finish(of_reply(str(reply)))
            else:
                transfer.take(reply)
                transfer.done += 1
                if transfer.done == transfer.count:
                    transfer.finish(None)
        self.pump()


class LargeValues:
    """Puts and reads large values. `node_of` tells at which node a shard is asked; None for none."""

    def __init__(
        self,
        shards: Shards,
        now_s: Callable[[], float],
        timeout_s: float,
        node_of: Callable[[int], object | None],
    ) -> None:
        self._shards = shards
        self._now_s = now_s
        self._timeout_s = timeout_s
        self._node_of = node_of
        self._lanes: dict[object, _Lane] = {}
        self._homeless: list[_Transfer] = []
        self._waiting_to_begin = 0
        self.bytes_put = self.bytes_read = 0

    @property
    def waiting(self) -> int:
        """Transfers that have not come to their end."""
        return (
            self._waiting_to_begin
            + len(self._homeless)
            + sum(len(lane.waiting) + lane.in_flight for lane in self._lanes.values())
        )

    # Transfers.

    def put(self, shard: int, value: Value, then: ThenStored, *, is_result: bool = False) -> None:
        """Put the pieces of a value; a result goes into an engine that is full, too."""
        nonce = os.urandom(8).hex().encode()
        large = LargeValue(nonce, len(value), -(-len(value) // PIECE_BYTES), isinstance(value, Binary))
        keys = self._shards.piece_keys(shard, nonce, large.pieces)
        self.bytes_put += len(value)

        def commands(number: int) -> bytes:
            piece = value[number * PIECE_BYTES : (number + 1) * PIECE_BYTES]
            if is_result:
                return command("EVAL", PIECE.source, 2, self._shards.key(shard, "s"), keys[number], "0", piece, _TTL_MS)
            return command("SET", keys[number], piece, "PX", _TTL_MS)

        def end(failure: StatementError | None) -> None:
            then(stored_large(large) if failure is None else failure, keys)

        self._begin(_Transfer(shard, large.pieces, self._deadline(), commands, end))

    def read(self, shard: int, large: LargeValue, then: ThenRead) -> None:
        """Read a value."""
        keys = self._shards.piece_keys(shard, large.nonce, large.pieces)
        pieces = BytesIO()
        self.bytes_read += large.size

        def begin() -> None:
            pieces.seek(0)
            pieces.truncate()

        def take(reply: Reply) -> None:
            pieces.write(reply or b"")

        def end(failure: StatementError | None) -> None:
            if failure is not None:
                then(failure)
            elif pieces.tell() != large.size:
                then(None)
            else:
                value = pieces.getvalue()
                then(Binary(value) if large.is_binary else value)

        def commands(number: int) -> bytes:
            return command("GET", keys[number])

        self._begin(_Transfer(shard, large.pieces, self._deadline(), commands, end, begin=begin, take=take))

    def _deadline(self) -> float:
        return self._now_s() + self._timeout_s

    def _begin(self, transfer: _Transfer) -> None:
        transfer.begin()
        node = self._node_of(transfer.shard)
        lane = self._lanes.get(node) if node is not None else None
        if lane is None:
            self._homeless.append(transfer)
        else:
            lane.waiting.append(transfer)
            lane.pump()

    def _put_off(self, transfer: _Transfer) -> None:
        """A slot moves, or another primary takes over: begin anew when the map may have changed."""
        self._waiting_to_begin += 1
        asyncio.get_running_loop().call_later(_AGAIN_S, self._begin_anew, transfer)

    def _begin_anew(self, transfer: _Transfer) -> None:
        self._waiting_to_begin -= 1
        if transfer.deadline_s <= self._now_s():
            transfer.finish(UserError("refused: the store cannot be reached: a large value was not carried over"))
        else:
            self._begin(transfer)

    # Connections come and go.

    def opened(self, node: object, connection: Connection) -> None:
        """A node has a connection for transfers."""
        lane = self._lanes[node] = _Lane(self._put_off)
        lane.connection = connection
        homeless, self._homeless = self._homeless, []
        for transfer in homeless:
            self._begin(transfer)

    def lost(self, node: object, unanswered: list[Taker]) -> None:
        """It is lost: its transfers begin anew elsewhere, or there again."""
        lane = self._lanes.pop(node, None)
        if lane is None:
            return
        cut = [taker.transfer for taker in unanswered if isinstance(taker, _Piece)]
        for transfer in dict.fromkeys([*cut, *lane.waiting]):
            if not transfer.is_over:
                self._homeless.append(transfer.anew())

    def end_overdue(self) -> None:
        """Give up what has waited for too long."""
        now_s = self._now_s()
        for transfer in [each for each in self._homeless if each.deadline_s <= now_s]:
            self._homeless.remove(transfer)
            transfer.finish(UserError("refused: the store cannot be reached: a large value was not carried over"))
        for lane in self._lanes.values():
            for transfer in [each for each in lane.waiting if each.deadline_s <= now_s]:
                transfer.finish(UserError(f"the store has not taken a large value within {self._timeout_s:g} s"))
