"""Statements of callers inside this process, the sessions of the MySQL port, for the upstream CubeStore."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from cubequeue_server.requests.ask import Ask
from protocol.client_codec import ErrorReply, decode_rows, encode_query
from protocol.envelope import read_message_id
from protocol.errors import ProtocolError
from protocol.pieces import Message, Pieces
from storage.asking import Outcome
from storage.errors import UserError
from storage.vocabulary import Cell, Columns, ColumnType, OtherSql, Result, Statement, SysForeign

if TYPE_CHECKING:
    from cubequeue_server.engines.upstream.link import Link
    from cubequeue_server.engines.upstream.upstream import Upstream

_SLICE_S: Final = 0.001  # of decoding, until others have a turn
_ENDED: Final = "the session has ended"


class RelayedCalls:
    """One session, with a link of its own, for each caller that asks; `forget` ends it.

    Answers come in the legacy format, whose values are all text. One of more than `max_reply_bytes` is an error.
    """

    def __init__(self, upstream: Upstream, max_reply_bytes: int) -> None:
        self._upstream = upstream
        self._max_reply_bytes = max_reply_bytes
        self._sessions: dict[int, _Session] = {}  # by the number of the caller's connection

    def call(self, statement: Statement, connection: int) -> Ask:
        """Ask the CubeStore; the returned object is done with its answer."""
        session = self._sessions.get(connection)
        if session is None:
            session = self._sessions[connection] = _Session(self._upstream, self._max_reply_bytes)
        return session.call(statement)

    def forget(self, connection: int) -> None:
        """A caller has gone."""
        session = self._sessions.pop(connection, None)
        if session is not None:
            session.close()


class _Session:
    def __init__(self, upstream: Upstream, max_reply_bytes: int) -> None:
        self._link: Link = upstream.open(None, None, self._deliver)
        self._max_reply_bytes = max_reply_bytes
        self._connection_id = str(uuid.uuid4())
        self._asks: dict[int, Ask] = {}
        self._last_id = 0
        self._decoding: set[asyncio.Task[None]] = set()

    def call(self, statement: Statement) -> Ask:
        self._last_id += 1
        message_id, connection_id = self._last_id, self._connection_id
        text, parameters = _text_of(statement)
        message = encode_query(message_id, text, parameters, connection_id=connection_id)
        ask = self._asks[message_id] = Ask(None)
        # In the next turn: an answer at once must not come before the caller has taken the object up.
        submit: Callable[..., None] = self._link.submit
        key = (b"", connection_id.encode(), message_id)
        asyncio.get_running_loop().call_soon(submit, message_id, key, message, 0)
        return ask

    def _deliver(self, message: Message) -> None:
        head = message.pieces[0] if isinstance(message, Pieces) else message
        ask = self._asks.pop(read_message_id(head) or 0, None)
        if ask is not None:
            task = asyncio.get_running_loop().create_task(self._finish(ask, message))
            self._decoding.add(task)
            task.add_done_callback(self._decoding.discard)

    async def _finish(self, ask: Ask, message: Message) -> None:
        outcome: Outcome
        if len(message) > self._max_reply_bytes:
            outcome = UserError(
                f"an answer of {len(message)} bytes, more than {self._max_reply_bytes}, is not supported on this port:"
                " ask for fewer columns, or for rows with LIMIT"
            )
        else:
            try:
                outcome = await _decoded(message)
            except ProtocolError as error:
                outcome = UserError(f"CubeStore answered with bytes that are no reply: {error}")
        ask.done(outcome)

    def close(self) -> None:
        self._link.close()
        asks, self._asks = self._asks, {}
        for ask in asks.values():
            ask.done(UserError(_ENDED))


def _text_of(statement: Statement) -> tuple[bytes, tuple[Cell, ...] | None]:
    if isinstance(statement, SysForeign):
        return b"SYS " + statement.text.encode(), None
    assert isinstance(statement, OtherSql), "QUEUE and CACHE stay here"
    return statement.text, statement.parameters or None


async def _decoded(message: Message) -> Outcome:
    """The outcome that a reply tells; others have their turn while it is decoded. Raises ProtocolError."""
    reply = decode_rows(b"".join(message.pieces) if isinstance(message, Pieces) else message)
    if isinstance(reply, ErrorReply):
        return UserError(reply.text)
    names, decoding = reply
    rows = []
    slice_ends_s = time.monotonic() + _SLICE_S
    for row in decoding:
        rows.append(row)
        if time.monotonic() > slice_ends_s:
            await asyncio.sleep(0)
            slice_ends_s = time.monotonic() + _SLICE_S
    return Result(Columns(*((name, ColumnType.STRING) for name in names)), rows)
