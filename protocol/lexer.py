"""The tokens of a statement (commands.md §1), read one at a time from the bytes of the text.

Nothing here builds a list of tokens: the parser asks for what it needs next, and what follows a complete statement
is only proved to be tokens. Offsets are in bytes. The text is UTF-8; a word may hold any character from U+0080 to
U+FFFF, which is why only ASCII white space separates tokens. Comments do not nest, as in MySQL.
"""

from __future__ import annotations

import re
from typing import Final

from protocol.errors import TokenizerError
from protocol.literals import closing_quote, read_quoted
from protocol.position import at_position, preview

_SPACE: Final = rb"[ \t\n\x0b\x0c\r]"
# In UTF-8 the lead bytes of U+0080 to U+FFFF are below 0xF0; longer characters are tokens of their own.
_WORD_START: Final = rb"[A-Za-z_$\x80-\xef]"
_WORD_PART: Final = rb"[A-Za-z0-9_$\x80-\xef]"
# Comments with more asterisks inside than this are left to `bytes.find`.
_SIMPLE_COMMENT: Final = rb"/\*[^*]*+\*++(?:[^/*][^*]*+\*++){0,50}/"

WORD_PARTS: Final = frozenset(code for code in range(256) if re.match(_WORD_PART, bytes((code,))))
WORD: Final = re.compile(rb"(?![NnXx]')" + _WORD_START + _WORD_PART + rb"*+")
NULL: Final = re.compile(rb"[Nn][Uu][Ll][Ll](?!" + _WORD_PART + rb")")
# The digits of a number that needs no closer look: no fraction, exponent, prefix or suffix, and within 64 bits.
PLAIN_INTEGER: Final = re.compile(rb"[0-9]{1,18}(?![0-9.eELx])")
NUMBER: Final = re.compile(rb"(?!0x)(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?L?")
HEX_NUMBER: Final = re.compile(rb"0x([0-9A-Fa-f]*+)")
HEX_DIGITS: Final = re.compile(rb"[0-9A-Fa-f]*+")
# A short key without escapes, and the space behind it; what comes next is a token or the end of the text.
PLAIN_KEY: Final = rb"'([^'\\]{0,255})'(?:\Z| (?=['?]))"
PREFIXED_LITERAL: Final = re.compile(rb"[NnXx](?=')")
QUOTED_START: Final = re.compile(rb"['\"`]")
PLACEHOLDER: Final = re.compile(rb"\?[0-9]*+")
_OTHER_CHARACTER: Final = re.compile(rb"[\xf0-\xff][\x80-\xbf]*+|.", re.DOTALL)

# Repeats are bounded and the loop around them is in Python: a repeat of a group in `re` keeps memory per round.
_TRIVIA: Final = re.compile(
    _SPACE + rb"*+(?:(?:--[^\n]*+|" + _SIMPLE_COMMENT + rb")" + _SPACE + rb"*+){0,1000}",
)
_EVIDENT: Final = rb"""[^'"`/-]*+"""
_TOKENS: Final = re.compile(
    _EVIDENT
    + rb"""(?:(?:'[^'\\]*+(?:\\.[^'\\]*+){0,1000}'|"[^"]*+"|`[^`]*+`|--[^\n]*+|-|/+(?!\*)|"""
    + _SIMPLE_COMMENT
    + rb")"
    + _EVIDENT
    + rb"){0,100}",
    re.DOTALL,
)

TRIVIA_STARTS: Final = frozenset(b" \t\n\x0b\x0c\r-/")
_SPACE_CODE: Final = ord(" ")
_QUOTES: Final = frozenset(b"'\"`")


def skip_trivia(text: bytes, offset: int) -> int:
    """The offset of the next token at or behind `offset`: white space and comments are none.

    Raises TokenizerError when a comment is not closed. Linear in what is skipped.
    """
    if offset < len(text) and text[offset] == _SPACE_CODE:
        offset += 1
    while offset < len(text) and text[offset] in TRIVIA_STARTS:
        behind = _TRIVIA.match(text, offset).end()  # type: ignore[union-attr]  # it matches the empty text too
        if behind == offset:
            if not text.startswith(b"/*", offset):
                return offset
            behind = _behind_comment(text, offset)
        offset = behind
    return offset


def _behind_comment(text: bytes, offset: int) -> int:
    end = text.find(b"*/", offset + 2)
    if end < 0:
        raise TokenizerError(f"Unexpected EOF while in a multi-line comment{at_position(text, len(text))}")
    return end + 2


def check_tokens(text: bytes, offset: int) -> None:
    """Prove that everything from `offset`, where a token begins, is tokens: all that is quoted or commented is closed.

    Raises TokenizerError. Linear.
    """
    if offset >= len(text) or _is_evidently_closed(text, offset):
        return
    while offset < len(text):
        behind = _TOKENS.match(text, offset).end()  # type: ignore[union-attr]  # it matches the empty text too
        if behind == offset:
            is_quoted = text[offset] in _QUOTES
            behind = closing_quote(text, offset) + 1 if is_quoted else _behind_comment(text, offset)
        offset = behind


def _is_evidently_closed(text: bytes, offset: int) -> bool:
    """A cheap proof for the usual rests: no comment, no escape, and an even number of at most one kind of quote."""
    if text.find(b"/*", offset) >= 0:
        return False
    quotes = [quote for quote in (b"'", b'"', b"`") if text.find(quote, offset) >= 0]
    if not quotes:
        return True
    if len(quotes) > 1 or text.find(b"--", offset) >= 0 or text.find(b"\\", offset) >= 0:
        return False
    return text.count(quotes[0], offset) % 2 == 0


def show_token(text: bytes, offset: int) -> str:
    """The token at `offset` as errors name it; long ones are cut. Raises TokenizerError when it is not closed."""
    if offset >= len(text):
        return "EOF"
    prefix = PREFIXED_LITERAL.match(text, offset)
    start = offset if prefix is None else prefix.end()
    if text[start] in _QUOTES:
        quote = text[start : start + 1].decode()
        name = "" if prefix is None else prefix[0].decode().upper()
        return f"{name}{quote}{preview(read_quoted(text, start)[0])}{quote}"
    if (hexadecimal := HEX_NUMBER.match(text, offset)) is not None:
        return f"X'{preview(hexadecimal[1])}'"
    for shape in (WORD, NUMBER, PLACEHOLDER, _OTHER_CHARACTER):
        if (token := shape.match(text, offset)) is not None:
            return preview(token[0])
    raise AssertionError("every byte begins a token")
