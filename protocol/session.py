"""One client as the protocol sees it, without I/O: what it asks, what it asks again, and what it proves to have.

    bytes  --receive-->  Request       a repeat on this connection is dropped: its answer was given here
    answer --sent----->  a ping is due when many answers wait for the proof of their arrival
    pong   --on_pong-->  the keys of the answers that have arrived

Times are monotonic seconds.
"""

from __future__ import annotations

import struct
from array import array
from typing import Final

from protocol.decode import Depth, decode_request
from protocol.errors import DecodeError
from protocol.large import LARGE_BYTES, PASSED_BYTES, begin_large
from protocol.messages import Request
from protocol.plain_shape import MAX_HEAD_BYTES, NO_SHAPE, learn_shape
from storage.vocabulary import RequestKey

# Every kept answer and every request in flight names the connection id. Cube's driver sends a UUID of 36 bytes.
MAX_CONNECTION_ID_BYTES: Final = 1024

# So much unproved makes a ping due out of turn: only answers that are known to have arrived make room (decisions).
_UNPROVED_ANSWERS: Final = 1024
_UNPROVED_BYTES: Final = 1024 * 1024

# A client's ids count up, so the newest ones are told apart by their last bits alone. 8 KB a connection.
_REMEMBERED_IDS: Final = 1024
_MAX_LESSONS: Final = 16  # a client has two or three shapes of messages, or none that can be learned


class Session:
    """One connection. `in_flight` counts its requests that wait for an answer; `client_id` names its client.

    With `passes_on` statements that are neither of QUEUE nor of CACHE nor of SYS are for another server. Inline tables
    are not read then, and of a message of more than `large_bytes` only the head, if its statement is such a one.
    """

    __slots__ = (
        "_depth",
        "_lessons_left",
        "_passes_on",
        "_ping_payload",
        "_pinged_at_s",
        "_pings",
        "_proving",
        "_seen",
        "_shape",
        "_unproved",
        "_unproved_bytes",
        "client_id",
        "in_flight",
        "large_bytes",
        "user",
    )

    def __init__(self, user: bytes, now_s: float, *, passes_on: bool = False) -> None:
        self.user = user
        self.in_flight = 0
        self.client_id: bytes | None = None
        self._shape = NO_SHAPE
        self._lessons_left = _MAX_LESSONS
        self._passes_on = passes_on
        self._depth = Depth.VALUES if passes_on else Depth.ALL
        self.large_bytes = PASSED_BYTES if passes_on else LARGE_BYTES
        self._seen = array("q")
        self._unproved: list[RequestKey] = []
        self._unproved_bytes = 0
        self._proving: list[RequestKey] = []
        self._pings = 0
        self._pinged_at_s = now_s
        self._ping_payload: bytes | None = None  # of the ping that waits for its pong

    # Requests

    def receive(self, message: bytes | memoryview) -> Request | None:
        """Read one message; None for one that this connection has sent before. Raises `DecodeError`.

        Of one of more than `LARGE_BYTES` large texts are left where they are, for `read_large`.

        Only the newest ids are compared: a client does not go back further on one connection. About 1 µs for a small
        message of the shape that came before.
        """
        shape = self._shape
        request = None
        try:
            before_id, message_id, after_id, length = shape.split(message)
        except struct.error:
            pass  # it is shorter than the shape
        else:
            if before_id == shape.before_id and after_id == shape.after_id and length <= self.large_bytes:
                end = shape.text_at + length
                text = bytes(message[shape.text_at : end])
                if end <= len(message) and text.isascii():
                    format_ = shape.response_format
                    request = Request(message_id, shape.connection_id, text, None, format_, shape.trace)
        if request is None:
            request = self._decode(message)
        connection_id = request.connection_id
        if connection_id is None:
            return request
        if connection_id != self.client_id:
            if len(connection_id) > MAX_CONNECTION_ID_BYTES:
                size = len(connection_id)
                raise DecodeError(
                    f"connection_id of {size} bytes, the limit is {MAX_CONNECTION_ID_BYTES}", request.message_id
                )
            self.client_id = connection_id
            self._seen = array("q", [-1]) * _REMEMBERED_IDS
        message_id = request.message_id
        seen, slot = self._seen, message_id % _REMEMBERED_IDS
        if seen[slot] == message_id:
            return None
        seen[slot] = message_id
        return request

    def _decode(self, message: bytes | memoryview) -> Request:
        if len(message) > self.large_bytes:
            return begin_large(memoryview(message), passes_on=self._passes_on)
        request = decode_request(message, depth=self._depth)
        if self._lessons_left and request.parameters is None and not request.inline_tables:
            self._lessons_left -= 1
            self._shape = learn_shape(bytes(message[:MAX_HEAD_BYTES]), request) or self._shape
        return request

    # Proof of arrival, and of life

    def sent(self, key: RequestKey, size_bytes: int) -> bool:
        """An answer that is kept under `key` was sent. True when it is time for a ping."""
        self._unproved.append(key)
        self._unproved_bytes += size_bytes
        return len(self._unproved) >= _UNPROVED_ANSWERS or self._unproved_bytes >= _UNPROVED_BYTES

    def ping(self, now_s: float) -> bytes | None:
        """The payload of a ping to send behind all answers; None while the last one waits for its pong."""
        if self._ping_payload is not None:
            return None
        self._pings += 1
        self._ping_payload = b"%d" % self._pings
        self._pinged_at_s = now_s
        self._proving, self._unproved = self._unproved, []
        self._unproved_bytes = 0
        return self._ping_payload

    def on_pong(self, payload: bytes) -> list[RequestKey]:
        """The answers that have arrived. An unsolicited pong, which RFC 6455 allows, proves nothing."""
        if payload != self._ping_payload:
            return []
        self._ping_payload = None
        proved, self._proving = self._proving, []
        return proved

    def is_ping_due(self, now_s: float, interval_s: float, proof_interval_s: float) -> bool:
        """Whether it is time to ping: earlier when answers wait for the proof of their arrival."""
        waited_s = now_s - self._pinged_at_s
        is_due = waited_s >= interval_s or (bool(self._unproved) and waited_s >= proof_interval_s)
        return self._ping_payload is None and is_due

    def is_silent(self, now_s: float, timeout_s: float) -> bool:
        """Whether the last ping has waited for its pong for too long."""
        return self._ping_payload is not None and now_s - self._pinged_at_s >= timeout_s
