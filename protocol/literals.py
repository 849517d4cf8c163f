"""Quoted tokens: `'…'` with backslash escapes, `"…"` and `` `…` `` without (commands.md §1).

A payload is never walked through byte by byte: the closing quote is found, and the escapes are undone, by
functions that run in C. Each of them takes time linear in the literal, whatever the literal holds.
"""

from __future__ import annotations

import codecs
import re
from typing import Final

from protocol.errors import TokenizerError
from protocol.position import at_position

_QUOTE: Final = b"'"
_BACKSLASH: Final = b"\\"
_BACKSLASH_CODE: Final = 0x5C

# Escapes that stand for another character (CubeStore ≥ 1.6.0); a backslash before anything else means the thing.
ESCAPES: Final = {
    b"0": b"\0",
    b"a": b"\a",
    b"b": b"\b",
    b"f": b"\f",
    b"n": b"\n",
    b"r": b"\r",
    b"t": b"\t",
    b"Z": b"\x1a",
}

# Quotes looked at one by one before the search turns to whole windows, where many quotes cost no more than few.
_QUOTES_ONE_BY_ONE: Final = 64
_FIRST_WINDOW: Final = 1 << 14
_WINDOW_GROWTH: Final = 4

# Two bytes that occur in no UTF-8 text: they hold the place of a pair that does not end a literal.
_HELD_PAIR: Final = b"\xff\xff"
_HELD_BACKSLASH: Final = b"\xff"
_RESTORE_BACKSLASH: Final = bytes(_BACKSLASH_CODE if code == 0xFF else code for code in range(256))

# After a backslash these mean the same here and in Python's own string escapes.
_SHARED_ESCAPES: Final = b"\\'\"abfnrt"
_OTHERS_AS_U: Final = bytes(
    _BACKSLASH_CODE if code == _BACKSLASH_CODE else ord("x") if code in _SHARED_ESCAPES else ord("u")
    for code in range(256)
)
_PAIR: Final = re.compile(rb"\\(.)|''", re.DOTALL)


def read_quoted(text: bytes, start: int) -> tuple[bytes, int]:
    """The content of the token whose opening quote is at `start`, and the offset behind its closing quote.

    Raises TokenizerError when it is not closed. O(length of the token), and one copy of it.
    """
    quote = text[start : start + 1]
    end = text.find(quote, start + 1)
    is_single = end >= 0 and text[end + 1 : end + 2] != quote
    if is_single and (quote != _QUOTE or text.find(_BACKSLASH, start + 1, end) < 0):
        return text[start + 1 : end], end + 1
    end = closing_quote(text, start)
    content = text[start + 1 : end]
    if quote == _QUOTE:
        return unescape(content), end + 1
    return content.replace(quote + quote, quote), end + 1


def closing_quote(text: bytes, start: int) -> int:
    """The offset of the quote that closes the one at `start`. Raises TokenizerError when there is none. Linear."""
    quote = text[start : start + 1]
    escaping = quote == _QUOTE
    position = start + 1
    for _ in range(_QUOTES_ONE_BY_ONE):
        end = text.find(quote, position)
        if end < 0:
            raise unterminated(text, start)
        if escaping and _ends_in_escape(text, position, end):
            position = end + 1
        elif text[end + 1 : end + 2] == quote:
            position = end + 2
        else:
            return end
    return _closing_quote_by_windows(text, start, position, escaping)


def _ends_in_escape(text: bytes, position: int, end: int) -> bool:
    """Whether the character at `end` is escaped, that is, follows an odd number of backslashes."""
    if end == position or text[end - 1] != _BACKSLASH_CODE:
        return False
    before = text[position:end]
    return (len(before) - len(before.rstrip(_BACKSLASH))) % 2 == 1


def _closing_quote_by_windows(text: bytes, start: int, position: int, escaping: bool) -> int:
    """Search growing windows from `position`, which is inside the literal and not behind an odd backslash."""
    quote = text[start : start + 1]
    size = _FIRST_WINDOW
    while True:
        window = text[position : position + size]
        if escaping:
            if b"\\\\" in window:
                window = window.replace(b"\\\\", _HELD_PAIR)
            window = window.replace(b"\\'", _HELD_PAIR)
        end = window.replace(quote + quote, _HELD_PAIR).find(quote)
        is_whole = position + len(window) == len(text)
        if end >= 0 and (is_whole or end < len(window) - 1):
            return position + end
        if is_whole:
            raise unterminated(text, start)
        # A quote as the last byte of the window may be the first half of a doubled one.
        size *= _WINDOW_GROWTH


def unterminated(text: bytes, start: int) -> TokenizerError:
    """The error of a quoted token that is not closed (commands.md §8)."""
    quote = text[start : start + 1]
    if quote == _QUOTE:
        return TokenizerError(f"Unterminated string literal{at_position(text, start)}")
    return TokenizerError(f"Expected close delimiter '{quote.decode()}' before EOF.{at_position(text, start)}")


def unescape(content: bytes) -> bytes:
    """What stands between two single quotes, with `''` and the backslash escapes undone. Linear."""
    # Halving a run of quotes before the backslashes go leaves the same number of quotes as the other order.
    content = content.replace(b"''", _QUOTE)
    if _BACKSLASH not in content:
        return content
    if b"\\u" not in content.translate(_OTHERS_AS_U):
        return _unescape_shared(content)
    if _HELD_BACKSLASH in content:
        return unescape_plainly(content)
    return _unescape_by_letters(content)


def _unescape_shared(content: bytes) -> bytes:
    """Undo escapes that are Python's too, which is nearly all that clients send: one pass in C."""
    return codecs.escape_decode(content)[0]


def _unescape_by_letters(content: bytes) -> bytes:
    """Undo any escapes, one kind after the other; `content` is UTF-8."""
    content = content.replace(b"\\\\", _HELD_BACKSLASH)
    for letter, meaning in ESCAPES.items():
        if letter in content:
            content = content.replace(_BACKSLASH + letter, meaning)
    return content.translate(_RESTORE_BACKSLASH, _BACKSLASH)


def unescape_plainly(content: bytes) -> bytes:
    """The meaning of the escapes in one expression, for any bytes: slower, and what the tests compare with."""

    def meaning(pair: re.Match[bytes]) -> bytes:
        letter = pair[1]
        return _QUOTE if letter is None else ESCAPES.get(letter, letter)

    return _PAIR.sub(meaning, content)
