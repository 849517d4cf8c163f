"""How many `?` a statement has outside its texts, names and comments: what a prepared statement is asked to say."""

from __future__ import annotations

import re
from typing import Final

from protocol.literals import unterminated

# Whole texts, names and comments are one match each and never gone back into; what is not closed has a group.
_TOKEN: Final = re.compile(
    rb"""'(?:[^'\\]++|\\.|'')*+' | "(?:[^"]++|"")*+" | `(?:[^`]++|``)*+` | --[^\n]*+ | /\*.*?\*/"""
    rb"""| (\?) | (['"`]) | (/\*)""",
    re.DOTALL | re.VERBOSE,
)


def count_placeholders(text: bytes) -> int:
    """The number of `?`. Raises TokenizerError when a text or name is not closed. Linear, at most 0.1 µs a byte."""
    count = 0
    for match in _TOKEN.finditer(text):
        match match.lastindex:
            case 1:  # a placeholder
                count += 1
            case 2:  # an open quote
                raise unterminated(text, match.start())
            case 3:  # an open comment
                break
    return count
