"""The QUEUE statements about one item or its result, as calls of scripts (commands.md §4)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any, Final, TypeAlias

from cubequeue_server.engines.shared_store.connection import Reply
from cubequeue_server.engines.shared_store.core import Core, optional, word
from cubequeue_server.engines.shared_store.node import channel_of
from cubequeue_server.engines.shared_store.rows import read_item
from cubequeue_server.engines.shared_store.scripts import (
    ACK,
    CANCEL,
    GET,
    HEARTBEAT,
    MERGE_EXTRA,
    RESULT,
)
from cubequeue_server.engines.shared_store.tallies import Tallies
from storage.asking import Caller, Later
from storage.errors import NoRoomError, StatementError, UserError
from storage.keys import prefix_of
from storage.queue.history import CUBE_ERROR
from storage.queue.merge import merge_extra
from storage.queue.result_statements import NO_RESULT, mismatch
from storage.vocabulary import (
    EMPTY_RESULT,
    PAYLOAD_COLUMNS,
    RESULT_COLUMNS,
    SUCCESS_COLUMNS,
    KeyRef,
    QueueAck,
    QueueCancel,
    QueueGet,
    QueueHeartbeat,
    QueueMergeExtra,
    QueueResult,
    RequestKey,
    Result,
    Statement,
)

Replied: TypeAlias = "list[Reply] | StatementError"
Handler: TypeAlias = Callable[[Any, Caller, RequestKey | None], Later]

_SUCCESS: Final = b"success"
_NO_ITEM: Final = Result(PAYLOAD_COLUMNS, ())
_ACKNOWLEDGED: Final = Result(SUCCESS_COLUMNS, ((True,),))
_NOT_ACKNOWLEDGED: Final = Result(SUCCESS_COLUMNS, ((False,),))
_MAX_MERGES: Final = 100  # tries of one MERGE_EXTRA, each of which another one has forestalled


class ItemStatements:
    """Handlers as in `queue_statements`."""

    def __init__(self, core: Core, tallies: Tallies) -> None:
        self._core = core
        self._tallies = tallies
        self.handlers: dict[type[Statement], Handler] = {
            QueueGet: self._get,
            QueueCancel: self._cancel,
            QueueHeartbeat: self._heartbeat,
            QueueAck: self._ack,
            QueueMergeExtra: self._merge_extra,
            QueueResult: self._result,
        }

    def _place_of(self, key: KeyRef) -> tuple[int, bytes]:
        """The shard that a key is in, and the argument that names it."""
        if isinstance(key, int):
            return self._core.shards.of_id(key), b"$9\r\ni%b\r\n" % key.to_bytes(8, "big")
        shard, _ = self._core.shards.place(prefix_of(key))
        return shard, b"$%d\r\np%b\r\n" % (len(key) + 1, key)

    # One item.

    def _get(self, ask: QueueGet, caller: Caller, key: RequestKey | None) -> Later:
        core = self._core
        later = core.new_later(None)
        shard, name = self._place_of(ask.key)
        core.call(GET, shard, name, partial(self._payload, later, shard, None))
        return later

    def _payload(self, later: Later, shard: int, key: RequestKey | None, reply: Replied) -> None:
        """Answer with payload and extra, or with nothing."""
        core = self._core
        if type(reply) is not list or reply[0] != b"=":
            later.done(core.error_of(reply))
        elif len(reply) == 1:
            if key is not None:
                core.kept.note(key, shard)
            later.done(_NO_ITEM)
        else:
            extra = reply[2]
            core.answer(later, shard, key, reply[1], lambda payload: Result(PAYLOAD_COLUMNS, ((payload, extra),)))

    def _cancel(self, ask: QueueCancel, caller: Caller, key: RequestKey | None) -> Later:
        core = self._core
        later = core.new_later(None)
        shard, name = self._place_of(ask.key)

        def then(reply: Replied) -> None:
            if type(reply) is list and len(reply) == 4:
                self._tallies.cancelled(read_item(reply[3]), core.now_ms)
            self._payload(later, shard, key, reply)

        core.keyed(CANCEL, shard, key, name, then)
        return later

    def _heartbeat(self, ask: QueueHeartbeat, caller: Caller, key: RequestKey | None) -> Later:
        core = self._core
        later = core.new_later(None)
        shard, name = self._place_of(ask.key)
        core.call(HEARTBEAT, shard, name, partial(self._empty, later, shard, None))
        return later

    def _empty(self, later: Later, shard: int, key: RequestKey | None, reply: Replied) -> None:
        if type(reply) is list and reply[0] == b"=":
            if key is not None:
                self._core.kept.note(key, shard)
            later.done(EMPTY_RESULT)
        else:
            later.done(self._core.error_of(reply))

    def _ack(self, ask: QueueAck, caller: Caller, key: RequestKey | None) -> Later:
        core = self._core
        later = core.new_later(None)
        shard, name = self._place_of(ask.key)
        channel = word(channel_of(core.shards, shard))

        def send(value: bytes, pieces: list[bytes]) -> None:
            core.keyed(
                ACK, shard, key, b"%b$%d\r\n%b\r\n%b" % (name, len(value), value, channel), then, piece_keys=pieces
            )

        def then(reply: Replied) -> None:
            if type(reply) is list and reply[0] == b"=":
                if len(reply) == 3:
                    stats = self._tallies.of(reply[2])
                    if ask.value is not None and ask.value.startswith(CUBE_ERROR):
                        stats.errors += 1
                    else:
                        stats.acknowledged += 1
                if key is not None:
                    core.kept.note(key, shard)
                later.done(_ACKNOWLEDGED if reply[1] == b"1" else _NOT_ACKNOWLEDGED)
            elif type(reply) is list and reply[0] == b"P" and ask.value is not None:
                core.with_value(shard, ask.value, later, send, is_result=True)
            elif type(reply) is list and reply[:2] == [b"E", b"room"]:
                growth, in_use = int(reply[2]), int(reply[3])
                text = too_large(core, "ACK", shard, growth, in_use).text
                later.done(NoRoomError(text, ask.key, growth, core.queue_limits.max_bytes))
            else:
                later.done(core.error_of(reply))

        if ask.value is None:
            send(b"", [])
        else:
            core.with_value(shard, ask.value, later, send, is_result=True)
        return later

    def _merge_extra(self, ask: QueueMergeExtra, caller: Caller, key: RequestKey | None) -> Later:
        """The server merges, the script looks whether it merged with what there is. The first try expects no extra."""
        core = self._core
        later = core.new_later(None)
        shard, name = self._place_of(ask.key)
        tries = count()

        def send(expected: bytes | None) -> None:
            extra = merge_extra(expected, ask.extra)
            words = name + word(optional(expected)) + word(optional(extra))
            core.sender.send(core.keyed_call(MERGE_EXTRA, shard, key, words, then))

        def then(reply: Replied) -> None:
            try:
                if type(reply) is list and reply[0] == b"C" and next(tries) < _MAX_MERGES:
                    send(reply[1])
                    return
                if type(reply) is list and reply[:2] == [b"E", b"bytes"]:
                    raise too_large(core, "MERGE_EXTRA", shard, int(reply[2]), int(reply[3]))
            except StatementError as error:
                later.done(error.with_traceback(None))
            else:
                self._empty(later, shard, key, reply)
            core.let_go(shard)

        def begin() -> None:
            try:
                send(None)
            except StatementError as error:
                core.call_soon(then, error)

        core.in_order(shard, begin)
        return later

    # Results.

    def _result(self, ask: QueueResult, caller: Caller, key: RequestKey | None) -> Later:
        core, wanted = self._core, ask.external_id
        later = core.new_later(None)
        shard, name = self._place_of(ask.key)

        def then(reply: Replied) -> None:
            if type(reply) is list and reply[0] == b"=":
                answer_result(core, later, shard, key, reply)
            elif type(reply) is list and reply[:2] == [b"E", b"external"] and isinstance(ask.key, int):
                later.done(UserError(mismatch(ask.key, wanted or b"", reply[2][1:] if reply[2] else None)))
            else:
                later.done(core.error_of(reply))

        core.keyed(RESULT, shard, key, name + word(optional(wanted)), then)
        return later


def answer_result(core: Core, later: Later, shard: int, key: RequestKey | None, reply: list[Reply]) -> None:
    """Answer with the cells of RESULT, or with nothing when there are none."""
    if len(reply) == 1:
        later.done(NO_RESULT)
        return
    id_, external_id = reply[2], reply[3]
    core.answer(
        later, shard, key, reply[1], lambda value: Result(RESULT_COLUMNS, ((value, _SUCCESS, id_, external_id),))
    )


def too_large(core: Core, command: str, shard: int, growth: int, in_use: int) -> UserError:
    """The refusal of more bytes than the queues may hold."""
    in_use += core.bytes_elsewhere[shard]
    return UserError(
        f"QUEUE {command} refused: {growth} bytes more would exceed the {core.queue_limits.max_bytes} bytes"
        f" that CUBEQUEUE_QUEUE_MAX_SIZE allows, {in_use} are in use"
    )
