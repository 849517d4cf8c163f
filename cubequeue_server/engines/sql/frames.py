"""What the server and the process that evaluates SELECTs send each other: frames of a kind, a length and a content.

    helper:  READY
    server:  SELECT [text, parameters, now in ms]
    helper:  PLAN [columns, columns that are read by table, result columns that are references]
    server:  ROWS [number of the table, rows] …, END
    helper:  ROWS rows …, DONE

In place of a large value, rows hold a number, the reference. For values the helper sends WANT [first, count]; the
server answers with TEXT, BINARY or TOO_LARGE each, `count` at most, and END. REFUSED [kind, text] takes the place of
PLAN, ROWS and DONE, and ends the SELECT.
"""

from __future__ import annotations

import struct
from typing import Final

HEAD: Final = struct.Struct("<cI")  # kind, length of the content

READY, SELECT, PLAN, ROWS, END, DONE, REFUSED = b"r", b"S", b"P", b"R", b"E", b"D", b"X"
WANT, TEXT, BINARY, TOO_LARGE = b"W", b"T", b"B", b"L"

# Kinds of refusals. After the last two the helper does nothing more.
USER, INTERNAL, NO_TABLE, MEMORY, UNFORESEEN = "user", "internal", "no table", "memory", "unforeseen"

# A larger value can only be a whole cell of the result, not part of an expression.
MAX_VALUE_BYTES: Final = 16 << 20


def frame(kind: bytes, content: bytes = b"") -> bytes:
    """The bytes of a frame."""
    return HEAD.pack(kind, len(content)) + content
