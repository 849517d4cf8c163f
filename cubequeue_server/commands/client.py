"""A client of one connection for the command line, for any server that speaks the protocol (wire.md §2, §4)."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect
from picows.common import WSError

from cubequeue_server.commands.address import (
    CommandError,
    credentials,
    nothing_there,
    websocket_url,
    why_not_connected,
)
from cubequeue_server.version import __version__
from protocol.arrow_reader import Value, read_stream
from protocol.client_codec import ArrowReply, ErrorReply, Reply, Rows, decode_reply, encode_query
from protocol.errors import ProtocolError
from protocol.messages import ResponseFormat

REPLY_TIMEOUT_S: Final = 600.0  # RESULT_BLOCKING may wait for minutes
_AGENT: Final = {"User-Agent": f"cubequeue/{__version__}"}
_CONNECT_TIMEOUT_S: Final = 10.0
_MAX_MESSAGE_BYTES: Final = 256 << 20  # the largest that a server can be configured to send


class MissingTableError(CommandError):
    """The server has no such table."""


class Connection(WSListener):
    """Asks statements on an open connection, any number at once. Replies are matched by message id."""

    def __init__(self) -> None:
        self._transport: WSTransport | None = None
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        self._parts: list[bytes] = []
        self._size_bytes = 0
        self._last_id = 0
        self._is_closed = False
        self.connection_id = str(uuid.uuid4())
        self.url = ""
        self.status_port: int | None = None  # as the server announced it
        self.instance: str | None = None  # names this server, on its status port as well

    def learn(self, url: str, announced: str) -> None:
        """Take over what the handshake told: `announced` is `port instance`, or anything else."""
        self.url = url
        port, _, instance = announced.partition(" ")
        if port.isascii() and port.isdigit() and len(port) < 6 and instance:
            self.status_port, self.instance = int(port), instance

    def decode(self, message: bytes) -> Reply:
        """Decode a message of the server. Raises ProtocolError."""
        return decode_reply(message)

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Called by picows."""
        self._transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Called by picows with a frame of a reply, usually its only one."""
        if frame.msg_type not in {WSMsgType.BINARY, WSMsgType.CONTINUATION}:
            if frame.msg_type == WSMsgType.CLOSE:
                transport.disconnect()
            return
        self._parts.append(frame.get_payload_as_bytes())
        self._size_bytes += len(self._parts[-1])
        if self._size_bytes > _MAX_MESSAGE_BYTES:
            transport.disconnect()
            return
        if not frame.fin:
            return
        whole = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        self._size_bytes = 0
        try:
            reply = self.decode(whole)
        except ProtocolError:  # nothing must wait for ever
            transport.disconnect()
            return
        waiting = self._waiting.pop(reply.message_id, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(reply)

    def on_ws_disconnected(self, _transport: WSTransport) -> None:
        """Called by picows: fails all waits."""
        self._is_closed = True
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(CommandError("the server closed the connection"))
        self._waiting.clear()

    def begin(self, statement: str | bytes, form: ResponseFormat = ResponseFormat.LEGACY) -> asyncio.Future[Reply]:
        """Send a statement. The future gets its reply, or CommandError when the connection ends first."""
        if self._is_closed or self._transport is None:
            raise CommandError("the server closed the connection")
        self._last_id += 1
        waiting = self._waiting[self._last_id] = asyncio.get_running_loop().create_future()
        query = encode_query(self._last_id, statement, connection_id=self.connection_id, response_format=form)
        self._transport.send(WSMsgType.BINARY, query)
        return waiting

    async def ask(self, statement: str | bytes, form: ResponseFormat = ResponseFormat.LEGACY) -> Reply:
        """The reply to a statement. Raises CommandError when none comes."""
        try:
            return await asyncio.wait_for(self.begin(statement, form), REPLY_TIMEOUT_S)
        except TimeoutError as error:
            raise CommandError(f"no answer within {REPLY_TIMEOUT_S:.0f} s") from error

    async def rows(self, statement: str | bytes) -> Rows:
        """The rows that a statement gives. Raises CommandError for an error reply."""
        return rows_of(await self.ask(statement))

    async def table(self, statement: str | bytes) -> Table:
        """The same with numbers and times as such, where the server has Arrow. Raises CommandError."""
        return table_of(await self.ask(statement, ResponseFormat.ARROW))

    async def remembered(self, statement: str) -> Table:
        """The same of a table of what the server remembers. Raises CommandError, `MissingTableError` for an old one."""
        try:
            return await self.table(statement)
        except CommandError as error:
            if "was not found" not in str(error):
                raise
            raise MissingTableError(
                "the server remembers nothing of that kind: it is older than this command"
            ) from error


def rows_of(reply: Reply) -> Rows:
    """The rows of a reply. Raises CommandError with the server's text when it is an error."""
    if isinstance(reply, ErrorReply):
        raise CommandError(reply.text)
    if isinstance(reply, ArrowReply):
        raise CommandError("the server answered in the wrong format")
    return reply


class Table(NamedTuple):
    """The names of columns, and rows of values. Times are milliseconds since the epoch."""

    columns: tuple[str, ...]
    rows: list[tuple[Value, ...]]

    def dicts(self) -> list[dict[str, Value]]:
        """Each row by the names of its columns."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


def table_of(reply: Reply) -> Table:
    """The table of a reply. Raises CommandError with the server's text when it is an error.

    A server without Arrow gives texts only.
    """
    if isinstance(reply, ArrowReply):
        try:
            return Table((), []) if reply.stream is None else Table(*read_stream(reply.stream))
        except ProtocolError as error:
            raise CommandError(f"the server answered in a format that this command cannot read: {error}") from error
    rows = rows_of(reply)
    return Table(
        rows.columns,
        [tuple(None if cell is None else cell.decode(errors="replace") for cell in row) for row in rows.rows],
    )


@asynccontextmanager
async def connected(
    url: str | None,
    kind: Callable[[], Connection] = Connection,
    *,
    process_id: str | None = None,
    flag: str = "--url",
    headers: dict[str, str] | None = None,
) -> AsyncIterator[Connection]:
    """A connection to the server of `flag`, with the credentials of the environment. Raises CommandError.

    `headers` are those of other credentials.
    """
    whole = websocket_url(url, flag=flag)
    headers = credentials() if headers is None else headers
    shown = whole.removesuffix("/ws")
    try:
        transport, listener = await ws_connect(
            kind,
            whole,
            websocket_handshake_timeout=_CONNECT_TIMEOUT_S,
            max_frame_size=_MAX_MESSAGE_BYTES,
            extra_headers={**_AGENT, **headers, **({} if process_id is None else {"x-process-id": process_id})},
            max_redirects=0,  # credentials go to no third party
            logger_name="command",
        )
    except (WSError, OSError, TimeoutError, ValueError) as error:
        raise CommandError(f"{shown}: {why_not_connected(error, whole, are_given=bool(headers))}") from error
    if not isinstance(listener, Connection):  # the handshake did not end
        raise CommandError(f"{shown}: {nothing_there(whole)}")
    listener.learn(whole, transport.response.headers.get("X-Cubequeue-Status", ""))
    try:
        yield listener
    finally:
        transport.send_close()
        transport.disconnect()


def quoted(text: str) -> str:
    """A string literal of the dialect (commands.md §1)."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
