"""What all statements of the engine share: calls, places, time, numbers, kept answers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from struct import Struct
from typing import Final, Protocol

from cubequeue_server.engines.shared_store.calls import Call, Then
from cubequeue_server.engines.shared_store.clock import StoreClock
from cubequeue_server.engines.shared_store.connection import Reply, bulks
from cubequeue_server.engines.shared_store.kept import KeptAnswers
from cubequeue_server.engines.shared_store.large import GONE, LARGE_BYTES, LargeValues
from cubequeue_server.engines.shared_store.rows import LargeValue, read_stored, stored
from cubequeue_server.engines.shared_store.scripts import KEPT, Script
from cubequeue_server.engines.shared_store.shards import Shards
from storage.asking import Later, NewLater
from storage.errors import InternalError, StatementError, UserError
from storage.limits import AnswerLimits, QueueLimits
from storage.vocabulary import RequestKey, Result, Value

_BOUNDS: Final = Struct(">9Q")
_NO_KEY: Final = b"$0\r\n\r\n"
NO_ROOM_FOR_ANSWERS: Final = (
    "refused: the answers kept for clients that might ask again fill the room that"
    " CUBEQUEUE_ANSWERS_MAX_SIZE allows, and none of them is known to have arrived"
)
# Makes the result of a statement from the value that its reply referred to.
OfValue = Callable[[Value | None], Result]


class Sender(Protocol):
    """What sends calls (`links.Links`)."""

    def send(self, call: Call) -> None:
        """Raises TooBusyError."""

    def on_other(self, call: Call, reply: Reply) -> None:
        """Replies that are no plain '='."""


class Core:
    """One engine's own part of the store.

    `exact_ms` is the time to go by in tests; else each script asks its engine, and `clock` is a lower bound of that.
    """

    def __init__(
        self,
        shards: Shards,
        clock: StoreClock,
        new_later: NewLater,
        *,
        call_soon: Callable[..., object],
        queue_limits: QueueLimits,
        answer_limits: AnswerLimits,
        is_exact: bool,
    ) -> None:
        self.shards = shards
        self.clock = clock
        self.new_later = new_later
        self.call_soon = call_soon
        self.queue_limits = queue_limits
        self.answer_limits = answer_limits
        self._is_exact = is_exact
        self._exact_ms = 0
        self._last_number = 0
        self.grace_until_ms = 0
        self.sender: Sender
        self.large: LargeValues
        self.kept = KeptAnswers(self._drop_answers)
        self.bounds: list[bytes] = []
        self.drop_answers: Callable[[int, RequestKey, list[int]], None]
        self._gates: dict[
            int, deque[Callable[[], object]]
        ] = {}  # by shard: what waits there for a statement of two steps
        self.items_elsewhere = self.bytes_elsewhere = [0] * shards.count
        self.set_room([0] * shards.count, [0] * shards.count, [0] * shards.count)

    def _drop_answers(self, shard: int, key: RequestKey, message_ids: list[int]) -> None:
        self.drop_answers(shard, key, message_ids)

    @property
    def is_in_grace(self) -> bool:
        """Whether nothing counts as stalled, because workers could not reach the store a moment ago."""
        return self.grace_until_ms > self.now_ms

    # Time and numbers.

    def see(self, now_ms: int) -> None:
        """In tests, the time of a statement."""
        self._exact_ms = max(self._exact_ms, now_ms)

    @property
    def now_ms(self) -> int:
        """The time of the store, as far as it is known here."""
        return self._exact_ms if self._is_exact else self.clock.now_ms

    def time(self) -> bytes:
        """The argument `clock` of a script, as a word of a command."""
        text = b"=%d" % self._exact_ms if self._is_exact else b"%d" % self.clock.now_ms
        return b"$%d\r\n%b\r\n" % (len(text), text)

    def next_number(self) -> int:
        """The lowest number that the next item or entry may get. It rises with each, so that what this server adds
        has the order in which it was added, in whichever shard."""
        self._last_number = max(self._last_number + 1, self.shards.number_at(self.now_ms))
        return self._last_number

    def saw_number(self, number: int) -> None:
        """The store gave this number."""
        self._last_number = max(self._last_number, number)

    def set_room(self, answer_bytes: list[int], items: list[int], queue_bytes: list[int]) -> None:
        """How much of each there is in each shard: what the others leave is a shard's room."""
        queue, answers = self.queue_limits, self.answer_limits
        answers_elsewhere = _elsewhere(answer_bytes)
        self.items_elsewhere, self.bytes_elsewhere = _elsewhere(items), _elsewhere(queue_bytes)
        self.bounds = []
        for shard in range(self.shards.count):
            bounds = _BOUNDS.pack(
                answers.keep_ms,
                answers.keep_undelivered_ms,
                max(answers.max_bytes - answers_elsewhere[shard], 0),
                max(queue.max_items - self.items_elsewhere[shard], 0),
                max(queue.max_bytes - self.bytes_elsewhere[shard], 0),
                queue.item_life_ms,
                queue.orphaned_item_life_ms,
                queue.results_expire_ms,
                self.shards.count,
            )
            self.bounds.append(word(bounds))

    # Calls.

    def call(self, script: Script, shard: int, words: bytes, then: Then, *, may_repeat: bool = True) -> None:
        """Call a script that keeps no answer. `words` are its arguments behind the time."""
        request = b"%b%b%b" % (self.shards.head(script, shard), self.time(), words)
        self.send(Call(self.sender, shard, script, request, then, may_repeat=may_repeat))

    def keyed(
        self,
        script: Script,
        shard: int,
        key: RequestKey | None,
        words: bytes,
        then: Then,
        *,
        piece_keys: list[bytes] | None = None,
    ) -> None:
        """Call a script that looks for a kept answer and keeps one. `words` are its arguments behind the bounds."""
        self.send(self.keyed_call(script, shard, key, words, then, piece_keys=piece_keys))

    def keyed_call(
        self,
        script: Script,
        shard: int,
        key: RequestKey | None,
        words: bytes,
        then: Then,
        *,
        piece_keys: list[bytes] | None = None,
    ) -> Call:
        """The same, to be sent."""
        shards = self.shards
        if piece_keys:
            head = shards.head_of(script, shard, len(piece_keys), 0)
            keys = shards.answer_keys(shard, key) + bulks(piece_keys)
        else:
            head, keys = shards.head(script, shard), shards.answer_keys(shard, key)
        if key is None:
            mid = _NO_KEY
        else:
            digits = b"%d" % key[2]
            mid = b"$%d\r\n%b\r\n" % (len(digits), digits)
        request = b"%b%b%b%b%b%b" % (head, keys, self.time(), mid, self.bounds[shard], words)
        call = Call(self.sender, shard, script, request, then, may_repeat=key is not None)
        call.key = key
        return call

    def kept_request(self, call: Call) -> bytes:
        """The request that looks for the kept answer of a call, and does nothing else."""
        shards, key = self.shards, call.key
        assert key is not None
        mid = word(b"%d" % key[2])
        keys = shards.answer_keys(call.shard, key)
        return b"%b%b%b%b%b" % (shards.head(KEPT, call.shard), keys, self.time(), mid, self.bounds[call.shard])

    def send(self, call: Call) -> None:
        """Send a call, behind what its shard is held for."""
        if self._gates and call.shard in self._gates:
            self._gates[call.shard].append(partial(self.send, call))
        else:
            self.sender.send(call)

    # Statements of several steps: what comes later for their shard waits until they are done.

    def in_order(self, shard: int, begin: Callable[[], object]) -> None:
        """Begin a statement of several steps, when no other one is under way in its shard. It ends with `let_go`, and
        sends its own calls by `sender`."""
        if shard in self._gates:
            self._gates[shard].append(partial(self.in_order, shard, begin))
        else:
            self._gates[shard] = deque()
            begin()

    def let_go(self, shard: int) -> None:
        """It is done."""
        waiting = self._gates.pop(shard)
        while waiting:
            if shard in self._gates:
                self._gates[shard].extend(waiting)
                return
            waiting.popleft()()

    # Outcomes.

    def error_of(self, reply: list[Reply] | StatementError) -> StatementError:
        """The error that every statement may meet; others are their statement's own."""
        if isinstance(reply, StatementError):
            return reply
        if reply[0] == b"E" and reply[1] == b"answers":
            self.kept.press(is_short=True)
            return UserError(NO_ROOM_FOR_ANSWERS)
        return InternalError(f"the store answered {reply!r:.200}")

    def answer(self, later: Later, shard: int, key: RequestKey | None, text: bytes | None, of_value: OfValue) -> None:
        """Answer with a result that holds a stored value, which is read first if it is a large one."""
        if key is not None:
            self.kept.note(key, shard)
        value = None if text is None else read_stored(text)
        if type(value) is LargeValue:
            self.large.read(shard, value, partial(_answer_large, later, of_value))
        else:
            later.done(of_value(value))  # type: ignore[arg-type]  # it is no large one

    def with_value(
        self,
        shard: int,
        value: Value,
        later: Later,
        then: Callable[[bytes, list[bytes]], None],
        *,
        is_result: bool = False,
    ) -> None:
        """Call `then` with what the value is stored as and the keys of its pieces, if it has any, now or later."""
        if len(value) <= LARGE_BYTES:
            then(stored(value), [])
            return

        def on_stored(text: bytes | StatementError, keys: list[bytes]) -> None:
            if isinstance(text, StatementError):
                later.done(text)
                return
            try:
                then(text, keys)
            except StatementError as error:
                later.done(error)

        self.large.put(shard, value, on_stored, is_result=is_result)


def _answer_large(later: Later, of_value: OfValue, value: Value | StatementError | None) -> None:
    if value is None:
        later.done(InternalError(GONE))
    elif isinstance(value, StatementError):
        later.done(value)
    else:
        later.done(of_value(value))


def _elsewhere(by_shard: list[int]) -> list[int]:
    total = sum(by_shard)
    return [total - each for each in by_shard]


def word(text: bytes) -> bytes:
    """An argument, as a word of a command."""
    return b"$%d\r\n%b\r\n" % (len(text), text)


def optional(text: bytes | None) -> bytes:
    """An argument that may be missing: after one byte, or empty."""
    return b"" if text is None else b"=" + text
