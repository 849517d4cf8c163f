"""The message id of a message whose body is not looked at (wire.md §2, "Size limits")."""

from __future__ import annotations

from protocol import schema
from protocol.flat import READ_ERRORS, Table


def read_message_id(buffer: bytes | memoryview) -> int | None:
    """The id under which an answer to `buffer` must go; None when it cannot be read. O(1) in the message."""
    try:
        return Table.root(buffer if type(buffer) is bytes else memoryview(buffer)).u32(schema.MESSAGE_ID)
    except READ_ERRORS:
        return None
