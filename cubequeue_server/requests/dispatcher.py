"""A request to its answer: joined, executed, parked, waited for, encoded, handed over."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final, TypeAlias

from cubequeue_server.observe.counters import Counters
from cubequeue_server.observe.histogram import observe
from cubequeue_server.options import ServerOptions
from cubequeue_server.requests.calls import Call, Calls
from cubequeue_server.requests.connection import Connection
from cubequeue_server.requests.in_flight import InFlight, InFlightTable
from cubequeue_server.requests.long_replies import LongReplies
from cubequeue_server.requests.open_statements import OF_SQL, SEEN_WAS_LOST, OpenStatements
from cubequeue_server.requests.outbox import Outbox
from cubequeue_server.requests.replies import DurabilityGate
from cubequeue_server.requests.statement_log import StatementLog, UnforeseenError
from cubequeue_server.requests.waits import Waits
from protocol.arrow import arrow_message
from protocol.decode import response_format_refusal
from protocol.encode import encode_error, result_message
from protocol.errors import ReplyTooLargeError, StatementSyntaxError
from protocol.messages import Request, ResponseFormat
from protocol.parser import parse_statement
from protocol.pieces import STEP_ROWS, Message, Pieces
from storage.engine import Caller, Outcome, Pending, Reply, RequestKey, Store
from storage.errors import StatementError
from storage.vocabulary import OtherSql, Result, Statement, SysForeign

_log = logging.getLogger(__name__)

_LEGACY = int(ResponseFormat.LEGACY)

SqlEngine = Callable[[OtherSql | SysForeign, int], Result | Pending]

# A longer answer of a SELECT is refused: it is held in memory as a whole until it was sent.
MAX_SELECT_REPLY_BYTES: Final = 16 << 20

# Who is to get the answer to a statement that was executed: connection, message id, the key that the answer is kept
# under, the kind of statement, when it began in ns.
_Executed: TypeAlias = tuple[Connection, int, RequestKey | None, type[Statement], int]


class Dispatcher:
    """Executes the requests of all connections, one after the other.

    A statement that is answered at once passes through here without anything being remembered of it. Of one that
    waits for the journal alone the encoded answer is parked; `InFlight` is made for those whose answer comes later.
    """

    def __init__(
        self,
        *,
        options: ServerOptions,
        store: Store,
        sql: SqlEngine,
        clock_ns: Callable[[], int],
        counters: Counters,
        outbox: Outbox,
        on_lost: Callable[[Connection], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.counters = counters
        self.on_lost = on_lost
        self._options = options
        self._max_in_flight = options.max_in_flight
        self._durations = counters.durations
        self._statement_log = StatementLog(options.slow_statement_ms)
        self._logged_ns = self._statement_log.threshold_ns
        self._store = store
        self._sql = sql
        self._clock_ns = clock_ns
        self._outbox = outbox
        self._in_flight = InFlightTable(options.processing_kept_s, time.monotonic)
        self._loop = loop
        self._gate: DurabilityGate[InFlight, Message] = DurabilityGate(store, self._deliver)
        self._executed: DurabilityGate[_Executed, Message] = DurabilityGate(store, self._deliver_executed)
        self._waits = Waits(loop, self._give_up)
        self._open = OpenStatements(store, self._waits, self._now_ms)
        self._calls = Calls(store, self._execute_call, self._open)
        self._long_replies = LongReplies(loop, self._on_encoded)
        self._end_wait = self._on_outcome  # one method object for all that are in flight
        store.on_durable(self._on_durable)
        store.on_failed(self._on_failed)

    @property
    def in_flight(self) -> int:
        """Requests that were begun and not answered."""
        return len(self._in_flight) + len(self._executed) + len(self._calls)

    # Requests

    def dispatch(self, connection: Connection, request: Request) -> None:
        """Answer `request` on `connection`, now or later. Raises nothing."""
        connection_id, message_id = request.connection_id, request.message_id
        key: RequestKey | None = None
        if connection_id is not None:
            if connection.is_repeat(connection_id, message_id):
                self.counters.repeats_dropped += 1
                return
            key = connection.key_of(message_id)
            if (in_flight := self._in_flight.find(key)) is not None:
                self.counters.repeats_joined += 1
                self._in_flight.join(in_flight, connection)
                return
        if request.response_format or connection.in_flight >= self._max_in_flight:
            refusal = self._refusal(connection, request)
            if refusal is not None:
                connection.tell(message_id, refusal)
                return
        started_ns = self._clock_ns()  # once for all: the clock is a fifth of what a small statement costs
        try:
            statement = parse_statement(request.query, request.parameters)
        except StatementSyntaxError as error:
            self.counters.syntax_errors += 1
            connection.tell(message_id, error.wire_text)
        except Exception as error:  # one request must not take others down
            connection.tell(message_id, self.unforeseen(error))
        else:
            self._answer(connection, request, statement, key, started_ns)

    def _refusal(self, connection: Connection, request: Request) -> str | None:
        limit = self._max_in_flight
        if connection.in_flight >= limit:
            self.counters.overloaded += 1
            return f"{connection.in_flight} requests of this connection wait for an answer, the limit is {limit}"
        return response_format_refusal(request)

    def _answer(
        self, connection: Connection, request: Request, statement: Statement, key: RequestKey | None, started_ns: int
    ) -> None:
        outcome = self._execute(connection.caller, statement, key, started_ns // 1_000_000)
        kept_key = key if statement.has_effects else None
        if type(outcome) is Reply and len(outcome.result.rows) <= STEP_ROWS:
            answer, is_result = self._encode(request.message_id, request.response_format, outcome)
            kept_key = kept_key if is_result else None
            if outcome.commit_seq <= self._store.durable_seq:
                connection.answer(answer, kept_key)
            else:
                # It waits for the journal alone. A repeat need not find it: the store keeps the answer, if it matters.
                connection.in_flight += 1
                executed = (connection, request.message_id, kept_key, type(statement), started_ns)
                self._executed.deliver(executed, answer, outcome.commit_seq)
        else:
            if isinstance(outcome, StatementError):
                self._statement_log.tell_error(connection, request, statement, outcome)
            self._defer(InFlight(connection, request, type(statement), key, kept_key, self._end_wait), outcome)
        duration_ns = self._clock_ns() - started_ns
        histogram = self._durations[type(statement)]
        if 0 < duration_ns < self._logged_ns:
            histogram[duration_ns.bit_length()] += 1
            histogram[0] += duration_ns
        else:
            observe(histogram, duration_ns)
            self._statement_log.tell(connection, request, statement, duration_ns)

    def _execute(self, caller: Caller, statement: Statement, key: RequestKey | None, now_ms: int) -> Outcome | Pending:
        try:
            if isinstance(statement, OF_SQL):
                answer = self._sql(statement, now_ms)
                return answer if isinstance(answer, Pending) else Reply(answer, self._store.applied_seq)
            return self._store.execute(statement, caller, key, now_ms)
        except StatementError as error:
            self.counters.statement_errors += 1
            return error
        except Exception as error:  # one request must not take others down
            return UnforeseenError(self.unforeseen(error))

    # Calls from inside the process

    def call(self, statement: Statement, caller: Caller, tell: Callable[[Outcome], None]) -> Call:
        """Execute a statement and have `tell` called with its outcome, now or later. Raises nothing."""
        return self._calls.begin(statement, caller, tell)

    def give_up_call(self, call: Call) -> None:
        """Nobody listens to a call any more: if it waits for something, it need not."""
        self._open.give_up(call)

    def _execute_call(self, statement: Statement, caller: Caller) -> Outcome | Pending:
        started_ns = self._clock_ns()
        outcome = self._execute(caller, statement, None, started_ns // 1_000_000)
        observe(self._durations[type(statement)], self._clock_ns() - started_ns)
        return outcome

    # Answers that come later

    def _defer(self, request: InFlight, outcome: Outcome | Pending) -> None:
        self._in_flight.add(request)
        if isinstance(outcome, Pending):
            self._open.begin(request, outcome)
        else:
            self._complete(request, outcome)

    def _on_outcome(self, request: InFlight, outcome: Outcome) -> None:
        outcome = self._open.end(request, outcome)
        if not isinstance(outcome, Reply):
            self.counters.statement_errors += 1
        self._complete(request, outcome)
        self._outbox.flush_soon()

    def _complete(self, request: InFlight, outcome: Outcome) -> None:
        if isinstance(outcome, Reply) and len(outcome.result.rows) > STEP_ROWS:
            self._long_replies.add(request, outcome)
        else:
            self._hand_over(request, outcome, *self._encode(request.message_id, request.response_format, outcome))

    def _on_encoded(self, request: InFlight, reply: Reply, made: Pieces | Exception) -> None:
        answer: Message
        if isinstance(made, Exception):
            answer = encode_error(request.message_id, self._error_text(made))
        elif request.statement in OF_SQL and len(made) > MAX_SELECT_REPLY_BYTES:
            text = (
                f"SELECT with an answer of {len(made)} bytes, more than {MAX_SELECT_REPLY_BYTES}, is not"
                " supported here: ask for fewer columns, for rows with LIMIT, or on the MySQL port"
            )
            answer = encode_error(request.message_id, text)
        else:
            answer = made
        self._hand_over(request, reply, answer, is_result=answer is made)
        self._outbox.flush_soon()

    def _hand_over(self, request: InFlight, outcome: Outcome, answer: Message, is_result: bool) -> None:
        if not is_result:
            request.kept_key = None
        commit_seq = outcome.commit_seq if isinstance(outcome, Reply) else self._store.applied_seq
        self._gate.deliver(request, answer, commit_seq)

    def _deliver(self, request: InFlight, answer: Message) -> None:
        self._in_flight.remove(request)
        observe(self.counters.waits[request.statement], int((time.monotonic() - request.since_s) * 1e9))
        is_delivered = False
        for connection in request.receivers:
            if connection.is_open:
                connection.answer(answer, request.kept_key)
                is_delivered = True
        if not is_delivered:
            self.counters.answers_undelivered += 1
            if request.kept_key is not None:
                self._store.mark_undelivered(request.kept_key)

    def _deliver_executed(self, executed: _Executed, answer: Message) -> None:
        connection, _, kept_key, statement, started_ns = executed
        connection.in_flight -= 1
        observe(self.counters.waits[statement], self._clock_ns() - started_ns)
        if connection.is_open:
            connection.answer(answer, kept_key)
        else:
            self.counters.answers_undelivered += 1
            if kept_key is not None:
                self._store.mark_undelivered(kept_key)

    def _on_durable(self) -> None:
        self._executed.release()
        self._gate.release()
        self._calls.release()
        self._outbox.flush_soon()

    def _on_failed(self, text: str, kept_seq: int) -> None:
        def error_for(request: InFlight) -> bytes:
            request.kept_key = None
            return encode_error(request.message_id, text)

        self._open.lost()

        def error_for_executed(executed: _Executed) -> bytes:
            return encode_error(executed[1], text)

        self._long_replies.fail(kept_seq, StatementError(SEEN_WAS_LOST))
        self._executed.fail(error_for_executed, kept_seq)
        self._gate.fail(error_for, kept_seq)
        self._calls.fail(text, kept_seq)
        self._outbox.flush_soon()

    def _give_up(self, due: list[Pending]) -> None:
        now_ms = self._now_ms()
        for pending in due:
            self._store.give_up(pending, now_ms)
        self._outbox.flush()

    # Encoding

    def _encode(self, message_id: int, response_format: int, outcome: Outcome) -> tuple[Message, bool]:
        """The message with the answer, and whether that is a result and not an error."""
        if not isinstance(outcome, Reply):
            return encode_error(message_id, outcome.wire_text), False
        try:
            encode = arrow_message if response_format != _LEGACY else result_message
            return encode(message_id, outcome.result), True
        except Exception as error:  # one request must not take others down
            return encode_error(message_id, self._error_text(error)), False

    def _error_text(self, error: Exception) -> str:
        """What a client is told when its reply could not be encoded."""
        if isinstance(error, ReplyTooLargeError):
            return error.text
        return error.wire_text if isinstance(error, StatementError) else self.unforeseen(error)

    def unforeseen(self, error: Exception) -> str:
        """Log what nobody foresaw, and give the text that the client gets."""
        self.counters.internal_errors += 1
        _log.exception("a request failed unexpectedly", exc_info=error)
        return f"Internal: unexpected {type(error).__name__}, see the log of cubequeue"

    def oversize_text(self, size_bytes: int) -> str:
        """The HttpError for a message above the limit (wire.md §2)."""
        return (
            f"Request of {size_bytes} bytes exceeds the maximum message size of {self._options.max_message_bytes} "
            "bytes. Reduce the size of the query, e.g. by sending fewer or smaller inline tables, or raise "
            "CUBESTORE_TRANSPORT_MAX_MESSAGE_SIZE."
        )

    # Upkeep

    def _now_ms(self) -> int:
        return self._clock_ns() // 1_000_000

    def confirm(self, keys: list[RequestKey]) -> None:
        """A peer proved that it received these answers."""
        self.counters.answers_confirmed += len(keys)
        self._store.confirm_delivered(keys)

    def forget_old(self) -> None:
        """Let repeats of requests in flight for over `processing_kept_s` run anew."""
        self._in_flight.forget_old()

    def stop_waiting(self) -> None:
        """Answer all waiters with no rows, now and from now on."""
        self._open.stop()
        self._waits.stop()
        self._store.end_waits(self._now_ms())
        self._outbox.flush()
