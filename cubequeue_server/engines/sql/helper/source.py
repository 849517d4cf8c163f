"""SQL text as sqlglot can read it: literals (commands.md §1), quoted names, comments and `?` are settled."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from math import isfinite
from typing import Final

from protocol.errors import TokenizerError
from protocol.literals import read_quoted
from storage.errors import InternalError, UserError

# The value of a parameter: bytes are UTF-8 text.
Parameter = bytes | int | float | bool | None

_PIECE: Final = re.compile(
    rb"(?P<blank>\s+|--[^\n]*|/\*.*?\*/)"
    rb"|(?P<quote>['\"`])"
    rb"|(?P<mark>\?\d*)"
    rb"|(?P<plain>(?:[\w$.,()+*%<>=!|;\[\]\x80-\xff]|::|-(?!-)|/(?!\*))+)",
    re.DOTALL,
)


def readable(text: bytes, parameters: Sequence[Parameter]) -> str:
    """The text with every literal in standard quoting. Linear.

    Raises InternalError when a quote or comment is not closed, UserError for a character that no SELECT needs.
    """
    return " ".join(_pieces(text, iter(parameters), len(parameters)))


def _pieces(text: bytes, parameters: Iterator[Parameter], count: int) -> Iterator[str]:
    position = 0
    while position < len(text):
        match = _PIECE.match(text, position)
        if match is None:
            if text.startswith(b"/*", position):
                raise InternalError('TokenizerError("Unexpected EOF while in a multi-line comment")')
            shown = text[position : position + 4].decode(errors="ignore")[:1]
            raise UserError(f"'{shown}' is not supported in SQL outside QUEUE and CACHE")
        position = match.end()
        if match["quote"] is not None:
            try:
                content, position = read_quoted(text, match.start())
            except TokenizerError as error:
                raise InternalError(error.wire_text.removeprefix("Internal: ")) from error
            yield _quoted("'" if match["quote"] == b"'" else '"', content.decode())
        elif match["mark"] is not None:
            yield _parameter(parameters, count)
        elif match["plain"] is not None:
            yield match["plain"].decode()


def _quoted(quote: str, content: str) -> str:
    return quote + content.replace(quote, 2 * quote) + quote


def _parameter(parameters: Iterator[Parameter], count: int) -> str:
    if not count:
        raise InternalError('ParserError("Empty parameters, please send parameters within query")')
    try:
        value = next(parameters)
    except StopIteration:
        text = f"Placeholder index is out of bound, actual: {count}, parameters length: {count}"
        raise InternalError(f'ParserError("{text}")') from None
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return _quoted("'", value.decode())
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if not isfinite(value):
        raise UserError("parameters that are not finite are not supported in SELECT")
    return f"({value!r})"
