"""Results that cannot be stored: their item ends with an error, so that whoever waits for it learns why.

A worker's ACK is refused when its message is larger than the limit, or when the queue has no room for the result. The
worker logs that and sends nothing more. If that were all, its item would stall, run again, and be refused again, for
ever; the user would see "Continue wait" all the time (clients.md §6).
"""

from __future__ import annotations

import json
import logging

from cubequeue_server.observe.logs import log_event
from cubequeue_server.requests.client import Client
from storage.vocabulary import KeyRef, QueueAck

_log = logging.getLogger(__name__)


def error_result(key: KeyRef, text: str) -> QueueAck:
    """The ACK that ends an item with an error, in the form in which QueryQueue stores that of a failed query."""
    return QueueAck(key, json.dumps({"error": text}, ensure_ascii=False).encode(errors="replace"))


def too_large_text(size_bytes: int, limit_bytes: int) -> str:
    """What the user is told whose result had too large a message."""
    return (
        f"The result is too large for the queue: its message has {size_bytes} bytes, {limit_bytes} are allowed"
        " (CUBESTORE_TRANSPORT_MAX_MESSAGE_SIZE of cubequeue). Ask for fewer rows or columns, or raise the limit."
    )


def oversize_text(size_bytes: int, limit_bytes: int) -> str:
    """The HttpError for a message above the limit (wire.md §2)."""
    return (
        f"Request of {size_bytes} bytes exceeds the maximum message size of {limit_bytes} bytes. Reduce the size of the"
        " query, e.g. by sending fewer or smaller inline tables, or raise CUBESTORE_TRANSPORT_MAX_MESSAGE_SIZE."
    )


def no_room_text(text: str) -> str:
    """What the user is told whose result found no room."""
    return f"The result could not be stored. {text}"


def log_lost_result(client: Client, key: KeyRef, size_bytes: int, limit_bytes: int, limit: str) -> None:
    """Log that an item ended so; `limit` is the setting that was exceeded."""
    fields = {
        "key": key,
        "size_bytes": size_bytes,
        "limit_bytes": limit_bytes,
        "limit": limit,
        "peer": client.caller.peer,
        "process_id": client.caller.process_id,
    }
    log_event(_log, logging.WARNING, "a result was too large: its item ended with an error", fields)
