"""What is read of a message that is passed on as it is: whose it is, how its text begins, where its format stands."""

from __future__ import annotations

from typing import Final, NamedTuple

from protocol import schema
from protocol.commands import FAMILIES
from protocol.cursor import Cursor
from protocol.errors import StatementSyntaxError
from protocol.flat import READ_ERRORS, View, fields, follow, read_span, read_text, read_u32
from protocol.lexer import skip_trivia

# As much of the text is looked at.
_HEAD_BYTES: Final = 4096


class Head(NamedTuple):
    """Who sent a query, and the format that it asks its answer in."""

    message_id: int
    connection_id: bytes | None
    response_format: int


def read_foreign_head(buffer: bytes | memoryview) -> Head | None:
    """The head of an HttpQuery whose text begins with no word of QUEUE, CACHE and SYS; None for any other message.

    O(1) in the message: neither the text nor the inline tables are decoded.
    """
    view: View = memoryview(buffer)
    try:
        root = follow(view, 0)
        id_, type_, command, connection = fields(view, root, 4)
        if not type_ or view[root + type_] != schema.COMMAND_QUERY or not command:
            return None
        query = follow(view, root + command)
        text, _, _, _, format_ = fields(view, query, 5)
        if not text:
            return None
        head = bytes(read_span(view, follow(view, query + text))[:_HEAD_BYTES])
        family = Cursor(head, skip_trivia(head, 0), None).word()
        if family in FAMILIES or (family is None and not head.strip()):
            return None
        return Head(
            read_u32(view, root + id_)[0] if id_ else 0,
            read_text(view, follow(view, root + connection)) if connection else None,
            view[query + format_] if format_ else 0,
        )
    except (StatementSyntaxError, *READ_ERRORS):
        return None


def place_of_format(buffer: bytes | memoryview) -> int:
    """Where the response format of an HttpQuery stands in its message, one byte; 0 where it has none. O(1)."""
    view: View = memoryview(buffer)
    try:
        root = follow(view, 0)
        command = fields(view, root, 3)[2]
        query = follow(view, root + command)
        place = fields(view, query, 5)[4]
    except READ_ERRORS:
        return 0
    return query + place if command and place and query + place < len(view) else 0
