"""One MySQL client from its handshake to its end (mysql.md).

mysql-mimic makes the greeting, leads the authentication exchange and writes all packets but rows. `protocol` reads what
clients send: the library's readers never end on a text that is not closed, and its loop over commands goes on after a
refused password.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final

import msgspec
from mysql_mimic import packets
from mysql_mimic.charset import CharacterSet
from mysql_mimic.connection import Connection as MimicConnection
from mysql_mimic.control import LocalControl
from mysql_mimic.session import BaseSession
from mysql_mimic.types import Capabilities, ColumnType, ServerStatus
from mysql_mimic.variables import SYSTEM_VARIABLES, GlobalVariables, SessionVariables

from cubequeue_server.access.credentials import Credentials
from cubequeue_server.connections import Figures
from cubequeue_server.mysql.authentication import Identities
from cubequeue_server.mysql.statements import PreparedStatements, answer_variables, checked_text
from cubequeue_server.mysql.stream import GoneError, PacketStream, PacketTooLargeError
from cubequeue_server.mysql.turns import Turns
from cubequeue_server.requests.ask import Ask
from cubequeue_server.server import Server
from protocol.commands import parse_statement
from protocol.errors import ProtocolError, StatementSyntaxError
from protocol.mysql_login import asks_for_tls, read_change_user, read_login
from protocol.mysql_parameters import MalformedPacketError, read_parameters
from protocol.mysql_rows import binary_row, is_longlong, text_row
from storage.asking import Caller, Outcome
from storage.errors import StatementError
from storage.vocabulary import Cell, Result, Row
from storage.vocabulary import ColumnType as CellType

SERVER_VERSION: Final = "5.1.10-alpha-msql-proxy"
CAPABILITIES: Final = (
    Capabilities.CLIENT_PROTOCOL_41
    | Capabilities.CLIENT_PLUGIN_AUTH
    | Capabilities.CLIENT_SECURE_CONNECTION
    | Capabilities.CLIENT_CONNECT_WITH_DB
)
_CHARSET: Final = CharacterSet.utf8mb4
_VARIABLES: Final = {**SYSTEM_VARIABLES, "version": (str, SERVER_VERSION, False)}

_QUIT: Final = 0x01
_HANDSHAKE_TIMEOUT_S: Final = 10.0
_MAX_HANDSHAKE_BYTES: Final = 64 * 1024

# Error codes with their SQLSTATE.
_INTERNAL_ERROR: Final = 1815, b"HY000"
_UNKNOWN_COMMAND: Final = 1047, b"08S01"
_PACKET_TOO_LARGE: Final = 1153, b"08S01"
_TOO_MANY_CONNECTIONS: Final = 1040, b"08004"
_TLS_REQUIRED: Final = 3159, b"HY000"

_ROWS_AT_ONCE: Final = 64
_MAX_SHOWN_BYTES: Final = 1_000  # of a statement that is refused
_MANY_ROWS: Final = 1_000

RowWriter = Callable[[Sequence[CellType], Sequence[Cell]], bytes]


class MysqlConnection(MimicConnection):  # type: ignore[misc]  # the library is untyped
    """One client, inside `tls` if given. `serve` returns when it has gone, was refused, or the listener stops.

    `on_login` is called once its credentials were admitted.
    """

    def __init__(
        self,
        stream: PacketStream,
        server: Server,
        credentials: Credentials,
        caller: Caller,
        max_packet_bytes: int,
        *,
        turns: Turns,
        on_login: Callable[[], None],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        session = BaseSession()
        session.variables = SessionVariables(GlobalVariables(_VARIABLES))
        session.username = session.database = None
        super().__init__(stream, session, LocalControl(server_id=1), Identities(credentials), CAPABILITIES, tls)
        self.connection_id = caller.connection % (1 << 32)
        self.status_flags = ServerStatus.SERVER_STATUS_AUTOCOMMIT
        self._server = server
        self._caller = caller
        self._max_packet_bytes = max_packet_bytes
        self._turns = turns
        self._on_login = on_login
        self._prepared = PreparedStatements(stream.hold_values)
        self._was_checked = False  # its credentials
        self._refused = 0  # statements
        self.gave_credentials = False
        self._is_idle = True
        self._is_stopping = False
        self._is_waiting = False
        self._since_ms = time.time_ns() // 1_000_000
        self._statements = self._errors = 0
        self._last_error = ""

    @property
    def user(self) -> bytes:
        """The name of its user; empty before the login."""
        return (self.session.username or "").encode()

    def figures(self) -> Figures:
        """What `system.connections` tells."""
        return Figures(
            "mysql",
            self._caller,
            None,
            b"",
            self._since_ms,
            self._statements,
            self._errors,
            self._last_error,
            int(not self._is_idle),
            int(self._is_waiting),
            self.stream.bytes_in,
            self.stream.bytes_out,
        )

    async def refuse(self) -> None:
        """Tell the client that there are too many connections."""
        await self._fail("too many connections to the MySQL port", _TOO_MANY_CONNECTIONS)

    async def serve(self) -> bool:
        """Log the client in and answer its commands. False when its credentials were refused."""
        try:
            self.stream.max_packet_bytes = min(_MAX_HANDSHAKE_BYTES, self._max_packet_bytes)
            async with asyncio.timeout(_HANDSHAKE_TIMEOUT_S):
                await self._log_in()
            if self.session.username is None:
                return not self._was_checked
            self._on_login()
            self._server.log_begin(self._caller)
            self.stream.max_packet_bytes = self._max_packet_bytes
            while not self._is_stopping and await self._command():
                self.stream.reset_seq()
            return self.session.username is not None
        except PacketTooLargeError:
            text = f"a packet is larger than max_allowed_packet, which is {self.stream.max_packet_bytes} bytes"
            await self._fail(text, _PACKET_TOO_LARGE)
        return True

    def stop(self) -> None:
        """End after the command in progress, at once without one."""
        self._is_stopping = True
        if self._is_idle:
            self.stream.close()

    async def _log_in(self) -> None:
        """Greet and authenticate. The session has a user name afterwards, unless the client was refused."""
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
        packet = bytes(await self.stream.read())
        if asks_for_tls(packet, announced):
            await self.stream.proceed(self.ssl)
            packet = bytes(await self.stream.read())
        elif self.ssl is not None:  # as on the other ports
            await self._fail("this port speaks TLS only: the client has to ask for it", _TLS_REQUIRED)
            return
        else:
            await self.stream.proceed()
        login = read_login(packet, announced)
        self.capabilities = Capabilities(login.capabilities)
        self._was_checked = True
        self.gave_credentials = bool(login.user)
        await self.authenticate(login.user, login.response, login.plugin, {}, state, plugin)
        self._caller = msgspec.structs.replace(self._caller, user=self.user)
        self.stream.reset_seq()

    async def _command(self) -> bool:
        """Read and answer a command; False when it was the last."""
        packet = await self.stream.read()
        if not packet or packet[0] == _QUIT:
            return False
        self._is_idle = False
        await self._turns.take()
        try:
            handler = self._COMMANDS.get(packet[0])
            if handler is None:
                await self._fail(f"command {packet[0]} is not supported", _UNKNOWN_COMMAND)
            else:
                await handler(self, memoryview(packet)[1:])
        except (StatementError, ProtocolError) as error:
            if isinstance(error, StatementError):  # of this port; `Server.call` counts its own
                self._server.counters.statement_errors += 1
            await self._refuse(error, bytes(packet[1 : 1 + _MAX_SHOWN_BYTES]))
        finally:
            self._is_idle = True
        return self.session.username is not None

    # Commands

    async def _do_nothing(self, _rest: memoryview) -> None:
        await self.stream.write(self.ok())

    async def _query(self, rest: memoryview) -> None:
        text = bytes(rest)
        await self._answer(text, await self._outcome(text, ()), text_row)

    async def _change_user(self, rest: memoryview) -> None:
        self.session.username = None
        asked = read_change_user(bytes(rest), int(self.capabilities))
        await self.authenticate(asked.user, asked.response, asked.plugin, {})
        self._prepared.clear()

    async def _reset_connection(self, _rest: memoryview) -> None:
        self._prepared.clear()
        await self.stream.write(self.ok())

    async def _prepare(self, rest: memoryview) -> None:
        id_, count = self._prepared.add(bytes(rest))
        framed = self.stream.framed
        answer = [framed(b"\0" + id_.to_bytes(4, "little") + bytes(2) + count.to_bytes(2, "little") + bytes(3))]
        if count:
            answer += [framed(_PARAMETER) for _ in range(count)]
            answer.append(framed(self.eof()))
        await self.stream.write_framed(b"".join(answer))

    async def _execute(self, rest: memoryview) -> None:
        prepared = self._prepared.get(_id_of(rest))
        parameters, prepared.types = read_parameters(
            bytes(rest[4:]), prepared.parameter_count, prepared.types, prepared.long_data
        )
        self._prepared.forget_long_data(prepared)
        await self._answer(prepared.text, await self._outcome(prepared.text, parameters), binary_row)

    async def _send_long_data(self, rest: memoryview) -> None:
        try:
            self._prepared.append(_id_of(rest), int.from_bytes(rest[4:6], "little"), rest[6:])
        except StatementError as error:  # the protocol has no answer to this command
            raise PacketTooLargeError from error

    async def _close_statement(self, rest: memoryview) -> None:
        self._prepared.close(_id_of(rest))

    async def _reset_statement(self, rest: memoryview) -> None:
        self._prepared.forget_long_data(self._prepared.get(_id_of(rest)))
        await self.stream.write(self.ok())

    # Statements

    async def _outcome(self, text: bytes, parameters: Sequence[Cell]) -> Result | StatementError:
        """The outcome of a statement. An error is returned: it would hold this frame and be held by it if raised."""
        known = answer_variables(text, self._max_packet_bytes)
        if known is not None:
            return known
        try:
            statement = parse_statement(checked_text(text), tuple(parameters) or None)
        except StatementSyntaxError:
            self._server.counters.syntax_errors += 1
            raise
        self._statements += 1
        told: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        ask = self._server.call(
            statement, self._caller, lambda outcome: None if told.done() else told.set_result(outcome)
        )
        if ask is not None:
            self._is_waiting = ask.timeout_ms is not None
            await self._wait(told, ask)
            self._is_waiting = False
        outcome = await told
        assert not isinstance(outcome, bytes), "a ready message is for the WebSocket"
        return outcome

    async def _wait(self, told: asyncio.Future[Outcome], ask: Ask) -> None:
        """Wait for an outcome, but not longer than the client does."""
        ahead = self.stream.look_ahead()
        try:
            await asyncio.wait({told, ahead}, return_when=asyncio.FIRST_COMPLETED)
            if not told.done() and ahead.exception() is None:  # it has sent the next command already
                await asyncio.wait({told})
        finally:
            if not told.done():
                self._server.give_up_call(ask)
        if not told.done():
            raise GoneError

    # Answers

    async def _answer(self, text: bytes, result: Result | StatementError, row_writer: RowWriter) -> None:
        if isinstance(result, StatementError):
            await self._refuse(result, text)
            return
        columns, framed = result.columns, self.stream.framed
        if not columns:
            await self.stream.write(self.ok())
            return
        head = [framed(packets.make_column_count(self.capabilities, len(columns)))]
        head += [framed(_column_definition(*column)) for column in zip(columns.names, columns.types, strict=True)]
        head.append(framed(self.eof()))
        await self.stream.write_framed(b"".join(head))
        await self._send_rows(result, row_writer)
        await self.stream.write(self.eof())

    async def _send_rows(self, result: Result, row_writer: RowWriter) -> None:
        """Send rows; others have their turn in between."""
        types, framed = result.columns.types, self.stream.framed
        for rows in _portions(result.rows):
            await self._turns.take()
            await self.stream.write_framed(b"".join([framed(row_writer(types, row)) for row in rows]))

    async def _refuse(self, error: StatementError | ProtocolError, statement: bytes) -> None:
        self._refused += 1
        self._server.tell_refused(self._caller, self._refused, error, statement)
        text = error.wire_text if isinstance(error, StatementError | StatementSyntaxError) else error.text
        await self._fail(text.removeprefix("Internal: "))

    async def _fail(self, text: str, error: tuple[int, bytes] = _INTERNAL_ERROR) -> None:
        self._errors += 1
        self._last_error = text
        code, state = error
        packet = b"\xff" + code.to_bytes(2, "little") + b"#" + state + text.encode(errors="replace")
        await self.stream.write(packet)

    # Of the class: an attribute of bound methods would make a cycle, and keep what a connection holds.
    _COMMANDS: ClassVar[Mapping[int, Callable[[MysqlConnection, memoryview], Awaitable[None]]]] = {
        0x02: _do_nothing,  # INIT_DB: any name will do
        0x03: _query,
        0x0E: _do_nothing,  # PING
        0x11: _change_user,
        0x16: _prepare,
        0x17: _execute,
        0x18: _send_long_data,
        0x19: _close_statement,
        0x1A: _reset_statement,
        0x1F: _reset_connection,
    }


def _portions(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """Some rows at a time. A long list is emptied on the way: to free all of its rows at once takes long."""
    if isinstance(rows, list) and len(rows) > _MANY_ROWS:
        rows.reverse()
        while rows:
            yield rows[: -_ROWS_AT_ONCE - 1 : -1]
            del rows[-_ROWS_AT_ONCE:]
    else:
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            yield rows[start : start + _ROWS_AT_ONCE]


def _id_of(rest: memoryview) -> int:
    if len(rest) < 4:
        raise MalformedPacketError("the command cannot be read")
    return int.from_bytes(rest[:4], "little")


def _column_definition(name: str, type_: CellType) -> bytes:
    definition: Any = packets.make_column_definition_41(
        server_charset=_CHARSET, name=name, column_type=ColumnType.LONGLONG if is_longlong(type_) else ColumnType.STRING
    )
    return bytes(definition)


_PARAMETER: Final = _column_definition("?", CellType.STRING)
