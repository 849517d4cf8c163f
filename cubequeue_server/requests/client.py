"""One client of the WebSocket port: its identity, its session and its socket."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from cubequeue_server.connections import Figures
from cubequeue_server.net.websocket import WebSocket
from protocol.encode import encode_error
from protocol.pieces import Message
from protocol.session import Session
from storage.asking import Caller

if TYPE_CHECKING:
    from cubequeue_server.engines.upstream.link import Link


class Client:
    """A connection. `since_ms` is when it came by the wall clock, `now_s` by the monotonic clock.

    The user in `caller` is empty for an anonymous client; `agent` is its User-Agent. With `passes_on` its
    statements that are not for queue and cache go to the CubeStore behind: `link` leads there, once it is needed, and
    `authorization` is the header that is forwarded.
    """

    __slots__ = (
        "agent", "authorization", "caller", "errors", "last_error", "link", "opened_s", "refused", "send", "session",
        "since_ms", "statements", "undecodable", "waiting", "websocket"
    )  # fmt: skip

    websocket: WebSocket
    send: Callable[[Message], None]

    def __init__(  # each is of its own type
        self,
        caller: Caller,
        now_s: float,
        since_ms: int = 0,
        agent: bytes = b"",
        authorization: bytes | None = None,
        *,
        passes_on: bool = False,
    ) -> None:
        self.caller = caller
        self.authorization = authorization
        self.link: Link | None = None
        self.opened_s = now_s
        self.since_ms = since_ms
        self.agent = agent
        self.session = Session(caller.user, now_s, passes_on=passes_on)
        self.statements = self.errors = 0
        self.last_error = ""
        self.waiting = 0  # requests that wait for a result
        self.undecodable = 0  # messages
        self.refused = 0  # statements

    def attach(self, websocket: WebSocket) -> None:
        """Answer through this WebSocket, which drops messages after its end."""
        self.websocket = websocket
        self.send = websocket.send

    def fail(self, message_id: int, text: str) -> None:
        """Answer a message with an error."""
        self.errors += 1
        self.last_error = text
        self.send(encode_error(message_id, text))

    def figures(self) -> Figures:
        """What `system.connections` tells."""
        session, websocket = self.session, self.websocket
        return Figures(
            "websocket",
            self.caller,
            session.client_id,
            self.agent,
            self.since_ms,
            self.statements,
            self.errors,
            self.last_error,
            session.in_flight,
            self.waiting,
            websocket.bytes_in,
            websocket.bytes_out,
        )

    @property
    def is_open(self) -> bool:
        """Whether an answer can be sent."""
        return self.websocket.is_open

    def ping(self, now_s: float) -> None:
        """Send a ping, unless one waits for its pong: the pong proves that all messages before it have arrived."""
        payload = self.session.ping(now_s)
        if payload is not None:
            self.websocket.send_ping(payload)

    def check_peer(self, now_s: float, interval_s: float, timeout_s: float, proof_interval_s: float) -> bool:
        """Ping when a ping is due. False when the last pong is overdue."""
        if self.session.is_silent(now_s, timeout_s):
            return False
        if self.session.is_ping_due(now_s, interval_s, proof_interval_s):
            self.ping(now_s)
        return True
