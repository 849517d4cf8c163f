"""Where the response format of a message stands that is passed on as it is."""

from __future__ import annotations

from protocol.flat import READ_ERRORS, View, fields, follow


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
