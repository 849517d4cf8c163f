"""Which statement brings connections to the CubeStore down, found by what was at work whenever one was lost.

A statement can make a CubeStore drop its connection (servers up to 1.7.27 do so with a message that is too large) or
die, with all connections; and Cube brings the same message back on each new socket. So losses are counted by message,
over all sockets of its client:

    lost once              it is sent again at once, with all that waited
    lost twice             it goes in turn: of all such statements one is at work at a time
    lost twice while it was the only one in question       it fails, and stays failed
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from cubequeue_server.engines.upstream import texts
from cubequeue_server.engines.upstream.statement import Passing
from cubequeue_server.observe.logs import log_event
from storage.vocabulary import RequestKey

_log = logging.getLogger(__name__)

_MAX_REMEMBERED: Final = 10_000
_REMEMBERED_S: Final = 3_600.0
_LOSSES: Final = 2


def _key(statement: Passing) -> RequestKey | Passing:
    """What names a message over all sockets of its client; the statement itself where the client has no name."""
    return statement.key or statement


class _Record:
    """What is remembered of a message that was at work when a connection was lost."""

    __slots__ = ("alone", "losses", "seen_s", "verdict")

    def __init__(self) -> None:
        self.losses = self.alone = 0
        self.verdict: str | None = None
        self.seen_s = 0.0


class Blame:
    """Judges losses. All that is lost within `settle_s` is one loss: a process that dies takes all connections along.

    A turn ends with an answer, with a loss, or after `turn_s`: a long statement may not hold up the others for ever.
    While there are no `records` nothing has to be asked here.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, settle_s: float, turn_s: float) -> None:
        self._loop = loop
        self._settle_s = settle_s
        self._turn_s = turn_s
        self.records: OrderedDict[RequestKey | Passing, _Record] = OrderedDict()  # the newest loss last
        self._lost: dict[Passing, str] = {}  # in the loss that is being settled
        self._then: list[Callable[[], None]] = []
        self._reason = ""  # of the first connection
        self._turn: Passing | None = None
        self._turn_timer: asyncio.TimerHandle | None = None
        self._queue: OrderedDict[Passing, Callable[[Passing], bool]] = OrderedDict()

    def verdict(self, statement: Passing) -> str | None:
        """Why a statement must not be sent at all; None when it may."""
        record = self.records.get(_key(statement))
        return None if record is None else record.verdict

    def goes_in_turn(self, statement: Passing) -> bool:
        """Whether a statement has to wait for its turn."""
        record = self.records.get(_key(statement))
        return record is not None and record.losses >= _LOSSES

    # Losses

    def on_lost(self, at_work: list[Passing], reason: str, then: Callable[[], None]) -> None:
        """A connection was lost while these were at work. `then` is called once the loss has been judged."""
        if not self._then:
            self._loop.call_later(self._settle_s, self._judge)
        self._reason = self._reason or reason
        self._then.append(then)
        self._lost.update(dict.fromkeys(at_work, reason))

    def _judge(self) -> None:
        lost, self._lost = self._lost, {}
        then, self._then = self._then, []
        first_reason, self._reason = self._reason, ""
        now_s = self._loop.time()
        in_question = {_key(statement) for statement in lost}
        records = {key: self._record(key, now_s) for key in in_question}
        turn = None if self._turn is None else _key(self._turn)
        for key, record in records.items():
            record.losses += 1
            record.alone += len(in_question) == 1 or key == turn
        for statement, reason in lost.items():
            record = records[_key(statement)]
            if record.alone >= _LOSSES:
                record.verdict = texts.lost_twice(reason)
                statement.fail(statement, record.verdict)
        if turn in in_question:
            self._end_turn()
        fields = {"connections": len(then), "statements": len(lost), "reason": first_reason}
        log_event(_log, logging.WARNING, "connections to CubeStore were lost", fields)
        for each in then:
            each()

    def _record(self, key: RequestKey | Passing, now_s: float) -> _Record:
        record = self.records.pop(key, None) or _Record()
        record.seen_s = now_s
        self.records[key] = record
        while len(self.records) > _MAX_REMEMBERED or next(iter(self.records.values())).seen_s < now_s - _REMEMBERED_S:
            self.records.popitem(last=False)
        return record

    # Turns

    def wait_for_turn(self, statement: Passing, send: Callable[[Passing], bool]) -> None:
        """Have `send` called when it is the statement's turn; it returns whether it could send it."""
        self._queue[statement] = send
        self._next_turn()

    def forget(self, statement: Passing) -> None:
        """It waits no longer: it was answered, or nobody wants it any more."""
        self._queue.pop(statement, None)
        if statement is self._turn and statement not in self._lost:
            self._end_turn()

    def answered(self, statement: Passing) -> None:
        """It did no harm."""
        self.records.pop(_key(statement), None)
        self.forget(statement)

    def _end_turn(self) -> None:
        self._turn = None
        if self._turn_timer is not None:
            self._turn_timer.cancel()
        self._next_turn()

    def _next_turn(self) -> None:
        while self._turn is None and self._queue:
            statement, send = self._queue.popitem(last=False)
            self._turn = statement
            if send(statement):
                self._turn_timer = self._loop.call_later(self._turn_s, self._end_turn)
            else:
                self._turn = None

    def stop(self) -> None:
        """Judge nothing more."""
        self._queue.clear()
        self._then.clear()
        if self._turn_timer is not None:
            self._turn_timer.cancel()
