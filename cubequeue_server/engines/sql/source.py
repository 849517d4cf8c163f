"""SQL text made safe for the parser: what goes on to sqlglot is small, shallow and in one way of quoting.

Literals follow CubeStore's rules (commands.md §1), which no dialect of sqlglot has: they are read here, and so are
quoted names, comments and the parameters of `?`. sqlglot recurses with the nesting of its input, compiled forms of it
without a guard: the nesting is counted before it sees anything.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from protocol.errors import TokenizerError
from protocol.literals import read_quoted
from storage.errors import InternalError, UserError
from storage.vocabulary import Binary, Cell

MAX_SELECT_BYTES: Final = 256 * 1024
MAX_TOKENS: Final = 2_500
# One level costs sqlglot about 24 frames of the 1000 that Python allows.
MAX_NESTING: Final = 25
# How much of blanks and comments there may be before the first words.
_MAX_BLANK_BYTES: Final = 64 * 1024
# Longer literals are not shown to the parser, which would walk them character by character.
_MAX_INLINE_CHARACTERS: Final = 200

# Names of the stand-ins for literals; `:` cannot come from outside.
STAND_IN: Final = "cq"

_BLANK: Final = re.compile(rb"\s+")
_WORD: Final = re.compile(rb"[A-Za-z_$\x80-\xff][A-Za-z0-9_$\x80-\xff]*+")
_NUMBER: Final = re.compile(rb"(?:\d++(?:\.\d*+)?|\.\d++)(?:[eE][+-]?\d++)?")
_PLACEHOLDER: Final = re.compile(rb"\?\d*+")
_OPERATOR: Final = re.compile(rb"::|<=>|<>|<=|>=|!=|==|\|\||[-+*/%<>=(),.;\[\]]")

_OPENING: Final = frozenset({b"(", b"["})
_CLOSING: Final = frozenset({b")", b"]"})
# Words and signs that nest what follows them without a bracket.
_NESTED_TYPES: Final = frozenset({"ARRAY", "MAP", "STRUCT", "LIST", "NESTED", "NULLABLE", "OBJECT"})
_PREFIXES: Final = frozenset({b"NOT", b"-", b"+", b"INTERVAL", b"EXISTS", b"DISTINCT", b"ALL", b"WITH", b"AT", b"CASE"})


@dataclass(slots=True, frozen=True)
class Source:
    """A text for sqlglot, and the literals that `:cq0`, `:cq1` … in it stand for."""

    text: str
    literals: tuple[str, ...]


def leading_words(text: bytes, count: int) -> list[str]:
    """The first words of a statement in upper case, comments skipped: it may be megabytes that nobody will parse."""
    words: list[str] = []
    text = text[:_MAX_BLANK_BYTES]
    position = _skip_blank(text, 0)
    while len(words) < count:
        match = _WORD.match(text, position, position + 64)
        if match is None:
            break
        words.append(match[0].decode(errors="replace").upper())
        position = _skip_blank(text, match.end())
    return words


def opens_with_bracket(text: bytes) -> bool:
    """Whether a statement begins with `(`, as a bracketed SELECT does."""
    text = text[:_MAX_BLANK_BYTES]
    start = _skip_blank(text, 0)
    return text[start : start + 1] == b"("


def normalise(text: bytes, parameters: Sequence[Cell]) -> Source:
    """The text as sqlglot may see it. Raises UserError when it is too large, InternalError when it is no SQL."""
    if len(text) > MAX_SELECT_BYTES:
        raise UserError(f"SELECT of {len(text)} bytes exceeds the maximum of {MAX_SELECT_BYTES} bytes")
    return _Normaliser(text, parameters).run()


def _skip_blank(text: bytes, position: int) -> int:
    while True:
        match = _BLANK.match(text, position)
        if match is not None:
            position = match.end()
        start = text[position : position + 2]
        if start == b"--":
            end = text.find(b"\n", position)
            position = len(text) if end < 0 else end + 1
        elif start == b"/*":
            end = text.find(b"*/", position + 2)
            if end < 0:
                raise InternalError('TokenizerError("Unexpected EOF while in a multi-line comment")')
            position = end + 2
        elif match is None:
            return position


class _Normaliser:
    """One walk over a text, token by token."""

    def __init__(self, text: bytes, parameters: Sequence[Cell]) -> None:
        self._text = text
        self._parameters = parameters
        self._bound = 0
        self._tokens: list[str] = []
        self._literals: list[str] = []
        self._nesting = 0
        self._prefixes = 0

    def run(self) -> Source:
        position = _skip_blank(self._text, 0)
        while position < len(self._text):
            position = _skip_blank(self._text, self._token(position))
            if len(self._tokens) > MAX_TOKENS:
                raise UserError(f"SELECT of more than {MAX_TOKENS} tokens is not supported")
        while self._tokens and self._tokens[-1] == ";":
            self._tokens.pop()
        if ";" in self._tokens:
            raise UserError("more than one statement in one text is not supported")
        return Source(" ".join(self._tokens), tuple(self._literals))

    def _token(self, position: int) -> int:
        text = self._text
        first = text[position : position + 1]
        if first in {b"'", b'"', b"`"}:
            return self._quoted(position)
        for pattern in (_WORD, _NUMBER, _OPERATOR):
            match = pattern.match(text, position)
            if match is not None:
                self._count_nesting(match[0])
                if match[0] == b"<" and self._tokens and self._tokens[-1].upper() in _NESTED_TYPES:
                    raise UserError(f"{self._tokens[-1].upper()} types are not supported")
                self._tokens.append(match[0].decode())
                return match.end()
        match = _PLACEHOLDER.match(text, position)
        if match is None:
            shown = text[position : position + 4].decode(errors="ignore")[:1]
            raise UserError(f"'{shown}' is not supported in SQL outside QUEUE and CACHE")
        self._tokens.append(self._parameter())
        self._prefixes = 0
        return match.end()

    def _quoted(self, position: int) -> int:
        try:
            content, end = read_quoted(self._text, position)
        except TokenizerError as error:
            raise InternalError(error.wire_text.removeprefix("Internal: ")) from error
        decoded = content.decode()
        is_text = self._text[position : position + 1] == b"'"
        self._tokens.append(self._literal(decoded) if is_text else '"' + decoded.replace('"', '""') + '"')
        self._prefixes = 0
        return end

    def _literal(self, value: str) -> str:
        if len(value) <= _MAX_INLINE_CHARACTERS and "\0" not in value:
            return "'" + value.replace("'", "''") + "'"
        self._literals.append(value)
        return f":{STAND_IN}{len(self._literals) - 1}"

    def _parameter(self) -> str:
        if not self._parameters:
            raise InternalError('ParserError("Empty parameters, please send parameters within query")')
        if self._bound >= len(self._parameters):
            raise InternalError(
                f'ParserError("Placeholder index is out of bound, actual: {self._bound}, '
                f'parameters length: {len(self._parameters)}")'
            )
        value = self._parameters[self._bound]
        self._bound += 1
        if isinstance(value, Binary):
            raise UserError("binary parameters are not supported in SELECT")
        if isinstance(value, bytes):
            return self._literal(value.decode())
        if value is None:
            return "NULL"
        if isinstance(value, bool):
            return "TRUE" if value else "FALSE"
        if isinstance(value, float) and (value != value or value in {float("inf"), float("-inf")}):  # noqa: PLR0124
            raise UserError("parameters that are not finite are not supported in SELECT")
        return f"( {value!r} )" if value < 0 else repr(value)

    def _count_nesting(self, token: bytes) -> None:
        word = token.upper()
        if word in _OPENING or word == b"CASE":
            self._nesting += 1 + self._prefixes
            self._prefixes = 0
        elif word in _CLOSING or word == b"END":
            self._nesting -= 1
        elif word in _PREFIXES:
            self._prefixes += 1
        else:
            self._prefixes = 0
        if self._nesting + self._prefixes > MAX_NESTING:
            raise UserError(f"SELECT is nested deeper than {MAX_NESTING} levels")
