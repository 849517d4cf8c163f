"""A message to its answer: decoded, executed, encoded, sent; some answers come later.

message ─▶ session.receive ─▶ parse ─▶ engine.execute ─▶ Result ─▶ encode ─▶ client.send
                                           └▶ Ask ── later, complete ─▶ encode ─▶ client.send
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, cast

from cubequeue_server.net.outbox import Outbox
from cubequeue_server.net.websocket import UNSUPPORTED_DATA, LargeMessage
from cubequeue_server.observe.counters import Counters, observe
from cubequeue_server.options import ServerOptions
from cubequeue_server.requests.ask import RELAYED, Ask
from cubequeue_server.requests.client import Client
from cubequeue_server.requests.large_messages import LargeMessages
from cubequeue_server.requests.long_answers import LongAnswers
from cubequeue_server.requests.lost_results import end_without_room, refuse_oversized
from cubequeue_server.requests.monitor import Monitor
from cubequeue_server.requests.relay import Relay
from cubequeue_server.requests.statement_log import StatementLog, UnforeseenError, log_undecodable
from cubequeue_server.requests.timing_wheel import TimingWheel
from cubequeue_server.router import OF_SQL, Router
from cubequeue_server.turns import Turns
from protocol.arrow import arrow_message
from protocol.commands import parse_statement
from protocol.decode import response_format_refusal
from protocol.encode import encode_error, result_message
from protocol.envelope import read_message_id
from protocol.errors import DecodeError, ReplyTooLargeError, StatementSyntaxError
from protocol.large import LARGE_BYTES
from protocol.messages import Request
from protocol.oversized import read_oversized
from protocol.pieces import STEP_ROWS, Message, Pieces
from storage.asking import Caller, Later, Outcome
from storage.errors import NoRoomError, StatementError, UserError
from storage.vocabulary import (
    CacheKeys,
    Effect,
    OtherSql,
    QueueActive,
    QueueList,
    QueueOrphaned,
    QueuePending,
    QueueStalled,
    QueueToCancel,
    RequestKey,
    Result,
    Statement,
)

_log = logging.getLogger(__name__)

# By the response format that a request asks for (wire.md §5).
_ENCODERS: Final = (result_message, arrow_message)
_KEPT: Final = Effect.KEPT

# Statements that may have long answers, and what one counts for that waits: how long it gets is not known then.
_LISTS: Final = frozenset({CacheKeys, QueueActive, QueueList, QueueOrphaned, QueuePending, QueueStalled, QueueToCancel})
_LIST_BYTES: Final = 128 << 10

# Requests that are given up in one step, a tenth of a millisecond.
_GIVEN_UP_AT_ONCE: Final = 16

# A longer answer of a SELECT is refused: memory holds the whole of it until it is sent.
MAX_SELECT_REPLY_BYTES: Final = 16 << 20


class Dispatcher:
    """Executes the requests of all clients, one after the other.

    A request that is answered at once leaves nothing behind. A request that waits is an `Ask`.
    """

    def __init__(
        self,
        *,
        options: ServerOptions,
        router: Router,
        clock_ns: Callable[[], int],
        counters: Counters,
        outbox: Outbox,
        loop: asyncio.AbstractEventLoop,
        relay: Relay | None = None,
    ) -> None:
        self._relay = relay
        self.counters = counters
        self._options = options
        self._max_in_flight = options.max_in_flight
        self._durations = counters.durations
        self.monitor = Monitor(clock_ns)
        self.statement_log = StatementLog(options.slow_statement_ms, self.monitor)
        self._logged_ns = self.statement_log.threshold_ns
        self._router = router
        self._routes = router.routes
        self._clock_ns = clock_ns
        self._outbox = outbox
        self._loop = loop
        self._waiting: dict[RequestKey, Ask] = {}  # where a repeat finds its first message; the oldest first
        self.in_flight = 0  # requests without an answer yet
        self._wheel = TimingWheel(loop, self._give_up)
        self._is_stopping = False
        self._turns = Turns(outbox)
        self._long_answers = LongAnswers(self._turns, self._on_encoded, counters, options.max_all_begun_bytes)
        self._large_messages = LargeMessages(loop, self, router.store)

    def watch(self, *, is_on: bool) -> None:
        """Begin or end to note statements for the monitor."""
        if is_on and not self.monitor.is_on:
            self.monitor.start()
        elif not is_on:
            self.monitor.stop()
        self._logged_ns = self.statement_log.threshold_ns

    # Messages

    def receive(self, client: Client, message: bytes | memoryview, large: LargeMessage | None = None) -> bool:
        """Answer a message, now or later. Raises nothing. A memoryview is only valid during the call.

        `large` is the message where it is a large one. True if its texts are yet to be read.
        """
        session = client.session
        try:
            request = session.receive(message)
        except Exception as error:  # one message must not take the connection down
            if not isinstance(error, DecodeError):
                error = DecodeError(self._unforeseen(error), read_message_id(message))
            self.refuse_message(client, error)
            return False
        if request is None:
            self.counters.repeats_dropped += 1
            return False
        key: RequestKey | None = None
        if request.connection_id is not None:
            key = (session.user, request.connection_id, request.message_id)
            if key in self._waiting:
                self._join(self._waiting[key], client)
                return False
        if request.response_format or session.in_flight >= self._max_in_flight:
            refusal = self._refusal(client, request)
            if refusal is not None:
                client.fail(request.message_id, refusal)
                return False
        if large is None:
            self.answer(client, request, key, message)
            return False
        return self._begin_large(client, request, key, large)

    def receive_large(self, client: Client, message: LargeMessage) -> None:
        """The same for a large message, which is read in steps, or passed on unread."""
        if not self.receive(client, message.view, message):
            message.done()

    def _begin_large(self, client: Client, request: Request, key: RequestKey | None, message: LargeMessage) -> bool:
        if request.passes_on and self._relay is not None:
            began_ns = self._clock_ns()
            client.statements += 1
            self._relay.pass_on(client, request, key, message)
            observe(self._durations[OtherSql], self._clock_ns() - began_ns)
            return False
        if len(message.view) <= LARGE_BYTES:
            self.answer(client, request, key, message)
            return False
        self._large_messages.add(client, request, key, message)
        return True

    def receive_oversized(self, client: Client, message: bytes | memoryview) -> None:
        """Refuse a message above the size limit; only its head is read (wire.md §2)."""
        found = read_oversized(message)
        if found is None:
            self.refuse_message(client, DecodeError(f"{len(message)} bytes without a message id"))
        else:
            refuse_oversized(client, found, len(message), self._options.max_message_bytes, self.call)

    def refuse_message(self, client: Client, error: DecodeError) -> None:
        """Answer a message that is no request, as the error says."""
        self.counters.undecodable += 1
        client.undecodable += 1
        log_undecodable(client.caller.peer, client.undecodable, error.wire_text)
        if error.message_id is not None:
            client.fail(error.message_id, error.wire_text)
        if error.closes:
            client.websocket.close(UNSUPPORTED_DATA, "")

    def _refusal(self, client: Client, request: Request) -> str | None:
        limit, in_flight = self._max_in_flight, client.session.in_flight
        if in_flight >= limit and not request.passes_on:  # they are counted behind
            self.counters.overloaded += 1
            return f"{in_flight} requests of this connection wait for an answer, the limit is {limit}"
        return response_format_refusal(request)

    # Requests

    def refuse_text(self, client: Client, request: Request, error: Exception) -> None:
        """Answer a request whose text is no statement."""
        if not isinstance(error, StatementSyntaxError):
            client.fail(request.message_id, self._unforeseen(error))
            return
        self.counters.syntax_errors += 1
        self.statement_log.tell_syntax_error(client, request, error)
        if self.monitor.is_on:
            self.monitor.note(client, request, None, None, error.wire_text)
        client.fail(request.message_id, error.wire_text)

    def answer(
        self,
        client: Client,
        request: Request,
        key: RequestKey | None,
        message: bytes | memoryview | LargeMessage,
        statement: Statement | None = None,
    ) -> None:
        """Execute a request, and answer it now or later. `message` is all of it, for the CubeStore behind.

        `statement` is given where it was read before.
        """
        started_ns = self._clock_ns()  # only once: the clock is a fifth of the cost of a small statement
        message_id = request.message_id
        try:
            if statement is None:
                statement = parse_statement(request.query, request.parameters)
        except Exception as error:  # one request must not take others down
            self.refuse_text(client, request, error)
            return
        client.statements += 1
        kind = type(statement)
        reply: Message | None = None
        try:
            outcome = self._routes[kind].execute(statement, client.caller, key, started_ns // 1_000_000)
            if type(outcome) is Result and len(outcome.rows) <= STEP_ROWS:
                reply = _ENCODERS[request.response_format](message_id, outcome)
        except Exception as error:  # as above
            self._refuse(client, request, statement, key, error)
        else:
            try:
                if outcome is RELAYED and self._relay is not None:
                    self._relay.pass_on(client, request, key, message)
                elif reply is None:
                    self._wait(client, request, kind, outcome, key, started_ns)
                else:
                    client.send(reply)
                    if key is not None and statement.effect is _KEPT and client.session.sent(key, len(reply)):
                        client.ping(self._loop.time())
            except Exception as error:  # no second answer to a message that has one
                self._unforeseen(error)
        duration_ns = self._clock_ns() - started_ns
        histogram = self._durations[kind]
        if 0 < duration_ns < self._logged_ns:
            histogram[duration_ns.bit_length()] += 1
            histogram[0] += duration_ns
        else:
            observe(histogram, duration_ns)
            self.statement_log.tell(client, request, statement, duration_ns)

    def _refuse(
        self, client: Client, request: Request, statement: Statement, key: RequestKey | None, error: Exception
    ) -> None:
        if isinstance(error, StatementError):
            self.counters.statement_errors += 1
        elif not isinstance(error, ReplyTooLargeError):
            error = UnforeseenError(self._unforeseen(error))
        if isinstance(error, StatementError):
            self.statement_log.tell_error(client, request, statement, error)
        text = self._error_text(error)
        if isinstance(error, NoRoomError) and key is not None:
            end_without_room(client, key, error, lambda _: client.fail(request.message_id, text), self.call)
        else:
            client.fail(request.message_id, text)

    def _wait(  # noqa: PLR0917  # by position, which is faster: each write in a durable mode comes here
        self,
        client: Client,
        request: Request,
        statement: type[Statement],
        outcome: Result | Later,
        key: RequestKey | None,
        began_ns: int,
    ) -> None:
        """Answer a client when the `Later` is done, or when a long result has been encoded."""
        ask: Ask = Ask(None) if type(outcome) is Result else outcome  # type: ignore[assignment]  # engines make Asks
        ask.owner = self
        ask.client = client
        ask.message_id = request.message_id
        ask.response_format = request.response_format
        ask.statement = statement
        ask.request_key = key
        ask.began_ns = began_ns
        ask.repeats = ()
        ask.tell = None
        ask.tick = 0
        self.in_flight += 1
        client.session.in_flight += 1
        if key is not None:
            self._waiting[key] = ask
        if type(outcome) is Result:
            self._long_answers.add(ask, outcome)
        elif ask.timeout_ms is not None:
            client.waiting += 1
            self._limit(ask, ask.timeout_ms)
        elif statement in _LISTS:
            client.websocket.begin_answer(_LIST_BYTES)

    def _limit(self, ask: Ask, timeout_ms: int) -> None:
        """Give a request up after its timeout."""
        if self._is_stopping:
            self._loop.call_soon(self._give_up, [ask])
        else:
            self._wheel.add(ask, timeout_ms)

    def _join(self, ask: Ask, client: Client) -> None:
        """Answer a repeat of a request in flight, which may come from another connection, together with it."""
        self.counters.repeats_joined += 1
        if client is not ask.client and client not in ask.repeats:
            # Without those that have gone: a client may come back any number of times.
            ask.repeats = (*(each for each in ask.repeats if each.is_open), client)
            client.session.in_flight += 1

    # Calls from inside the process

    def call(
        self,
        statement: Statement,
        caller: Caller,
        tell: Callable[[Outcome], None],
        key: RequestKey | None = None,
    ) -> Ask | None:
        """Execute a statement; `tell` gets its outcome, now or later. Raises nothing.

        Returns the request if it waits.
        """
        started_ns = self._clock_ns()
        outcome: Outcome | Later
        try:
            outcome = self._routes[type(statement)].execute(statement, caller, key, started_ns // 1_000_000)
            if outcome is RELAYED and self._relay is not None:
                outcome = self._relay.call(statement, caller)
        except StatementError as error:
            self.counters.statement_errors += 1
            outcome = error.with_traceback(None)
        except Exception as error:  # one statement must not take others down
            outcome = UnforeseenError(self._unforeseen(error))
        observe(self._durations[type(statement)], self._clock_ns() - started_ns)
        if not isinstance(outcome, Later):
            tell(outcome)
            return None
        ask = cast(Ask, outcome)
        ask.owner = self
        ask.statement = type(statement)
        ask.began_ns = started_ns
        ask.tell = tell
        ask.tick = 0
        self.in_flight += 1
        if ask.timeout_ms is not None:
            self._limit(ask, ask.timeout_ms)
        return ask

    def give_up_call(self, ask: Ask) -> None:
        """Give up a call that nobody listens to any more."""
        self._give_up([ask])

    # Answers that come later

    def complete(self, ask: Ask, outcome: Outcome) -> None:
        """Answer a request with its outcome. Raises nothing."""
        if ask.tick:
            self._wheel.cancel(ask)
        if ask.statement in _LISTS and ask.tell is None and ask.client is not None:
            ask.client.websocket.end_answer(_LIST_BYTES)
        if type(outcome) is Result:
            if ask.tell is None and len(outcome.rows) > STEP_ROWS:
                self._long_answers.add(ask, outcome)
                return
        elif isinstance(outcome, StatementError):
            self.counters.statement_errors += 1
            self._tell_late_error(ask, outcome)
        if ask.tell is not None:
            self.in_flight -= 1
            observe(self.counters.waits[ask.statement], self._clock_ns() - ask.began_ns)
            ask.tell(outcome)
            return
        if isinstance(outcome, NoRoomError) and ask.request_key is not None and ask.client is not None:
            answer = encode_error(ask.message_id, outcome.wire_text)
            deliver = partial(self._deliver, ask, answer, is_kept=False)
            end_without_room(ask.client, ask.request_key, outcome, lambda _: deliver(), self.call)
            return
        if isinstance(outcome, StatementError) and ask.client is not None:
            ask.client.errors += 1
            ask.client.last_error = outcome.wire_text
        is_kept = ask.statement.effect is _KEPT and not isinstance(outcome, StatementError)
        try:
            if type(outcome) is Result:
                message: Message = _ENCODERS[ask.response_format](ask.message_id, outcome)
            elif isinstance(outcome, bytes):
                message = outcome
            else:
                message = encode_error(ask.message_id, outcome.wire_text)
        except Exception as error:  # one request must not take others down
            message, is_kept = encode_error(ask.message_id, self._error_text(error)), False
        self._deliver(ask, message, is_kept)

    def _tell_late_error(self, ask: Ask, error: StatementError) -> None:
        """Log an error that came later; the text of the statement and its request id are gone."""
        if ask.tell is None and (client := ask.client) is not None:
            client.refused += 1
            kind = ask.statement
            fields = {"family": kind.family, "command": kind.command, "message_id": ask.message_id}
            self.statement_log.tell_refused(client.caller, client.refused, error, lambda: fields)

    def _deliver(self, ask: Ask, message: Message, is_kept: bool) -> None:
        self.in_flight -= 1
        key = ask.request_key
        if key is not None and self._waiting.get(key) is ask:
            del self._waiting[key]
        duration_ns = self._clock_ns() - ask.began_ns
        histogram = self.counters.waits[ask.statement]
        if 0 < duration_ns < self._logged_ns:
            histogram[duration_ns.bit_length()] += 1
            histogram[0] += duration_ns
        else:
            observe(histogram, duration_ns)
        if ask.timeout_ms is not None and ask.client is not None:
            ask.client.waiting -= 1
        is_delivered = False
        for client in (ask.client, *ask.repeats):
            assert client is not None
            session = client.session
            session.in_flight -= 1
            if not client.websocket.is_open:
                continue
            is_delivered = True
            try:
                client.send(message)
                if is_kept and key is not None and session.sent(key, len(message)):
                    client.ping(self._loop.time())
            except Exception as error:  # one connection must not take the answers of others
                self._unforeseen(error)
        if not is_delivered:
            self.counters.answers_undelivered += 1
            if is_kept and key is not None:
                self._router.store.mark_undelivered(key)

    def _on_encoded(self, ask: Ask, made: Pieces | Exception) -> None:
        """Send a long answer, once it has been encoded."""
        if isinstance(made, Exception):
            self._deliver(ask, encode_error(ask.message_id, self._error_text(made)), is_kept=False)
        elif ask.statement in OF_SQL and len(made) > MAX_SELECT_REPLY_BYTES:
            text = (
                f"SELECT with an answer of {len(made)} bytes, more than {MAX_SELECT_REPLY_BYTES}, is not"
                " supported here: ask for fewer columns, for rows with LIMIT, or on the MySQL port"
            )
            self._tell_late_error(ask, UserError(text))
            self._deliver(ask, encode_error(ask.message_id, text), is_kept=False)
        else:
            self._deliver(ask, made, ask.statement.effect is _KEPT)

    def _give_up(self, due: list[Ask]) -> None:
        self._turns.add(self._give_up_all(due, self._clock_ns() // 1_000_000))

    def _give_up_all(self, due: list[Ask], now_ms: int) -> Iterator[None]:
        for start in range(0, len(due), _GIVEN_UP_AT_ONCE):
            for ask in due[start : start + _GIVEN_UP_AT_ONCE]:
                self._routes[ask.statement].give_up(ask, now_ms)
            yield

    # Errors

    def _error_text(self, error: Exception) -> str:
        """The text of the error that a client gets."""
        if isinstance(error, ReplyTooLargeError):
            return error.text
        return error.wire_text if isinstance(error, StatementError) else self._unforeseen(error)

    def _unforeseen(self, error: Exception) -> str:
        """Log an unforeseen error; returns the text that the client gets."""
        self.counters.internal_errors += 1
        _log.exception("a request failed unexpectedly", exc_info=error)
        return f"Internal: unexpected {type(error).__name__}, see the log of cubequeue"

    # Upkeep

    def on_pong(self, client: Client, payload: bytes) -> None:
        """A client has received every answer that was sent before the ping with this payload."""
        keys = client.session.on_pong(payload)
        if keys:
            self.counters.answers_confirmed += len(keys)
            self._router.store.confirm_delivered(keys)

    def forget_old(self) -> None:
        """Let repeats of requests in flight for over `processing_kept_s` run anew; the first ones stay in flight."""
        oldest_ns = self._clock_ns() - int(self._options.processing_kept_s * 1e9)
        while self._waiting:
            key, ask = next(iter(self._waiting.items()))
            if ask.began_ns >= oldest_ns:
                break
            del self._waiting[key]

    def stop_waiting(self) -> None:
        """Answer all waiting requests, and those that would wait from now on, without rows."""
        self._is_stopping = True
        self._large_messages.stop()
        self._wheel.stop()
        now_ms = self._clock_ns() // 1_000_000
        self._outbox.batch(lambda: self._router.end_waits(now_ms))
