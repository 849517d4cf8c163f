"""Where in a text something is, and how much of it an error may repeat."""

from __future__ import annotations

_CONTINUATION_BYTES = bytes(range(0x80, 0xC0))

# No error repeats more of the client's text than this, in characters: a message must not grow with its statement.
PREVIEW_CHARS = 256
_PREVIEW_BYTES = 4 * PREVIEW_CHARS


def at_position(text: bytes, offset: int) -> str:
    """The words ` at Line: L, Column: C`, both counted in characters from 1 (commands.md §8). O(offset)."""
    line = text.count(b"\n", 0, offset) + 1
    line_start = text.rfind(b"\n", 0, offset) + 1
    column = len(text[line_start:offset].translate(None, _CONTINUATION_BYTES)) + 1
    return f" at Line: {line}, Column: {column}"


def preview(text: bytes) -> str:
    """The text for an error message, cut after `PREVIEW_CHARS` characters with an ellipsis."""
    shown = text[: _PREVIEW_BYTES + 4].decode(errors="replace")
    return shown if len(shown) <= PREVIEW_CHARS else f"{shown[:PREVIEW_CHARS]}…"
