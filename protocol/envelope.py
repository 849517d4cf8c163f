"""The message id of a message whose body is not looked at (wire.md §2, "Size limits")."""

from __future__ import annotations

from protocol.flat import READ_ERRORS, View, read_i32, read_u16, read_u32


def read_message_id(buffer: bytes | memoryview) -> int | None:
    """The id under which an answer to `buffer` must go; None when it cannot be read. O(1) in the message."""
    view: View = buffer
    try:
        (root,) = read_u32(view, 0)
        vtable = root - read_i32(view, root)[0]
        if vtable < 0:
            return None
        field = read_u16(view, vtable + 4)[0] if read_u16(view, vtable)[0] >= 6 else 0
        message_id: int = read_u32(view, root + field)[0] if field else 0
    except READ_ERRORS:
        return None
    return message_id
