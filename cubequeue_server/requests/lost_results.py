"""Results that cannot be stored: their item ends with an error, and its waiters get that error.

An ACK is refused when its message is above the size limit, or when the queue has no room for the result. The worker
logs the refusal and sends nothing more. Without this module its item would stall, run again and be refused again, for
ever; the user would see "Continue wait" all the time (clients.md §6).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable

from cubequeue_server.observe.logs import log_event
from cubequeue_server.requests.client import Client
from protocol.encode import encode_error
from protocol.oversized import Oversized
from storage.asking import Caller, Outcome
from storage.errors import NoRoomError
from storage.vocabulary import KeyRef, QueueAck, RequestKey, Statement

_log = logging.getLogger(__name__)

Call = Callable[[Statement, Caller, Callable[[Outcome], None], RequestKey], object]


def refuse_oversized(client: Client, request: Oversized, size_bytes: int, limit_bytes: int, call: Call) -> None:
    """Answer a message above the size limit with an error; the item of a QUEUE ACK ends with one first."""
    answer = encode_error(request.message_id, oversize_text(size_bytes, limit_bytes))
    if request.ack_key is None or request.connection_id is None:
        client.send(answer)
        return
    text = (
        f"The result is too large for the queue: its message has {size_bytes} bytes, {limit_bytes} are allowed"
        " (CUBESTORE_TRANSPORT_MAX_MESSAGE_SIZE of cubequeue). Ask for fewer rows or columns, or raise the limit."
    )
    key = (client.session.user, request.connection_id, request.message_id)
    _log_lost(client, request.ack_key, size_bytes, limit_bytes, "CUBESTORE_TRANSPORT_MAX_MESSAGE_SIZE")
    call(_error_result(request.ack_key, text), client.caller, lambda _: client.send(answer), key)


def end_without_room(
    client: Client, key: RequestKey, error: NoRoomError, tell: Callable[[Outcome], None], call: Call
) -> None:
    """End the item of an ACK for which the queue has no room, then call `tell`."""
    _log_lost(client, error.key, error.size_bytes, error.limit_bytes, "CUBEQUEUE_QUEUE_MAX_SIZE")
    call(_error_result(error.key, f"The result could not be stored. {error.text}"), client.caller, tell, key)


def oversize_text(size_bytes: int, limit_bytes: int) -> str:
    """The HttpError for a message above the limit (wire.md §2)."""
    return (
        f"Request of {size_bytes} bytes exceeds the maximum message size of {limit_bytes} bytes. Reduce the size of the"
        " query, e.g. by sending fewer or smaller inline tables, or raise CUBESTORE_TRANSPORT_MAX_MESSAGE_SIZE."
    )


def _error_result(key: KeyRef, text: str) -> QueueAck:
    """The ACK that ends an item with an error, in the form in which QueryQueue stores that of a failed query."""
    return QueueAck(key, json.dumps({"error": text}, ensure_ascii=False).encode(errors="replace"))


def _log_lost(client: Client, key: KeyRef, size_bytes: int, limit_bytes: int, limit: str) -> None:
    fields = {
        "key": key,
        "size_bytes": size_bytes,
        "limit_bytes": limit_bytes,
        "limit": limit,
        "peer": client.caller.peer,
        "process_id": client.caller.process_id,
    }
    log_event(_log, logging.WARNING, "a result was too large: its item ended with an error", fields)
