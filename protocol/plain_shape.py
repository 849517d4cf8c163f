"""What the plain messages of one client have in common.

They differ in three places: the message id, the length of the text, and the text, which FlatBuffers builders put last.
Everything before the text is the same bytes each time, so it need not be read again: comparing is four times faster.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from protocol.flat import fields, follow, read_i32, read_u16, read_u32
from protocol.messages import Request

MAX_HEAD_BYTES = 512


class PlainShape:
    """One shape. `split` cuts a message into the bytes before its id, the id, the bytes after, and the length of the
    text.

    A message with these bytes before and after its id has this connection id, trace object and response format, no
    parameters, and its text at `text_at`.
    """

    __slots__ = ("after_id", "before_id", "connection_id", "response_format", "split", "text_at", "trace")

    def __init__(
        self,
        before_id: bytes,
        after_id: bytes,
        connection_id: bytes | None,
        response_format: int,
        trace: bytes | None,
    ) -> None:
        self.before_id = before_id
        self.after_id = after_id
        self.connection_id = connection_id
        self.response_format = response_format
        self.trace = trace
        self.split = struct.Struct(f"<{len(before_id)}sI{len(after_id)}sI").unpack_from
        self.text_at = len(before_id) + 4 + len(after_id) + 4


NO_SHAPE = PlainShape(b"no message begins like this", b"", None, 0, None)


def learn_shape(head: bytes, request: Request) -> PlainShape | None:
    """The shape of the plain message that begins with `head` and was decoded to `request`.

    None where the id or the text do not stand apart from all other bytes that were read.
    """
    try:
        places = _places(head)
    except struct.error:  # the head is too short
        return None
    if places is None:
        return None
    id_at, text_at = places
    before_id, after_id = head[:id_at], head[id_at + 4 : text_at - 4]
    return PlainShape(before_id, after_id, request.connection_id, request.response_format, request.trace)


def _places(head: bytes) -> tuple[int, int] | None:
    """Where the id and the text are. Raises `struct.error` when something is read past the head."""
    root = follow(head, 0)
    id_, type_, command, connection = fields(head, root, 4)
    query = follow(head, root + command)
    text, trace, *_, response_format = fields(head, query, 5)
    id_at, text_at = root + id_, follow(head, query + text) + 4
    read = [
        (0, 4),
        *_table_spans(head, root, 4, [(type_, 1), (command, 4), (connection, 4)]),
        *_table_spans(head, query, 5, [(text, 4), (trace, 4), (response_format, 1)]),
    ]
    for field in (root + connection if connection else 0, query + trace if trace else 0):
        if field:
            string = follow(head, field)
            read.append((string, string + 4 + read_u32(head, string)[0]))
    is_apart_from_id = all(end <= id_at or start >= id_at + 4 for start, end in read)
    is_before_text = id_at + 4 <= text_at - 4 and all(end <= text_at - 4 for _, end in read)
    return (id_at, text_at) if id_ and is_apart_from_id and is_before_text and text_at <= len(head) else None


def _table_spans(head: bytes, position: int, slots: int, read: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The spans of bytes that reading a table looks at: the way to its vtable, the slots there, and the fields."""
    vtable = position - read_i32(head, position)[0]
    yield position, position + 4
    yield vtable, vtable + min(read_u16(head, vtable)[0], 4 + 2 * slots)
    for offset, width in read:
        if offset:
            yield position + offset, position + offset + width
