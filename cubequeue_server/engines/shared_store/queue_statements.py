"""The QUEUE statements, as calls of scripts (commands.md §4). RESULT_BLOCKING is in `waits`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from struct import Struct
from typing import Final

from cubequeue_server.engines.shared_store.core import Core, optional, word
from cubequeue_server.engines.shared_store.item_statements import Handler, Replied, too_large
from cubequeue_server.engines.shared_store.listings import Payloads, cancel_rows, list_rows
from cubequeue_server.engines.shared_store.rows import I64_MAX
from cubequeue_server.engines.shared_store.scripts import (
    ADD,
    ADD_AND_RETRIEVE,
    LIST,
    RETRIEVE,
    TO_CANCEL,
)
from cubequeue_server.engines.shared_store.shards import lane_of
from cubequeue_server.engines.shared_store.tallies import Tallies
from storage.asking import Caller, Later
from storage.errors import StatementError, UserError
from storage.keys import prefix_of
from storage.listings import SHORT
from storage.queue.statements import OWNER_NEEDED_TO_ADD, OWNER_NEEDED_TO_CLAIM
from storage.vocabulary import (
    ADD_AND_RETRIEVE_COLUMNS,
    ADD_COLUMNS,
    LIST_COLUMNS,
    RETRIEVE_COLUMNS,
    TO_CANCEL_COLUMNS,
    Path,
    QueueActive,
    QueueAdd,
    QueueAddAndRetrieve,
    QueueList,
    QueueOrphaned,
    QueuePending,
    QueueRetrieve,
    QueueStalled,
    QueueToCancel,
    RequestKey,
    Result,
    Statement,
    Value,
)

_FIXED: Final = Struct(">QIIQ8s16s16ss")
_NOT_CLAIMED: Final = Result(RETRIEVE_COLUMNS, ())


class QueueStatements:
    """Each handler sends a call, and answers the `Later` that it returns when the reply has come."""

    def __init__(self, core: Core, tallies: Tallies) -> None:
        self._core = core
        self._tallies = tallies
        self._payloads = Payloads(core)
        self.handlers: dict[type[Statement], Handler] = {
            QueueAdd: self._add,
            QueueAddAndRetrieve: self._add_and_retrieve,
            QueueList: partial(self._list, b"pa"),
            QueuePending: partial(self._list, b"p"),
            QueueActive: partial(self._list, b"a"),
            QueueStalled: self._stalled,
            QueueOrphaned: self._orphaned,
            QueueToCancel: self._to_cancel,
            QueueRetrieve: self._retrieve,
        }

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
                return too_large(self._core, command, shard, len(ask.payload), int(reply[2]))
            if reply[1] == b"owner":
                return UserError(OWNER_NEEDED_TO_CLAIM)
        return self._core.error_of(reply)

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
