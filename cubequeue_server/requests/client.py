"""One client of the WebSocket port: its identity, its session and its socket."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from cubequeue_server.net.websocket import WebSocket
from protocol.pieces import Message
from protocol.session import Session
from storage.asking import Caller

if TYPE_CHECKING:
    from cubequeue_server.engines.upstream.link import Link


class Client:
    """A connection; `user` is empty for an anonymous client.

    `link` leads to the upstream CubeStore, once it is needed; `authorization` is the header that is forwarded there.
    """

    __slots__ = ("authorization", "caller", "link", "opened_s", "send", "session", "undecodable", "websocket")

    websocket: WebSocket
    send: Callable[[Message], None]

    def __init__(
        self,
        user: bytes,
        caller: Caller,
        now_s: float,
        authorization: bytes | None = None,
        *,
        skips_tables: bool = False,
    ) -> None:
        self.caller = caller
        self.authorization = authorization
        self.link: Link | None = None
        self.opened_s = now_s
        self.session = Session(user, now_s, skips_tables=skips_tables)
        self.undecodable = 0  # messages

    def attach(self, websocket: WebSocket) -> None:
        """Answer through this WebSocket, which drops messages after its end."""
        self.websocket = websocket
        self.send = websocket.send

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
