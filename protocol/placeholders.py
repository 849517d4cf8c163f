"""How many `?` a statement has outside its texts, names and comments: what a prepared statement is asked to say."""

from __future__ import annotations

import re
from typing import Final

from protocol.literals import closing_quote

_OF_INTEREST: Final = re.compile(rb"[?'\"`]|--|/\*")


def count_placeholders(text: bytes) -> int:
    """The number of `?`. Raises TokenizerError when a text or name is not closed. Linear."""
    count = position = 0
    while (match := _OF_INTEREST.search(text, position)) is not None:
        position = match.end()
        if match[0] == b"?":
            count += 1
        elif match[0] == b"--":
            end = text.find(b"\n", position)
            position = len(text) if end < 0 else end
        elif match[0] == b"/*":
            end = text.find(b"*/", position)
            position = len(text) if end < 0 else end + 2
        else:
            position = closing_quote(text, match.start()) + 1
    return count
