"""The QUEUE statements, as calls of scripts (commands.md §4). RESULT_BLOCKING is in `waits`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count
from struct import Struct
from typing import Any, Final, TypeAlias

from cubequeue_server.engines.shared_store.connection import Reply
from cubequeue_server.engines.shared_store.core import Core, optional, word
from cubequeue_server.engines.shared_store.listings import Payloads, cancel_rows, list_rows
from cubequeue_server.engines.shared_store.node import channel_of
from cubequeue_server.engines.shared_store.rows import I64_MAX, read_item
from cubequeue_server.engines.shared_store.scripts import (
    ACK,
    ADD,
    ADD_AND_RETRIEVE,
    CANCEL,
    GET,
    HEARTBEAT,
    LIST,
    MERGE_EXTRA,
    RESULT,
    RETRIEVE,
    TO_CANCEL,
)
from cubequeue_server.engines.shared_store.shards import lane_of
from cubequeue_server.engines.shared_store.tallies import Tallies
from storage.asking import Caller, Later
from storage.errors import NoRoomError, StatementError, UserError
from storage.keys import prefix_of
from storage.listings import SHORT
from storage.queue.history import CUBE_ERROR
from storage.queue.merge import merge_extra
from storage.queue.result_statements import NO_RESULT, mismatch
from storage.queue.statements import OWNER_NEEDED_TO_ADD, OWNER_NEEDED_TO_CLAIM
from storage.vocabulary import (
    ADD_AND_RETRIEVE_COLUMNS,
    ADD_COLUMNS,
    EMPTY_RESULT,
    LIST_COLUMNS,
    PAYLOAD_COLUMNS,
    RESULT_COLUMNS,
    RETRIEVE_COLUMNS,
    SUCCESS_COLUMNS,
    TO_CANCEL_COLUMNS,
    KeyRef,
    Path,
    QueueAck,
    QueueActive,
    QueueAdd,
    QueueAddAndRetrieve,
    QueueCancel,
    QueueGet,
    QueueHeartbeat,
    QueueList,
    QueueMergeExtra,
    QueueOrphaned,
    QueuePending,
    QueueResult,
    QueueRetrieve,
    QueueStalled,
    QueueToCancel,
    RequestKey,
    Result,
    Statement,
    Value,
)

Replied: TypeAlias = "list[Reply] | StatementError"
Handler: TypeAlias = Callable[[Any, Caller, RequestKey | None], Later]

_FIXED: Final = Struct(">QIIQ8s16s16ss")
_SUCCESS: Final = b"success"
_NO_ITEM: Final = Result(PAYLOAD_COLUMNS, ())
_NOT_CLAIMED: Final = Result(RETRIEVE_COLUMNS, ())
_ACKNOWLEDGED: Final = Result(SUCCESS_COLUMNS, ((True,),))
_NOT_ACKNOWLEDGED: Final = Result(SUCCESS_COLUMNS, ((False,),))
_MAX_MERGES: Final = 100  # tries of one MERGE_EXTRA, each of which another one has forestalled


class QueueStatements:
    """Each handler sends a call, and answers the `Later` that it returns when the reply has come."""

    def __init__(self, core: Core, tallies: Tallies) -> None:
        self._core = core
        self._tallies = tallies
        self._payloads = Payloads(core)
        self.handlers: dict[type[Statement], Handler] = {
            QueueAdd: self._add,
            QueueAddAndRetrieve: self._add_and_retrieve,
            QueueGet: self._get,
            QueueList: partial(self._list, b"pa"),
            QueuePending: partial(self._list, b"p"),
            QueueActive: partial(self._list, b"a"),
            QueueCancel: self._cancel,
            QueueHeartbeat: self._heartbeat,
            QueueAck: self._ack,
            QueueMergeExtra: self._merge_extra,
            QueueStalled: self._stalled,
            QueueOrphaned: self._orphaned,
            QueueToCancel: self._to_cancel,
            QueueRetrieve: self._retrieve,
            QueueResult: self._result,
        }

    def _place_of(self, key: KeyRef) -> tuple[int, bytes]:
        """The shard that a key is in, and the argument that names it."""
        if isinstance(key, int):
            return self._core.shards.of_id(key), b"$9\r\ni%b\r\n" % key.to_bytes(8, "big")
        shard, _ = self._core.shards.place(prefix_of(key))
        return shard, b"$%d\r\np%b\r\n" % (len(key) + 1, key)

    # Adding and claiming.

    def _adding(self, ask: QueueAdd | QueueAddAndRetrieve, caller: Caller) -> tuple[int, Path, Callable[[], bytes]]:
        """The shard and prefix of an item that is added, and what makes the arguments that ADD has, but for the
        payload: they hold a number that is to be drawn when they are sent."""
        core, path = self._core, ask.path
        if ask.exclusive and caller.process_id is None:
            raise UserError(OWNER_NEEDED_TO_ADD.format(ask.command.upper()))
        prefix = prefix_of(path)
        shard, qlane = core.shards.place(prefix)
        lane = lane_of(prefix, caller.process_id) if ask.exclusive else qlane
        priority = (I64_MAX - ask.priority).to_bytes(8, "big")
        orphaned_s = b"" if ask.orphaned_s is None else b"%d" % ask.orphaned_s
        owner, external = optional(caller.process_id), optional(ask.external_id)

        def words() -> bytes:
            fixed = _FIXED.pack(
                core.next_number(), shard, len(prefix), len(ask.payload), priority, lane, qlane,
                b"1" if ask.exclusive else b"0",
            )  # fmt: skip
            return b"$65\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (
                fixed, len(path), path, len(owner), owner, len(external), external, len(orphaned_s), orphaned_s,
            )  # fmt: skip

        return shard, prefix, words

    def _add(self, ask: QueueAdd, caller: Caller, key: RequestKey | None) -> Later:
        core = self._core
        shard, prefix, words = self._adding(ask, caller)
        later = core.new_later(None)

        def send(payload: bytes, pieces: list[bytes]) -> None:
            arguments = b"%b$%d\r\n%b\r\n" % (words(), len(payload), payload)
            core.keyed(ADD, shard, key, arguments, then, piece_keys=pieces)

        def then(reply: Replied) -> None:
            if type(reply) is list and reply[0] == b"=":
                _, id_, added, pending = reply
                if added == b"1":
                    self._tallies.of(prefix).added += 1
                    core.saw_number(int(id_) // core.shards.count)
                if key is not None:
                    core.kept.note(key, shard)
                later.done(Result(ADD_COLUMNS, ((id_, added == b"1", int(pending)),)))
            elif type(reply) is list and reply[0] == b"P":
                core.with_value(shard, ask.payload, later, send)
            else:
                later.done(self._full(ask, shard, reply))

        core.with_value(shard, ask.payload, later, send)
        return later

    def _full(self, ask: QueueAdd | QueueAddAndRetrieve, shard: int, reply: Replied) -> StatementError:
        """Why an item was not added."""
        if type(reply) is list and reply[0] == b"E":
            command = ask.command.upper()
            if reply[1] == b"items":
                held = int(reply[2]) + self._core.items_elsewhere[shard]
                return UserError(
                    f"QUEUE {command} refused: the queues hold {held} items, which is as many as"
                    " CUBEQUEUE_QUEUE_MAX_ITEMS allows"
                )
            if reply[1] == b"bytes":
                return self._too_large(command, shard, len(ask.payload), int(reply[2]))
            if reply[1] == b"owner":
                return UserError(OWNER_NEEDED_TO_CLAIM)
        return self._core.error_of(reply)

    def _too_large(self, command: str, shard: int, growth: int, in_use: int) -> UserError:
        in_use += self._core.bytes_elsewhere[shard]
        return UserError(
            f"QUEUE {command} refused: {growth} bytes more would exceed the {self._core.queue_limits.max_bytes} bytes"
            f" that CUBEQUEUE_QUEUE_MAX_SIZE allows, {in_use} are in use"
        )

    def _add_and_retrieve(self, ask: QueueAddAndRetrieve, caller: Caller, key: RequestKey | None) -> Later:
        core = self._core
        shard, prefix, words = self._adding(ask, caller)
        later = core.new_later(None)
        tail = word(optional(caller.process_id)) + word(caller.peer.encode()) + word(b"%d" % ask.concurrency)

        def send(payload: bytes, pieces: list[bytes]) -> None:
            arguments = b"%b$%d\r\n%b\r\n%b" % (words(), len(payload), payload, tail)
            core.keyed(ADD_AND_RETRIEVE, shard, key, arguments, then, piece_keys=pieces)

        def then(reply: Replied) -> None:
            if type(reply) is list and reply[0] == b"=":
                id_, added, pending, active, stored, extra = reply[1:7]
                if len(reply) == 8:
                    self._tallies.claimed(prefix, int(reply[7]))
                if added == b"1":
                    self._tallies.of(prefix).added += 1
                    core.saw_number(int(id_) // core.shards.count)

                def of_value(payload: Value | None) -> Result:
                    row = (id_, added == b"1", int(pending), active, payload, extra)
                    return Result(ADD_AND_RETRIEVE_COLUMNS, (row,))

                core.answer(later, shard, key, stored, of_value)
            elif type(reply) is list and reply[0] == b"P":
                core.with_value(shard, ask.payload, later, send)
            else:
                later.done(self._full(ask, shard, reply))

        core.with_value(shard, ask.payload, later, send)
        return later

    def _retrieve(self, ask: QueueRetrieve, caller: Caller, key: RequestKey | None) -> Later:
        core, path = self._core, ask.path
        later = core.new_later(None)
        prefix = prefix_of(path)
        shard, qlane = core.shards.place(prefix)
        size, process_id, peer = b"%d" % len(prefix), optional(caller.process_id), caller.peer.encode()
        concurrency = b"%d" % ask.concurrency
        words = b"$%d\r\n%b\r\n$%d\r\n%b\r\n$16\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (
            len(path), path, len(size), size, qlane, len(process_id), process_id, len(peer), peer,
            len(concurrency), concurrency,
        )  # fmt: skip

        def then(reply: Replied) -> None:
            if type(reply) is list and reply[0] == b"=":
                stored, extra, pending, active, id_ = reply[1:6]
                if len(reply) == 7:
                    self._tallies.claimed(prefix, int(reply[6]))

                def of_value(payload: Value | None) -> Result:
                    return Result(RETRIEVE_COLUMNS, ((payload, extra, int(pending), active, id_),))

                core.answer(later, shard, key, stored, of_value)
            elif type(reply) is list and reply[0] == b"N":
                failed = Result(RETRIEVE_COLUMNS, ((None, None, int(reply[1]), reply[2], None),))
                later.done(failed if ask.extended else _NOT_CLAIMED)
            elif type(reply) is list and reply[:2] == [b"E", b"owner"]:
                later.done(UserError(OWNER_NEEDED_TO_CLAIM))
            else:
                later.done(core.error_of(reply))

        core.keyed(RETRIEVE, shard, key, words, then)
        return later

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
                text = self._too_large("ACK", shard, growth, in_use).text
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
                    raise self._too_large("MERGE_EXTRA", shard, int(reply[2]), int(reply[3]))
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

    # Lists.

    def _list(
        self, which: bytes, ask: QueueList | QueuePending | QueueActive, caller: Caller, key: RequestKey | None
    ) -> Later:
        core, prefix, process_id = self._core, ask.prefix, caller.process_id
        later = core.new_later(None)
        shard, qlane = core.shards.place(prefix)
        lanes = qlane if process_id is None else qlane + lane_of(prefix, process_id)
        payloads = b"%d" % SHORT if ask.with_payload else b"0"
        words = word(qlane) + word(lanes) + word(optional(process_id)) + word(which) + word(payloads)

        def then(reply: Replied) -> None:
            if type(reply) is not list or reply[0] != b"=":
                later.done(core.error_of(reply))
            elif ask.with_payload:
                self._payloads.read(later, shard, reply, by_id=which == b"a")
            else:
                later.done(Result(LIST_COLUMNS, list_rows(reply, by_id=which == b"a")))

        core.call(LIST, shard, words, then)
        return later

    def _stalled(self, ask: QueueStalled, caller: Caller, key: RequestKey | None) -> Later:
        self._tallies.asked_for(ask.prefix, ask.heartbeat_timeout_ms, None)
        return self._cancellable(ask.prefix, b"%d" % ask.heartbeat_timeout_ms, b"")

    def _orphaned(self, ask: QueueOrphaned, caller: Caller, key: RequestKey | None) -> Later:
        self._tallies.asked_for(ask.prefix, None, ask.orphaned_timeout_ms)
        return self._cancellable(ask.prefix, b"", b"%d" % ask.orphaned_timeout_ms)

    def _to_cancel(self, ask: QueueToCancel, caller: Caller, key: RequestKey | None) -> Later:
        self._tallies.asked_for(ask.prefix, ask.heartbeat_timeout_ms, ask.orphaned_timeout_ms)
        return self._cancellable(ask.prefix, b"%d" % ask.heartbeat_timeout_ms, b"%d" % ask.orphaned_timeout_ms)

    def _cancellable(self, prefix: Path, stalled_ms: bytes, orphaned_ms: bytes) -> Later:
        core = self._core
        later = core.new_later(None)
        shard, qlane = core.shards.place(prefix)
        if core.is_in_grace:  # workers could not beat while the store was away
            stalled_ms = b""

        def then(reply: Replied) -> None:
            if type(reply) is list and reply[0] == b"=":
                later.done(Result(TO_CANCEL_COLUMNS, cancel_rows(reply)))
            else:
                later.done(core.error_of(reply))

        core.call(TO_CANCEL, shard, word(qlane) + word(stalled_ms) + word(orphaned_ms), then)
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
