"""An example of an engine whose state is elsewhere: what a shared store and a pass-through look like behind the seam.

    ExampleEngine  ──requests, those of one turn together──▶  Link  ──in their order──▶  Remote: a MemoryStore
          │                                                    │
     Later.done  ◀──────────in another turn, in any order──────┘

Every request is a script that the remote runs as a whole, as a Redis does. A link that is lost takes along what was on
its way, in both directions. What was sent and has no answer may have been executed: after a new connection it is asked
again under its request key, for the remote keeps the answer; without a key it ends with an error, unless a second
execution does no harm. What was not sent yet is sent then.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator
from dataclasses import dataclass
from functools import partial
from itertools import count
from random import Random
from typing import Any, Final, Generic, TypeAlias, TypeVar

from msgspec.structs import replace

from protocol.encode import encode_error, encode_result
from storage.asking import Caller, Later, NewLater, Outcome
from storage.errors import NoRoomError, StatementError, UserError
from storage.limits import AnswerLimits, CacheLimits, QueueLimits
from storage.memory import MemoryStore
from storage.queue.history import EndedItem
from storage.stats import PrefixTotalsTable, QueueFigures, QueueStatsTable
from storage.system_tables import SystemTable
from storage.vocabulary import (
    EMPTY_RESULT,
    Binary,
    Effect,
    Path,
    QueueResultBlocking,
    RequestKey,
    Result,
    Row,
    Statement,
)
from tests.asking import run
from tests.audit import audit

T = TypeVar("T")
CallSoon: TypeAlias = Callable[[Callable[[], None]], object]
# What the remote runs. It returns an outcome, or whatever the engine that sent it wants to know.
Script: TypeAlias = Callable[["Remote"], Any]

UNKNOWN: Final = "the connection to the store was lost: nobody knows whether this statement was executed"
READY_SHARE: Final = 0.3


class _Waiting(Later):
    """A RESULT_BLOCKING that waits at the remote, for the sake of a link."""

    __slots__ = ("link", "over")
    link: Link
    over: Callable[[Outcome], None]

    def done(self, outcome: Outcome) -> None:
        self.over(outcome)


class Remote:
    """The far end, which outlives all links. Several engines may share it."""

    def __init__(
        self, queue: QueueLimits, cache: CacheLimits, answers: AnswerLimits, first_id: int, random: Random
    ) -> None:
        self.store = MemoryStore(queue, cache, answers, first_id, random.random, _Waiting)
        self.numbers = count(1)  # of requests
        self._waiting: dict[int, _Waiting] = {}
        self._random = random

    def run(self, link: Link, number: int, script: Script) -> None:
        """Run a script; its answer goes back over the link, unless it waits."""
        self.store.queue.next_id += self._random.randrange(9)  # ids that are made of a clock and a shard have gaps
        try:
            outcome = script(self)
        except StatementError as error:
            outcome = error
        if isinstance(outcome, _Waiting):
            self._waiting[number] = outcome
            outcome.link = link
            outcome.over = partial(self._answer_waiting, number)
        else:
            link.reply(number, outcome)

    def _answer_waiting(self, number: int, outcome: Outcome) -> None:
        self._waiting.pop(number).link.reply(number, outcome)

    def give_up(self, number: int, now_ms: int) -> None:
        """End a wait; nothing happens when its answer is on its way."""
        if number in self._waiting:
            self.store.give_up(self._waiting[number], now_ms)

    def forget(self, link: Link) -> None:
        """End the waits for the sake of a link that is lost. Their answers go nowhere."""
        for number, waiting in list(self._waiting.items()):
            if waiting.link is link:
                self.give_up(number, 0)


class Link:
    """One connection. What is sent arrives in its order, the answers come back in any."""

    def __init__(self, remote: Remote, engine: ExampleEngine, call_soon: CallSoon, random: Random) -> None:
        self._remote = remote
        self._engine = engine
        self._call_soon = call_soon
        self._random = random
        self._replies: list[tuple[int, Any]] = []
        self.is_lost = False

    def send(self, requests: list[tuple[int, Script]]) -> None:
        """Have the remote run these."""
        self._call_soon(partial(self._arrive, requests))

    def _arrive(self, requests: list[tuple[int, Script]]) -> None:
        for number, script in requests:
            if not self._is_lost_here():
                self._remote.run(self, number, script)

    def reply(self, number: int, outcome: Any) -> None:
        """The remote's answer to a request."""
        if not self._replies:
            self._call_soon(self._deliver)
        self._replies.append((number, outcome))

    @property
    def has_answers(self) -> bool:
        """Whether any are on their way."""
        return bool(self._replies)

    def _deliver(self) -> None:
        """Some of the answers, whichever; the others come in later turns."""
        if self._is_lost_here():
            return
        self._random.shuffle(self._replies)
        for _ in range(self._random.randint(1, len(self._replies))):
            self._engine.take_answer(*self._replies.pop())
        if self._replies:
            self._call_soon(self._deliver)

    def _is_lost_here(self) -> bool:
        if not self.is_lost and self._engine.loses_link(self._engine):
            self.lose()
        return self.is_lost

    def lose(self) -> None:
        """Both ends learn of it, each in its own time."""
        self.is_lost = True
        self._remote.forget(self)
        self._call_soon(self._engine.reconnect)


@dataclass(eq=False)
class _Request:
    """What has no answer yet. `take` is called with it, or with an error."""

    script: Script
    take: Callable[[Any], None]
    may_be_repeated: bool
    waits: bool = False
    is_sent: bool = False


class _Answer(Generic[T]):
    """What a reading waits for."""

    def __init__(self) -> None:
        self._answers: list[T | StatementError] = []
        self.take = self._answers.append

    def __await__(self) -> Generator[None, None, T]:
        while not self._answers:
            yield  # to the loop, which comes back in its next turn
        [answer] = self._answers
        if isinstance(answer, StatementError):
            raise answer
        return answer


class ExampleEngine:
    """A `storage.engine.Store` over a `Remote`. `loses_link` is asked at each step of a link whether it ends there."""

    losses = 0  # no failover is played here: what the remote has executed is never lost

    def __init__(
        self,
        remote: Remote,
        call_soon: CallSoon,
        new_later: NewLater,
        random: Random,
        loses_link: Callable[[ExampleEngine], bool] = lambda _engine: False,
    ) -> None:
        self._remote = remote
        self._call_soon = call_soon
        self._new_later = new_later
        self._random = random
        self.loses_link = loses_link
        self._requests: dict[int, _Request] = {}  # by number, in the order in which they were asked
        self._waits: dict[Later, int] = {}
        self._is_more_due = False
        self._now_ms = 0
        self._gauges = remote.store.gauges()
        self._is_flush_due = False
        self.links = 0
        self._connect()

    # Requests.

    def _connect(self) -> None:
        self.links += 1
        self.link = Link(self._remote, self, self._call_soon, self._random)
        self._flush()

    def _ask(
        self, script: Script, take: Callable[[Any], None], *, may_be_repeated: bool = True, waits: bool = False
    ) -> int:
        number = next(self._remote.numbers)
        self._requests[number] = _Request(script, take, may_be_repeated, waits)
        if not self._is_flush_due:
            self._is_flush_due = True
            self._call_soon(self._flush)
        return number

    def _flush(self) -> None:
        """Send what was asked in this turn."""
        self._is_flush_due = False
        if self.link.is_lost:
            return
        unsent = {number: request.script for number, request in self._requests.items() if not request.is_sent}
        for number in unsent:
            self._requests[number].is_sent = True
        if unsent:
            self.link.send(list(unsent.items()))

    def take_answer(self, number: int, answer: Any) -> None:
        """The link brings an answer."""
        self._requests.pop(number).take(answer)

    def reconnect(self) -> None:
        """The link was lost, and there is a new one."""
        for number, request in list(self._requests.items()):
            if request.is_sent and not request.may_be_repeated:
                self.take_answer(number, UserError(UNKNOWN))
            request.is_sent = False
        self._connect()

    @property
    def may_lose_link_unnoticed(self) -> bool:
        """Whether no answer would be another one then: nothing on its way came before another, but waits."""
        sent = [request for request in self._requests.values() if request.is_sent]
        return all(request.may_be_repeated for request in sent) and sum(not request.waits for request in sent) <= 1

    # The engine.

    def execute(
        self, statement: Statement, caller: Caller, request_key: RequestKey | None, now_ms: int
    ) -> Result | Later:
        self._now_ms = now_ms
        timeout_ms = statement.timeout_ms if isinstance(statement, QueueResultBlocking) else 0
        later = self._new_later(timeout_ms or None)
        later.request_key = request_key

        def script(remote: Remote) -> Result | Later:
            """Asked again when it was given up already, a wait only looks whether there is an answer.

            A wait that is asked again takes the newest time that is known, as a tick does.
            """
            is_over = timeout_ms > 0 and later not in self._waits
            ask = replace(statement, timeout_ms=0) if is_over else statement
            return remote.store.execute(ask, caller, request_key, self._now_ms if timeout_ms else now_ms)

        number = self._ask(
            script,
            partial(self._complete, later),
            may_be_repeated=request_key is not None or statement.effect is not Effect.KEPT,
            waits=timeout_ms > 0,
        )
        if timeout_ms:
            self._waits[later] = number
        return later

    def _complete(self, later: Later, outcome: Result | StatementError) -> None:
        self._waits.pop(later, None)
        key = later.request_key
        if key is not None and self._random.random() < READY_SHARE and _may_be_ready(outcome):
            later.done(_encoded(key[2], outcome))
        else:
            later.done(outcome)

    def give_up(self, later: Later, now_ms: int) -> None:
        number = self._waits.pop(later, None)
        if number is not None:
            self._ask(lambda remote: remote.give_up(number, now_ms), _ignore)

    def end_waits(self, now_ms: int) -> None:
        for later in list(self._waits):
            self.give_up(later, now_ms)

    def confirm_delivered(self, request_keys: list[RequestKey]) -> None:
        self._ask(lambda remote: remote.store.confirm_delivered(request_keys), _ignore)

    def mark_undelivered(self, request_key: RequestKey) -> None:
        self._ask(lambda remote: remote.store.mark_undelivered(request_key), _ignore)

    def tick(self, now_ms: int, max_rows: int) -> bool:
        """Whether more was due at the last one: its answer comes later.

        One that arrives late takes the newest time that is known: the clock may have stepped back meanwhile.
        """
        self._now_ms = now_ms
        self._ask(lambda remote: remote.store.tick(self._now_ms, max_rows), self._ticked)
        self.look()
        return self._is_more_due

    def _ticked(self, is_more_due: bool) -> None:
        self._is_more_due = is_more_due

    def look(self) -> None:
        """Learn the gauges anew."""
        self._ask(lambda remote: remote.store.gauges(), self._looked)

    def _looked(self, gauges: dict[str, int]) -> None:
        self._gauges = gauges

    def write_ahead(self, statement: Statement) -> None:
        """It writes nothing."""

    def let_go(self, statement: Statement) -> None:
        """As above."""

    def check_invariants(self) -> None:
        audit(self._remote.store)
        assert all(self._requests[number].waits for number in self._waits.values())

    # What people look at.

    def settled(self, losses: int) -> Later | None:
        """What was read has been answered, and so is durable; an engine with replicas would ask them."""
        later = self._new_later(None)
        self._ask(lambda _remote: EMPTY_RESULT, later.done)
        return later

    async def _read(self, read: Callable[[MemoryStore], T]) -> T:
        answer: _Answer[T] = _Answer()
        self._ask(lambda remote: read(remote.store), answer.take)
        return await answer

    async def _slices(self, read: Callable[[MemoryStore], AsyncIterator[list[T]]]) -> AsyncIterator[list[T]]:
        """A real one would ask page by page."""
        for some in await self._read(lambda store: run(_all(read(store)))):
            yield some

    def read_table(self, table: SystemTable) -> AsyncIterator[list[Row]]:
        return self._slices(lambda store: store.read_table(table))

    def take_cancels(self) -> list[EndedItem]:
        return []  # the remote store is the one that knows

    async def queue_stats(self) -> QueueStatsTable:
        return await self._read(lambda store: store.queue.stats)

    def queue_figures(self, now_ms: int) -> AsyncIterator[list[QueueFigures]]:
        return self._slices(lambda store: store.queue_figures(now_ms))

    def waited_paths(self) -> AsyncIterator[list[Path | None]]:
        return self._slices(MemoryStore.waited_paths)

    async def cache_totals(self) -> PrefixTotalsTable:
        return await self._read(lambda store: store.cache.totals)

    def gauges(self) -> dict[str, int]:
        return self._gauges


def _ignore(_answer: object) -> None:
    """Nobody waits for it."""


def _may_be_ready(outcome: Result | StatementError) -> bool:
    """A message of the old format cannot tell binary from text, and the shell acts upon some errors."""
    if isinstance(outcome, Result):
        return not any(isinstance(cell, Binary) for row in outcome.rows for cell in row)
    return not isinstance(outcome, NoRoomError)


def _encoded(message_id: int, outcome: Result | StatementError) -> bytes:
    """The message that a server behind would send."""
    if isinstance(outcome, Result):
        return encode_result(message_id, outcome)
    return encode_error(message_id, outcome.wire_text)


async def _all(slices: AsyncIterator[T]) -> list[T]:
    return [some async for some in slices]
