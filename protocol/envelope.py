"""The message id of a message whose body is not looked at (wire.md §2, "Size limits")."""

from __future__ import annotations

from protocol.flat import READ_ERRORS, View, fields, follow, read_u32


def read_message_id(buffer: bytes | memoryview) -> int | None:
    """The id under which an answer to `buffer` must go; None when it cannot be read. O(1) in the message."""
    view: View = buffer
    try:
        position = follow(view, 0)
        (field,) = fields(view, position, 1)
        message_id: int = read_u32(view, position + field)[0] if field else 0
    except READ_ERRORS:
        return None
    return message_id
