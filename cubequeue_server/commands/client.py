"""A client of one connection for the command line, for any server that speaks the protocol (wire.md §2, §4)."""

from __future__ import annotations

import asyncio
import os
import uuid
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect
from picows.common import WSError

from protocol.client_codec import ArrowReply, ErrorReply, Reply, Rows, decode_reply, encode_query
from protocol.errors import ProtocolError

REPLY_TIMEOUT_S: Final = 600.0  # RESULT_BLOCKING may wait for minutes
_CONNECT_TIMEOUT_S: Final = 10.0
_MAX_MESSAGE_BYTES: Final = 256 << 20  # the largest that a server can be configured to send
_CREDENTIAL_VARIABLES: Final = "set CUBEQUEUE_USER and CUBEQUEUE_PASSWORD or CUBEQUEUE_PASSWORD_FILE"


class CommandError(Exception):
    """The failure of a command: one line for a person. `is_usage` when the command line or a variable is wrong."""

    def __init__(self, text: str, *, is_usage: bool = False) -> None:
        super().__init__(text)
        self.is_usage = is_usage


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

    def begin(self, statement: str | bytes) -> asyncio.Future[Reply]:
        """Send a statement. The future gets its reply, or CommandError when the connection ends first."""
        if self._is_closed or self._transport is None:
            raise CommandError("the server closed the connection")
        self._last_id += 1
        waiting = self._waiting[self._last_id] = asyncio.get_running_loop().create_future()
        query = encode_query(self._last_id, statement, connection_id=self.connection_id)
        self._transport.send(WSMsgType.BINARY, query)
        return waiting

    async def ask(self, statement: str | bytes) -> Reply:
        """The reply to a statement. Raises CommandError when none comes."""
        try:
            return await asyncio.wait_for(self.begin(statement), REPLY_TIMEOUT_S)
        except TimeoutError as error:
            raise CommandError(f"no answer within {REPLY_TIMEOUT_S:.0f} s") from error

    async def rows(self, statement: str | bytes) -> Rows:
        """The rows that a statement gives. Raises CommandError for an error reply."""
        return rows_of(await self.ask(statement))


def rows_of(reply: Reply) -> Rows:
    """The rows of a reply. Raises CommandError with the server's text when it is an error."""
    if isinstance(reply, ErrorReply):
        raise CommandError(reply.text)
    if isinstance(reply, ArrowReply):
        raise CommandError("the server answered in the wrong format")
    return reply


@asynccontextmanager
async def connected(
    url: str, kind: Callable[[], Connection] = Connection, headers: dict[str, str] | None = None
) -> AsyncIterator[Connection]:
    """A connection to `ws://host[:port]` or `wss://…`, with the credentials of the environment. Raises CommandError.

    `headers` are those of other credentials.
    """
    whole = websocket_url(url)
    headers = credentials() if headers is None else headers
    try:
        transport, listener = await ws_connect(
            kind,
            whole,
            websocket_handshake_timeout=_CONNECT_TIMEOUT_S,
            max_frame_size=_MAX_MESSAGE_BYTES,
            extra_headers=headers,
            max_redirects=0,  # credentials go to no third party
            logger_name="command",
        )
    except WSError as error:
        response = getattr(error, "response", None)
        status = getattr(response, "status", None)
        refused = status is not None and int(status) in {401, 403}
        reason = f"not authorized: {_CREDENTIAL_VARIABLES}" if refused else f"no WebSocket there ({error})"
        raise CommandError(f"{url}: {reason}") from error
    except (OSError, TimeoutError, ValueError) as error:
        text = getattr(error, "strerror", None) or str(error) or "no answer in time"
        if "CERTIFICATE_VERIFY_FAILED" in text:
            text += ": SSL_CERT_FILE=/path/ca.pem trusts an authority of your own"
        raise CommandError(f"{url}: {text}") from error
    if not isinstance(listener, Connection):  # the handshake did not end
        raise CommandError(f"{url}: no WebSocket there; wss:// is for a server with TLS, ws:// for one without")
    try:
        yield listener
    finally:
        transport.send_close()
        transport.disconnect()


def websocket_url(url: str) -> str:
    """The address with port and path. Raises CommandError; its text never repeats a password."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise CommandError(f"--url: {error}", is_usage=True) from error
    if "@" in parts.netloc:
        raise CommandError(
            f"--url takes no credentials, everyone can read command lines: {_CREDENTIAL_VARIABLES}", is_usage=True
        )
    if parts.scheme not in {"ws", "wss"} or not parts.hostname:
        raise CommandError("--url: not a ws:// or wss:// address", is_usage=True)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    path = parts.path if parts.path not in {"", "/"} else "/ws"
    return urlunsplit((parts.scheme, f"{host}:{port or 3030}", path, parts.query, ""))


def credentials(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The Authorization header of the environment's credentials; empty without any. Raises CommandError."""
    user = environment.get("CUBEQUEUE_USER", "")
    password = environment.get("CUBEQUEUE_PASSWORD")
    file = environment.get("CUBEQUEUE_PASSWORD_FILE")
    if not password and file:
        try:
            password = Path(file).read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8"
            raise CommandError(f"CUBEQUEUE_PASSWORD_FILE {file}: {reason}", is_usage=True) from error
    if not password:
        return {}
    return {"Authorization": "Basic " + b64encode(f"{user}:{password}".encode()).decode()}


def quoted(text: str) -> str:
    """A string literal of the dialect (commands.md §1)."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
