"""RESULT_BLOCKING: requests of this server that wait for results, wherever the ACK comes from (commands.md §4.11).

execute ──`wait`──▶ answered, or registered in the store with a stamp
                        │  an ACK stores an outcome with a higher stamp and publishes
                        ▼
a message ──`take`──▶ one outcome for all that wait here for it

A message can be lost with the connection that would have brought it. So whoever subscribes anew asks for all its
requests, and each is asked for every few seconds in any case: no wake-up is lost. A request that is given up asks once
more while it leaves: an outcome that was stored for it is never thrown away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from cubequeue_server.engines.shared_store.calls import Call
from cubequeue_server.engines.shared_store.connection import Reply, bulks
from cubequeue_server.engines.shared_store.core import Core, word
from cubequeue_server.engines.shared_store.item_statements import answer_result
from cubequeue_server.engines.shared_store.scripts import ASK, TAKE, WAIT
from storage.asking import Caller, Later
from storage.errors import StatementError, UserError
from storage.keys import prefix_of
from storage.queue.result_statements import NO_RESULT, too_many_waiters
from storage.vocabulary import KeyRef, QueueResultBlocking, RequestKey

_ASKED_AT_ONCE: Final = 500
_TAKEN_AT_ONCE: Final = 100
_NET_S: Final = 5.0
# The store keeps an outcome so much longer than a request waits: long enough to ask again after a lost connection.
SLACK_MS: Final = 10_000


class _Wait:
    """One request. `began` is its stamp, None until the store has registered it."""

    __slots__ = (
        "asked_s",
        "began",
        "deadline_s",
        "field",
        "is_asking",
        "is_called",
        "is_leaving",
        "key",
        "later",
        "shard",
    )

    def __init__(self, later: Later, key: KeyRef, shard: int, deadline_s: float) -> None:
        self.later = later
        self.key = key
        self.field = b"i" + key.to_bytes(8, "big") if isinstance(key, int) else b"p" + key
        self.shard = shard
        self.deadline_s = deadline_s
        self.asked_s = 0.0
        self.began: int | None = None
        self.is_asking = False  # a call for it is under way
        self.is_called = False  # there may be something for it
        self.is_leaving = False  # it was given up


class Waits:
    """All requests of this server that wait. `server` is what names it in the store, 8 bytes."""

    def __init__(self, core: Core, server: bytes, now_s: Callable[[], float], slack_ms: int = SLACK_MS) -> None:
        self._core = core
        self._slack_ms = slack_ms
        self._server = server
        self._now_s = now_s
        self._by_field: dict[tuple[int, bytes], dict[_Wait, None]] = {}
        self._by_later: dict[Later, _Wait] = {}
        self._leaving = 0
        self._registered: set[tuple[int, bytes]] = set()  # where the store may hold this server for one that waits

    @property
    def count(self) -> int:
        """Requests that wait, without those that were given up."""
        return len(self._by_later) - self._leaving

    def keys(self) -> Iterator[KeyRef]:
        """What each waits for."""
        return (wait.key for wait in list(self._by_later.values()))

    # Beginning.

    def result_blocking(self, ask: QueueResultBlocking, caller: Caller, key: RequestKey | None) -> Later:
        """`QUEUE RESULT_BLOCKING`: what RESULT answers, or a wait if that is nothing."""
        core = self._core
        later = core.new_later(ask.timeout_ms or None)
        later.request_key = key
        shards = core.shards
        shard = shards.of_id(ask.key) if isinstance(ask.key, int) else shards.place(prefix_of(ask.key))[0]
        wait = _Wait(later, ask.key, shard, self._now_s() + ask.timeout_ms / 1000)
        if ask.timeout_ms == 0 or self.count >= core.queue_limits.max_waiters:
            refusal = None if ask.timeout_ms == 0 else too_many_waiters(core.queue_limits)
            wait_ms = b"look" if ask.timeout_ms == 0 else b"0"
            self._send(wait, wait_ms, partial(self._looked, wait, refusal), b"")
            return later
        self._by_later[later] = wait
        self._by_field.setdefault((shard, wait.field), {})[wait] = None
        try:
            self._ask(wait)
        except StatementError:
            self._forget(wait)
            raise
        return later

    def _looked(self, wait: _Wait, refusal: UserError | None, reply: list[Reply] | StatementError) -> None:
        """The answer to one that does not wait."""
        if refusal is not None and type(reply) is list and reply == [b"="]:
            wait.later.done(refusal)
        elif type(reply) is list and reply[0] == b"=":
            answer_result(self._core, wait.later, wait.shard, wait.later.request_key, reply)
        else:
            wait.later.done(self._core.error_of(reply))

    # Asking.

    def _ask(self, wait: _Wait) -> None:
        """Ask the store for one request: it registers it, answers it, or lets it go."""
        wait.is_asking, wait.is_called = True, False
        wait_ms = 0 if wait.is_leaving else max(int((wait.deadline_s - self._now_s()) * 1000), 0) + self._slack_ms
        leave = b""
        if wait.is_leaving:
            others = self._by_field.get((wait.shard, wait.field), {})
            staying = [other.began for other in others if not other.is_leaving]
            stamps = [began for began in staying if began is not None]
            if len(stamps) == len(staying):
                leave = b"%d" % max(stamps) if stamps else b"all"
        self._send(wait, b"%d" % wait_ms, partial(self._asked, wait, leave == b"all"), leave)

    def _send(
        self, wait: _Wait, wait_ms: bytes, then: Callable[[list[Reply] | StatementError], None], leave: bytes
    ) -> None:
        wait.asked_s = self._now_s()
        began = b"" if wait.began is None else b"%d" % wait.began
        words = bulks([wait.field, wait_ms, self._server, began, leave])
        key = wait.later.request_key
        call = self._core.keyed_call(WAIT, wait.shard, key, words, then)
        call.may_repeat = key is not None or isinstance(wait.key, int)  # by id it may be read again
        self._core.send(call)

    def _asked(self, wait: _Wait, leaves: bool, reply: list[Reply] | StatementError) -> None:
        wait.is_asking = False
        if leaves and type(reply) is list:
            self._registered.discard((wait.shard, wait.field))
        if type(reply) is list and reply[0] == b"W":
            self._registered.add((wait.shard, wait.field))
            if wait.began is None:
                wait.began = int(reply[1])
            if wait.is_leaving or wait.is_called:
                self._ask_again(wait)
        elif type(reply) is list and reply[0] == b"=" and len(reply) > 1:
            self._end(wait, reply)
        elif type(reply) is list and reply[0] == b"=":
            if wait.is_leaving:
                self._forget(wait)
                wait.later.done(NO_RESULT)
            else:
                self._ask_again(wait)
        else:
            self._forget(wait)
            error = self._core.error_of(reply)
            wait.later.done(NO_RESULT if wait.is_leaving else error)

    def _ask_again(self, wait: _Wait) -> None:
        try:
            self._ask(wait)
        except StatementError as error:
            self._forget(wait)
            wait.later.done(error)

    def _end(self, wait: _Wait, reply: list[Reply]) -> None:
        self._forget(wait)
        answer_result(self._core, wait.later, wait.shard, wait.later.request_key, reply)

    def _forget(self, wait: _Wait) -> None:
        if self._by_later.pop(wait.later, None) is not None and wait.is_leaving:
            self._leaving -= 1
        place = wait.shard, wait.field
        others = self._by_field.get(place)
        if others is not None:
            others.pop(wait, None)
            if not others:
                del self._by_field[place]
                self._leave(place)

    def _leave(self, place: tuple[int, bytes]) -> None:
        """Nobody waits here any longer: an ACK must not leave an outcome for this server."""
        if place not in self._registered:
            return
        self._registered.discard(place)
        shard, field = place
        words = bulks([field, b"", self._server, b"", b"all"])
        call = self._core.keyed_call(WAIT, shard, None, words, _nothing)
        call.may_repeat = True
        try:
            self._core.send(call)
        except StatementError:
            return  # its time in the store will be over

    # Messages.

    def on_message(self, shard: int, payload: bytes) -> None:
        """An ACK has left outcomes: id8, then the path."""
        for field in (b"i" + payload[:8], b"p" + payload[8:]):
            waits = self._by_field.get((shard, field))
            if waits:
                self._take(shard, field, list(waits))

    def _take(self, shard: int, field: bytes, waits: list[_Wait]) -> None:
        """Fetch an outcome for all that wait here for it."""
        ready = []
        for wait in waits:
            if wait.is_asking or wait.began is None:
                wait.is_called = True
            else:
                ready.append(wait)
        for first in range(0, len(ready), _TAKEN_AT_ONCE):
            self._take_some(shard, field, ready[first : first + _TAKEN_AT_ONCE])

    def _take_some(self, shard: int, field: bytes, waits: list[_Wait]) -> None:
        core = self._core
        requests, mids, keys = [], [], b""
        for wait in waits:
            wait.is_asking, wait.is_called = True, False
            key = wait.later.request_key
            requests.append((wait.began or 0).to_bytes(8, "big") + (b"0" if key is None else b"1"))
            if key is not None:
                mids.append(b"%d" % key[2])
                keys += core.shards.answer_keys(shard, key)
        head = core.shards.head_of(TAKE, shard, 2 * len(mids), len(mids))
        words = core.bounds[shard] + word(field) + word(b"".join(requests)) + bulks(mids)
        request = b"%b%b%b%b" % (head, keys, core.time(), words)
        call = Call(core.sender, shard, TAKE, request, partial(self._took, waits), may_repeat=True)
        try:
            core.send(call)
        except StatementError:
            for wait in waits:
                wait.is_asking = False  # the net will catch them

    def _took(self, waits: list[_Wait], reply: list[Reply] | StatementError) -> None:
        stamp = int(reply[4]) if type(reply) is list and reply[0] == b"=" and len(reply) == 5 else -1
        if stamp >= 0:  # the ACK has taken this server out of the store
            self._registered.discard((waits[0].shard, waits[0].field))
        for wait in waits:
            wait.is_asking = False
            if stamp > (wait.began or 0):
                assert type(reply) is list
                self._end(wait, reply)
            elif wait.is_leaving or wait.is_called:
                self._ask_again(wait)

    # The net.

    def ask_all(self, shards: set[int]) -> None:
        """Messages may have been missed for these shards."""
        self._ask_for([wait for wait in self._by_later.values() if wait.shard in shards])

    def ask_old(self) -> None:
        """Ask for those that have not been asked for lately."""
        before_s = self._now_s() - _NET_S
        self._ask_for([wait for wait in self._by_later.values() if wait.asked_s < before_s])

    def _ask_for(self, waits: list[_Wait]) -> None:
        """In batches; those for whom there is something ask for themselves then."""
        now_s = self._now_s()
        by_shard: dict[int, list[_Wait]] = {}
        for wait in waits:
            if wait.is_asking or wait.began is None:
                wait.is_called = True
            else:
                wait.asked_s = now_s
                by_shard.setdefault(wait.shard, []).append(wait)
        core = self._core
        for shard, mine in by_shard.items():
            for first in range(0, len(mine), _ASKED_AT_ONCE):
                some = mine[first : first + _ASKED_AT_ONCE]
                asked = [(wait.began or 0).to_bytes(8, "big") + wait.field for wait in some]
                head = core.shards.head_of(ASK, shard, 0, len(some))
                request = b"%b%b%b%b" % (head, core.time(), word(self._server), bulks(asked))
                call = Call(core.sender, shard, ASK, request, partial(self._answered, some), may_repeat=True)
                try:
                    core.send(call)
                except StatementError:
                    return  # again, in a few seconds

    def _answered(self, waits: list[_Wait], reply: list[Reply] | StatementError) -> None:
        if isinstance(reply, StatementError) or reply[0] != b"=":
            return
        for wait, flag in zip(waits, reply[1:], strict=True):
            if flag == b"1" and wait.later in self._by_later:
                if wait.is_asking:
                    wait.is_called = True
                else:
                    self._ask_again(wait)

    # Ending.

    def give_up(self, later: Later) -> None:
        """End a wait. It leaves the store first, which may have something for it by now."""
        wait = self._by_later.get(later)
        if wait is None or wait.is_leaving:
            return
        wait.is_leaving = True
        self._leaving += 1
        if not wait.is_asking:
            self._ask_again(wait)

    def end_all(self) -> None:
        """End all waits."""
        for later in list(self._by_later):
            self.give_up(later)


def _nothing(_reply: object) -> None:
    """Nobody waits for it."""
