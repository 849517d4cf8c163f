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
_QUOTE_CODE: Final = 0x27
_BACKSLASH: Final = b"\\"
_BACKSLASH_CODE: Final = 0x5C
_BLANK_CODE: Final = 0x20

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
_FIRST_WINDOW: Final = 512
_WINDOW_GROWTH: Final = 8

# A byte that occurs in no UTF-8 text holds the place of pairs: those that do not end a literal, escaped backslashes.
_HELD_PAIR: Final = b"\xff\xff"
_HELD_BACKSLASH: Final = b"\xff"
_HELD_ESCAPED_BACKSLASH: Final = b"\\\xff"
_RESTORE_BACKSLASH: Final = bytes(_BACKSLASH_CODE if code == 0xFF else code for code in range(256))

# After a backslash these mean the same here and in Python's own string escapes.
_SHARED_ESCAPES: Final = b"\\'\"abfnrt"
_OTHER_ESCAPE: Final = re.compile(rb"\\[^%s]" % re.escape(_SHARED_ESCAPES))
# A search is quicker in short texts; in longer ones, which are JSON and full of escapes, a translation is.
_SEARCHED_BYTES: Final = 512
# Up to a quote that is not behind exactly one backslash: a loop in C, for texts with few quotes and many escapes.
_SIMPLY_ESCAPED: Final = re.compile(rb"(?:[^']*+(?<=[^\\]\\)')*+[^']*+'").match
_SHORT_CONTENT: Final = 16 * 1024
_OTHERS_AS_U: Final = bytes(
    _BACKSLASH_CODE if code == _BACKSLASH_CODE else ord("x") if code in _SHARED_ESCAPES else ord("u")
    for code in range(256)
)
_ESCAPE: Final = re.compile(rb"\\(.)", re.DOTALL)


def read_quoted(text: bytes, start: int) -> tuple[bytes, int]:
    """The content of the token whose opening quote is at `start`, and the offset behind its closing quote.

    Raises TokenizerError when it is not closed. O(length of the token), and one copy of it.
    """
    if text[start] == _QUOTE_CODE:
        end = text.find(_QUOTE, start + 1)
        if end > 0 and text[end - 1] != _BACKSLASH_CODE and not text.startswith(_QUOTE, end + 1):
            content = text[start + 1 : end]
            return _undo_backslashes(content) if _BACKSLASH in content else content, end + 1
    quote = text[start : start + 1]
    end, has_doubled = _find_end(text, start)
    content = text[start + 1 : end]
    if has_doubled:
        # Also before escapes are undone: halving a run of quotes then leaves as many as halving it afterwards.
        content = content.replace(quote + quote, quote)
    if quote == _QUOTE:
        content = _undo_backslashes(content)
    return content, end + 1


def last_literal(text: bytes, start: int) -> bytes | None:
    """The content of the single-quoted token that begins at `start` and is the last one of the text.

    None where it is not, or where that takes a closer look than the usual literals need. Linear, and one copy.
    """
    end = len(text) - 1
    while text[end] == _BLANK_CODE:
        end -= 1
    if end <= start or text[end] != _QUOTE_CODE or text[end - 1] == _BACKSLASH_CODE:
        return None
    if text.find(_QUOTE, start + 1, end) >= 0:
        found = _SIMPLY_ESCAPED(text, start + 1, end + 1) if end - start <= _SHORT_CONTENT else None
        if found is None or found.end() != end + 1:
            return None
    content = text[start + 1 : end]
    return _undo_backslashes(content) if _BACKSLASH in content else content


def closing_quote(text: bytes, start: int) -> int:
    """The offset of the quote that closes the one at `start`. Raises TokenizerError when there is none. Linear."""
    return _find_end(text, start)[0]


def _find_end(text: bytes, start: int) -> tuple[int, bool]:
    """The offset of the closing quote, and whether there are doubled quotes before it."""
    quote = text[start : start + 1]
    escaping = quote == _QUOTE
    position = start + 1
    has_doubled = False
    for _ in range(_QUOTES_ONE_BY_ONE):
        end = text.find(quote, position)
        if end < 0:
            raise unterminated(text, start)
        if escaping and _ends_in_escape(text, position, end):
            position = end + 1
        elif text[end + 1 : end + 2] == quote:
            has_doubled = True
            position = end + 2
        else:
            return end, has_doubled
    end, doubled_later = _find_end_by_windows(text, start, position)
    return end, has_doubled or doubled_later


def _ends_in_escape(text: bytes, position: int, end: int) -> bool:
    """Whether the quote at `end` is escaped: behind an odd number of backslashes. Before `position` is a quote."""
    if text[end - 1] != _BACKSLASH_CODE:
        return False
    before = text[position:end]
    return (len(before) - len(before.rstrip(_BACKSLASH))) % 2 == 1


def _find_end_by_windows(text: bytes, start: int, position: int) -> tuple[int, bool]:
    """Search growing windows from `position`, which is inside the literal and not behind an odd backslash."""
    quote = text[start : start + 1]
    size = _FIRST_WINDOW
    while True:
        window = text[position : position + size]
        is_whole = position + size >= len(text)
        end, has_doubled = _find_end_in_window(window, quote)
        # A quote as the last byte of a window may be the first half of a doubled one.
        if end >= 0 and (is_whole or end < len(window) - 1):
            return position + end, has_doubled
        if is_whole:
            raise unterminated(text, start)
        size *= _WINDOW_GROWTH


def _find_end_in_window(window: bytes, quote: bytes) -> tuple[int, bool]:
    """The first quote that is neither escaped nor doubled, or -1: pairs are held, then it is found."""
    if quote == _QUOTE and _BACKSLASH in window:
        if b"\\\\" in window:
            window = window.replace(b"\\\\", _HELD_PAIR)
        window = window.replace(b"\\'", _HELD_PAIR)
    end = window.find(quote)
    if end < 0 or window[end + 1 : end + 2] != quote:
        return end, False
    return window.replace(quote + quote, _HELD_PAIR).find(quote), True


def unterminated(text: bytes, start: int) -> TokenizerError:
    """The error of a quoted token that is not closed (commands.md §8)."""
    quote = text[start : start + 1]
    if quote == _QUOTE:
        return TokenizerError(f"Unterminated string literal{at_position(text, start)}")
    return TokenizerError(f"Expected close delimiter '{quote.decode()}' before EOF.{at_position(text, start)}")


class ContentReader:
    """Reads what stands between two quotes of a kind, a window at a time: any windows give what the whole text would.

    `pieces` are the content so far. Once `is_closed`, `rest` is what came behind the closing quote.
    """

    __slots__ = ("_held", "_quote", "is_closed", "pieces", "rest")

    def __init__(self, quote: bytes) -> None:
        self._quote = quote
        self._held = b""  # the first half of what may be a pair
        self.pieces: list[bytes] = []
        self.rest = b""
        self.is_closed = False

    def feed(self, window: bytes, *, is_last: bool) -> None:
        """Read on. Linear; with the last window the text ends."""
        window = self._held + window
        quote = self._quote
        end, has_doubled = _find_end_in_window(window, quote)
        self._held = b""
        if end >= 0 and (is_last or end < len(window) - 1):
            self.is_closed = True
            window, self.rest = window[:end], window[end + 1 :]
        elif end >= 0:
            window, self._held = window[:end], quote
        elif quote == _QUOTE and (len(window) - len(window.rstrip(_BACKSLASH))) % 2 == 1:
            window, self._held = window[:-1], _BACKSLASH
        if has_doubled:
            window = window.replace(quote + quote, quote)
        if quote == _QUOTE:
            window = _undo_backslashes(window)
        if window:
            self.pieces.append(window)


def unescape(content: bytes) -> bytes:
    """What stands between two single quotes, with `''` and the backslash escapes undone. Linear."""
    return _undo_backslashes(content.replace(b"''", _QUOTE))


def _undo_backslashes(content: bytes) -> bytes:
    if _BACKSLASH not in content:
        return content
    if _has_only_shared_escapes(content):
        # Only escapes that are Python's too, which is nearly all that clients send: one pass in C.
        return codecs.escape_decode(content)[0]
    if _HELD_BACKSLASH in content:
        return _undo_backslashes_plainly(content)
    return _undo_by_letters(content)


def _has_only_shared_escapes(content: bytes) -> bool:
    """Whether Python reads every escape the same way; False also when a backslash behind a backslash hides it."""
    if len(content) <= _SEARCHED_BYTES:
        return _OTHER_ESCAPE.search(content) is None
    return b"\\u" not in content.translate(_OTHERS_AS_U)


def _undo_by_letters(content: bytes) -> bytes:
    """Undo any escapes, one kind after the other; `content` is UTF-8.

    Lengths stay until the end, which is when the backslashes go: replacing in place is what is quick.
    """
    content = content.replace(b"\\\\", _HELD_ESCAPED_BACKSLASH)
    for letter, meaning in ESCAPES.items():
        if letter in content:
            content = content.replace(_BACKSLASH + letter, _BACKSLASH + meaning)
    return content.translate(_RESTORE_BACKSLASH, _BACKSLASH)


def _undo_backslashes_plainly(content: bytes) -> bytes:
    """The same in one expression and for any bytes: slower, and what the tests compare with."""
    return _ESCAPE.sub(lambda escape: ESCAPES.get(escape[1], escape[1]), content)
