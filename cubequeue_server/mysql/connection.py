"""One MySQL client from its handshake to its end (mysql.md).

mysql-mimic makes the greeting, leads the authentication exchange and writes the packets that are not rows. What a
client sends is read by `protocol`: the library's readers never end on a text that is not closed, and its loop over
commands goes on after a refused password.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

from mysql_mimic import packets
from mysql_mimic.charset import CharacterSet
from mysql_mimic.connection import Connection as MimicConnection
from mysql_mimic.control import LocalControl
from mysql_mimic.session import BaseSession
from mysql_mimic.types import Capabilities, ColumnType, ServerStatus
from mysql_mimic.variables import SYSTEM_VARIABLES, GlobalVariables, SessionVariables

from cubequeue_server.mysql.authentication import Identities
from cubequeue_server.mysql.statements import (
    MAX_PREPARED_TEXT_BYTES,
    PreparedStatements,
    answer_variables,
    checked_text,
)
from cubequeue_server.mysql.stream import GoneError, PacketStream, PacketTooLargeError
from cubequeue_server.net.unfinished import Unfinished
from cubequeue_server.observe.counters import Counters
from cubequeue_server.requests.ask import Ask
from protocol.commands import parse_statement
from protocol.errors import ProtocolError, StatementSyntaxError
from protocol.mysql_login import asks_for_tls, read_change_user, read_login
from protocol.mysql_parameters import MalformedPacketError, read_parameters
from protocol.mysql_rows import binary_row, is_longlong, text_row
from protocol.placeholders import count_placeholders
from storage.asking import ANYBODY, Caller, Outcome
from storage.errors import StatementError, UserError
from storage.vocabulary import Cell, Result, Statement
from storage.vocabulary import ColumnType as CellType

_log = logging.getLogger(__name__)

SERVER_VERSION: Final = "5.1.10-alpha-msql-proxy"
CAPABILITIES: Final = (
    Capabilities.CLIENT_PROTOCOL_41
    | Capabilities.CLIENT_PLUGIN_AUTH
    | Capabilities.CLIENT_SECURE_CONNECTION
    | Capabilities.CLIENT_CONNECT_WITH_DB
)
_CHARSET: Final = CharacterSet.utf8mb4
_VARIABLES: Final = {**SYSTEM_VARIABLES, "version": (str, SERVER_VERSION, False)}

_QUIT, _CHANGE_USER = 0x01, 0x11
_HANDSHAKE_TIMEOUT_S: Final = 10.0
_MAX_HANDSHAKE_BYTES: Final = 64 * 1024

_INTERNAL_ERROR = 1815, b"HY000"
_UNKNOWN_COMMAND = 1047, b"08S01"
_PACKET_TOO_LARGE = 1153, b"08S01"
_TOO_MANY_CONNECTIONS = 1040, b"08004"
_TLS_REQUIRED = 3159, b"HY000"

_SLICE_S: Final = 0.001
_PAUSE_S: Final = 0.001
_ROWS_AT_ONCE: Final = 64
# Rows of an answer with more are let go of as they are sent: to free them all at once takes its time.
_MANY_ROWS: Final = 1_000

RowWriter = Callable[[Sequence[CellType], Sequence[Cell]], bytes]


class Backend(Protocol):
    """Who executes statements: the server."""

    counters: Counters
    unfinished: Unfinished

    def call(self, statement: Statement, caller: Caller, tell: Callable[[Outcome], None]) -> Ask | None:
        """Execute a statement and have `tell` called with its outcome, now or later."""

    def give_up_call(self, ask: Ask) -> None:
        """Nobody listens to a call any more."""


class MysqlConnection(MimicConnection):  # type: ignore[misc]  # the library is untyped
    """One client, inside of `tls` if given. `serve` returns when it has gone, was refused, or the listener stops."""

    def __init__(
        self,
        stream: PacketStream,
        backend: Backend,
        identities: Identities,
        number: int,
        max_packet_bytes: int,
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        session = BaseSession()
        session.variables = SessionVariables(GlobalVariables(_VARIABLES))
        session.username = session.database = None
        super().__init__(stream, session, LocalControl(server_id=1), identities, CAPABILITIES, tls)
        self.connection_id = number
        self.status_flags = ServerStatus.SERVER_STATUS_AUTOCOMMIT
        self.is_idle = True
        self._was_checked = False  # who it is
        self._backend = backend
        self._max_packet_bytes = max_packet_bytes
        self._prepared = PreparedStatements()
        self._is_stopping = False
        self._commands: dict[int, Callable[[bytes], Awaitable[None]]] = {
            0x02: self._nothing_to_do,  # INIT_DB: any name will do
            0x03: self._query,
            0x0E: self._nothing_to_do,  # PING
            _CHANGE_USER: self._change_user,
            0x16: self._prepare,
            0x17: self._execute,
            0x18: self._send_long_data,
            0x19: self._close_statement,
            0x1A: self._reset_statement,
            0x1F: self._reset_connection,
        }

    async def refuse(self) -> None:
        """Tell a client that there is no room for it."""
        await self._fail("too many connections to the MySQL port", *_TOO_MANY_CONNECTIONS)

    async def serve(self) -> bool:
        """All of the client's life; False when its credentials were refused."""
        try:
            self.stream.max_packet_bytes = min(_MAX_HANDSHAKE_BYTES, self._max_packet_bytes)
            async with asyncio.timeout(_HANDSHAKE_TIMEOUT_S):
                await self._log_in()
            if self.session.username is None:
                return not self._was_checked
            self.stream.max_packet_bytes = self._max_packet_bytes
            while not self._is_stopping and await self._command():
                self.stream.reset_seq()
            return self.session.username is not None
        except PacketTooLargeError:
            text = f"a packet is larger than max_allowed_packet, which is {self.stream.max_packet_bytes} bytes"
            await self._fail(text, *_PACKET_TOO_LARGE)
        return True

    def stop(self) -> None:
        """End after the command that runs; whoever called closes a connection that is idle."""
        self._is_stopping = True

    async def _log_in(self) -> None:
        """The greeting, and all that leads to an OK or an error: the session has a name after it, or none."""
        plugin = self.identity_provider.get_default_plugin()
        challenge, state = await plugin.start()
        self.handshake_auth_data, self.handshake_auth_plugin = challenge, plugin.name
        announced = int(self.server_capabilities)  # CLIENT_SSL among them where there is TLS
        greeting = packets.make_handshake_v10(
            capabilities=self.server_capabilities,
            server_charset=_CHARSET,
            server_version=SERVER_VERSION,
            connection_id=self.connection_id,
            auth_data=challenge,
            status_flags=self.status_flags,
            auth_plugin_name=plugin.name,
        )
        await self.stream.write(greeting)
        packet = await self.stream.read()
        if asks_for_tls(packet, announced):
            await self.stream.proceed(self.ssl)
            packet = await self.stream.read()
        elif self.ssl is not None:  # the port is no way around the TLS of the others
            await self._fail("this port speaks TLS only: the client has to ask for it", *_TLS_REQUIRED)
            return
        else:
            await self.stream.proceed()
        login = read_login(packet, announced)
        self.capabilities = Capabilities(login.capabilities)
        self._was_checked = True
        await self.authenticate(login.user, login.response, login.plugin, {}, state, plugin)
        self.stream.reset_seq()

    async def _command(self) -> bool:
        """Carry one command out; False when it was the last."""
        packet = await self.stream.read()
        if not packet or packet[0] == _QUIT:
            return False
        self.is_idle = False
        try:
            handler = self._commands.get(packet[0])
            if handler is None:
                await self._fail(f"command {packet[0]} is not supported", *_UNKNOWN_COMMAND)
            else:
                await handler(packet[1:])
        except StatementError as error:
            await self._fail(error.wire_text.removeprefix("Internal: "))
        except ProtocolError as error:
            text = error.wire_text if isinstance(error, StatementSyntaxError) else error.text
            await self._fail(text.removeprefix("Internal: "))
        finally:
            self.is_idle = True
        return self.session.username is not None

    # Commands

    async def _nothing_to_do(self, _rest: bytes) -> None:
        await self.stream.write(self.ok())

    async def _query(self, text: bytes) -> None:
        await self._answer(await self._result(text, ()), text_row)

    async def _change_user(self, rest: bytes) -> None:
        self.session.username = None
        asked = read_change_user(rest, int(self.capabilities))
        await self.authenticate(asked.user, asked.response, asked.plugin, {})
        self._prepared.clear()

    async def _reset_connection(self, _rest: bytes) -> None:
        self._prepared.clear()
        await self.stream.write(self.ok())

    async def _prepare(self, text: bytes) -> None:
        if len(text) > MAX_PREPARED_TEXT_BYTES:
            raise UserError(f"a prepared statement of more than {MAX_PREPARED_TEXT_BYTES} bytes is not supported")
        count = count_placeholders(checked_text(text))
        if count > 0xFFFF:
            raise UserError("a prepared statement with more than 65535 parameters is not supported")
        id_ = self._prepared.add(text, count)
        head = b"\0" + id_.to_bytes(4, "little") + bytes(2) + count.to_bytes(2, "little") + bytes(3)
        answer = [self.stream.framed(head)]
        if count:
            answer += [self.stream.framed(_column_definition("?", CellType.STRING)) for _ in range(count)]
            answer.append(self.stream.framed(self.eof()))
        await self.stream.write_framed(b"".join(answer))

    async def _execute(self, rest: bytes) -> None:
        prepared = self._prepared.get(_id_of(rest))
        parameters, prepared.types = read_parameters(
            rest[4:], prepared.parameter_count, prepared.types, prepared.long_data
        )
        prepared.long_data.clear()
        await self._answer(await self._result(prepared.text, parameters), binary_row)

    async def _send_long_data(self, rest: bytes) -> None:
        try:
            self._prepared.append(_id_of(rest), int.from_bytes(rest[4:6], "little"), rest[6:])
        except StatementError as error:  # the protocol has no answer to this command
            raise PacketTooLargeError from error

    async def _close_statement(self, rest: bytes) -> None:
        self._prepared.close(_id_of(rest))

    async def _reset_statement(self, rest: bytes) -> None:
        self._prepared.get(_id_of(rest)).long_data.clear()
        await self.stream.write(self.ok())

    # Statements

    async def _result(self, text: bytes, parameters: Sequence[Cell]) -> Result:
        known = answer_variables(text, self._max_packet_bytes)
        if known is not None:
            return known
        try:
            statement = parse_statement(checked_text(text), tuple(parameters) or None)
        except StatementSyntaxError:
            self._backend.counters.syntax_errors += 1
            raise
        outcome = await self._outcome(statement)
        if isinstance(outcome, StatementError):
            raise outcome
        assert isinstance(outcome, Result), "a ready message is for the WebSocket"
        return outcome

    async def _outcome(self, statement: Statement) -> Outcome:
        told: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        ask = self._backend.call(statement, ANYBODY, lambda outcome: _tell(told, outcome))
        if ask is not None:
            await self._wait(told, ask)
        return await told

    async def _wait(self, told: asyncio.Future[Outcome], ask: Ask) -> None:
        """Until the outcome is there. A client that leaves meanwhile frees what waits for it."""
        ahead = self.stream.look_ahead()
        try:
            await asyncio.wait({told, ahead}, return_when=asyncio.FIRST_COMPLETED)
            if not told.done() and ahead.exception() is None:  # it has sent the next command already
                await asyncio.wait({told})
        finally:
            if not told.done():
                self._backend.give_up_call(ask)
        if not told.done():
            raise GoneError

    # Answers

    async def _answer(self, result: Result, row_writer: RowWriter) -> None:
        columns = result.columns
        if not columns:
            await self.stream.write(self.ok())
            return
        framed = self.stream.framed
        head = [framed(packets.make_column_count(self.capabilities, len(columns)))]
        head += [
            framed(_column_definition(name, type_)) for name, type_ in zip(columns.names, columns.types, strict=True)
        ]
        head.append(framed(self.eof()))
        await self.stream.write_framed(b"".join(head))
        await self._send_rows(result, row_writer)
        await self.stream.write(self.eof())

    async def _send_rows(self, result: Result, row_writer: RowWriter) -> None:
        """Rows in slices of a millisecond: others have their turn in between."""
        types, rows, framed = result.columns.types, result.rows, self.stream.framed
        frees = isinstance(rows, list) and len(rows) > _MANY_ROWS
        if isinstance(rows, list) and frees:
            rows.reverse()
        slice_ends_s = time.monotonic() + _SLICE_S
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            if isinstance(rows, list) and frees:
                some = rows[: -_ROWS_AT_ONCE - 1 : -1]
                del rows[-_ROWS_AT_ONCE:]
            else:
                some = list(rows[start : start + _ROWS_AT_ONCE])
            await self.stream.write_framed(b"".join([framed(row_writer(types, row)) for row in some]))
            if time.monotonic() >= slice_ends_s:
                await asyncio.sleep(_PAUSE_S)
                slice_ends_s = time.monotonic() + _SLICE_S

    async def _fail(self, text: str, code: int = _INTERNAL_ERROR[0], state: bytes = _INTERNAL_ERROR[1]) -> None:
        packet = b"\xff" + code.to_bytes(2, "little") + b"#" + state + text.encode(errors="replace")
        await self.stream.write(packet)


def _tell(told: asyncio.Future[Outcome], outcome: Outcome) -> None:
    if not told.done():
        told.set_result(outcome)


def _id_of(rest: bytes) -> int:
    if len(rest) < 4:
        raise MalformedPacketError("the command cannot be read")
    return int.from_bytes(rest[:4], "little")


def _column_definition(name: str, type_: CellType) -> bytes:
    definition: Any = packets.make_column_definition_41(
        server_charset=_CHARSET, name=name, column_type=ColumnType.LONGLONG if is_longlong(type_) else ColumnType.STRING
    )
    return bytes(definition)
