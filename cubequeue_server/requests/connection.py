"""One client: who it is, what it asked, and what it has proved to have received."""

from __future__ import annotations

import asyncio
import logging
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cubequeue_server.net.websocket import UNSUPPORTED_DATA, Message, WebSocket
from cubequeue_server.observe.logs import log_event
from protocol.encode import encode_error
from protocol.envelope import read_message_id
from protocol.errors import DecodeError
from protocol.pieces import Message as EncodedReply
from protocol.request_decoder import RequestDecoder
from storage.engine import Caller, RequestKey

if TYPE_CHECKING:
    from cubequeue_server.requests.dispatcher import Dispatcher

_log = logging.getLogger(__name__)

# So much unproved sends a ping out of turn: only answers that are known to have arrived make room (decisions).
_UNPROVED_ANSWERS: Final = 1024
_UNPROVED_BYTES: Final = 1024 * 1024

# A client's ids count up, so so many of the newest are told apart by their last bits alone.
_REMEMBERED_IDS: Final = 1024


@dataclass(slots=True, frozen=True)
class Identity:
    """What the handshake told. `user` is empty for anonymous clients."""

    user: bytes
    caller: Caller


class Connection:
    """The session of one WebSocket. `peer` is the address of the client, `end_cause` a word once it has ended."""

    __slots__ = (
        "_client_id",
        "_decode",
        "_dispatcher",
        "_loop",
        "_ping_payload",
        "_pinged_at_s",
        "_pings",
        "_proving",
        "_seen",
        "_undecodable",
        "_unproved",
        "_unproved_bytes",
        "_websocket",
        "caller",
        "end_cause",
        "in_flight",
        "opened_s",
        "peer",
        "user",
    )

    def __init__(self, identity: Identity, dispatcher: Dispatcher, loop: asyncio.AbstractEventLoop, peer: str) -> None:
        self.peer = peer
        self.end_cause = ""
        self.opened_s = loop.time()
        self.user = identity.user
        self.caller = identity.caller
        self.in_flight = 0
        self._dispatcher = dispatcher
        self._loop = loop
        self._websocket: WebSocket | None = None
        self._client_id: bytes | None = None
        self._decode = RequestDecoder().decode
        self._seen = array("q")
        self._undecodable = 0
        self._unproved: list[RequestKey] = []
        self._unproved_bytes = 0
        self._proving: list[RequestKey] = []
        self._pings = 0
        self._pinged_at_s = loop.time()
        self._ping_payload: bytes | None = None  # of the ping that waits for its pong

    def attach(self, websocket: WebSocket) -> None:
        """The WebSocket to answer through."""
        self._websocket = websocket

    @property
    def is_open(self) -> bool:
        """Whether an answer can be handed over."""
        return self._websocket is not None and self._websocket.is_open

    # Requests

    def on_message(self, message: Message) -> None:
        try:
            request = self._decode(message)
        except DecodeError as error:
            self._on_undecodable(error)
            return
        except Exception as error:  # one message must not take the connection down
            self._on_undecodable(DecodeError(self._dispatcher.unforeseen(error), read_message_id(message)))
            return
        self._dispatcher.dispatch(self, request)

    def on_oversized_message(self, message: Message) -> None:
        message_id = read_message_id(message)
        if message_id is None:
            self._on_undecodable(DecodeError(f"{len(message)} bytes without a message id"))
        else:
            self.tell(message_id, self._dispatcher.oversize_text(len(message)))

    def _on_undecodable(self, error: DecodeError) -> None:
        self._dispatcher.counters.undecodable += 1
        self._undecodable += 1
        if self._undecodable & (self._undecodable - 1) == 0:  # the 1st, 2nd, 4th, 8th …: a log is no place to flood
            fields = {"number": self._undecodable, "peer": self.peer, "error": error.wire_text}
            log_event(_log, logging.WARNING, "undecodable message", fields)
        if error.message_id is not None:
            self.tell(error.message_id, error.wire_text)
        if error.closes and self._websocket is not None:
            self._websocket.close(UNSUPPORTED_DATA, "")

    def is_repeat(self, connection_id: bytes, message_id: int) -> bool:
        """Whether this connection asked the same before: then its answer was given here, or is on its way.

        Only true for the newest ids: a client does not go back further on one connection. O(1), 8 KB.
        """
        if connection_id != self._client_id:
            self._client_id = connection_id
            self._seen = array("q", [-1]) * _REMEMBERED_IDS
        slot = message_id % _REMEMBERED_IDS
        if self._seen[slot] == message_id:
            return True
        self._seen[slot] = message_id
        return False

    def key_of(self, message_id: int) -> RequestKey:
        """What names a request of the client that asked last (wire.md §3). Its parts are shared by all its keys."""
        assert self._client_id is not None
        return (self.user, self._client_id, message_id)

    # Answers

    def tell(self, message_id: int, error_text: str) -> None:
        """Answer with an error that depends on no state and is not kept."""
        if self._websocket is not None:
            self._websocket.send(encode_error(message_id, error_text))

    def answer(self, answer: EncodedReply, kept_key: RequestKey | None) -> None:
        """Hand an answer over. With `kept_key` the store keeps it, and is told when it has arrived."""
        if self._websocket is None:
            return
        self._websocket.send(answer)
        if kept_key is not None:
            self._unproved.append(kept_key)
            self._unproved_bytes += len(answer)
            if len(self._unproved) >= _UNPROVED_ANSWERS or self._unproved_bytes >= _UNPROVED_BYTES:
                self._ping()

    # Proof of life, and of arrival

    def check_peer(self, interval_s: float, timeout_s: float, proof_interval_s: float) -> bool:
        """Ping when it is time to, earlier when there are answers to prove the arrival of.

        False when the last ping has waited for its pong for too long.
        """
        waited_s = self._loop.time() - self._pinged_at_s
        if self._ping_payload is not None:
            return waited_s < timeout_s
        if waited_s >= interval_s or (self._unproved and waited_s >= proof_interval_s):
            self._ping()
        return True

    def _ping(self) -> None:
        if self._ping_payload is not None or self._websocket is None:
            return
        self._pings += 1
        self._ping_payload = b"%d" % self._pings
        self._pinged_at_s = self._loop.time()
        self._proving, self._unproved = self._unproved, []
        self._unproved_bytes = 0
        self._websocket.send_ping(self._ping_payload)

    def on_pong(self, payload: bytes) -> None:
        if payload != self._ping_payload:  # unsolicited, which RFC 6455 allows
            return
        self._ping_payload = None
        if self._proving:
            self._dispatcher.confirm(self._proving)
            self._proving = []

    # Ending

    def close(self, code: int, reason: str, cause: str = "") -> None:
        if self._websocket is not None:
            self._websocket.close(code, reason, cause)

    def abort(self, cause: str) -> None:
        if self._websocket is not None:
            self._websocket.abort(cause)

    def on_lost(self) -> None:
        if self._websocket is not None:
            self.end_cause = self._websocket.end_cause
        self._websocket = None
        self._unproved.clear()
        self._proving.clear()
        self._dispatcher.on_lost(self)
