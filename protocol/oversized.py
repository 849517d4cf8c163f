"""What is read of a message above the size limit: who sent it and, of a QUEUE ACK, which item it is about.

The rest of it, up to 128 MB, is neither decoded nor copied. O(1) in the message.
"""

from __future__ import annotations

from typing import Final

import msgspec

from protocol import schema
from protocol.cursor import Cursor
from protocol.errors import StatementSyntaxError
from protocol.flat import READ_ERRORS, View, check_utf8, fields, follow, read_i64, read_span, read_text, read_u32
from protocol.lexer import skip_trivia
from storage.vocabulary import Cell, KeyRef

# As much of the text is looked at: a key of Cube's has a hundred bytes.
_HEAD_BYTES: Final = 4096


class Oversized(msgspec.Struct):
    """`ack_key` is the item that a QUEUE ACK names; None for any other message."""

    message_id: int
    connection_id: bytes | None = None
    ack_key: KeyRef | None = None


def read_oversized(buffer: bytes | memoryview) -> Oversized | None:
    """The head of a message; None when not even its id can be read."""
    view: View = memoryview(buffer)
    try:
        root = follow(view, 0)
        id_, type_, command, connection = fields(view, root, 4)
        found = Oversized(read_u32(view, root + id_)[0] if id_ else 0)
    except READ_ERRORS:
        return None
    try:
        if connection:
            found.connection_id = read_text(view, follow(view, root + connection))
        if type_ and view[root + type_] == schema.COMMAND_QUERY and command:
            found.ack_key = _ack_key(view, follow(view, root + command))
    except (StatementSyntaxError, *READ_ERRORS):
        pass  # it is refused all the same
    return found


def _ack_key(view: View, query: int) -> KeyRef | None:
    text, _, _, parameters = fields(view, query, 4)
    head = bytes(read_span(view, follow(view, query + text))[:_HEAD_BYTES])
    cursor = Cursor(head, skip_trivia(head, 0), _first_parameter(view, follow(view, query + parameters), parameters))
    if cursor.word() != b"QUEUE" or cursor.word() != b"ACK":
        return None
    key = cursor.keyref()
    if isinstance(key, bytes):
        check_utf8(key)
    return key if cursor.offset < len(head) else None  # else it may have been cut off


def _first_parameter(view: View, vector: int, is_there: int) -> tuple[Cell, ...] | None:
    if not is_there or not read_u32(view, vector)[0]:
        return None
    first = follow(view, vector + 4)
    type_, value = fields(view, first, 2)
    table = follow(view, first + value)
    (field,) = fields(view, table, 1)
    kind = view[first + type_] if type_ else schema.VALUE_NONE
    if kind == schema.VALUE_INT64:
        return (read_i64(view, table + field)[0] if field else 0,)
    if kind == schema.VALUE_STRING and field:
        return (read_text(view, follow(view, table + field)),)
    return None
