"""Text that a person typed or a file holds, cut into statements: at each semicolon, and at the end of a line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

# Quoted texts and comments are whole pieces (commands.md §1); one that is not closed leaves its first character alone.
_PIECE: Final = re.compile(
    r"""'(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+"|`[^`]*+`|--[^\n]*+|/\*.*?\*/|[;\n]|/\*|[^'"`;/\n-]++|.""", re.DOTALL
)
_OPEN: Final = frozenset({"'", '"', "`", "/*"})


def split(text: str, ends: frozenset[str] = frozenset(";\n")) -> tuple[list[str], str]:
    """The statements of a text, and the rest of it, whose quote or comment is not closed. O(text).

    `ends` are the characters that end a statement.
    """
    statements: list[str] = []
    parts: list[str] = []
    start = 0
    for match in _PIECE.finditer(text):
        piece = match[0]
        if piece in _OPEN:
            return statements, text[start:]
        if piece in ends:
            _add("".join(parts), statements)
            parts.clear()
            start = match.end()
        elif not piece.startswith(("--", "/*")):
            parts.append(piece)
    _add("".join(parts), statements)
    return statements, ""


def _add(text: str, statements: list[str]) -> None:
    if text.strip():
        statements.append(text.strip())


def statements_of(lines: Iterable[str]) -> Iterator[str]:
    """The statements of lines, each as soon as it is whole. What a quote leaves open at the end is one as well."""
    rest = ""
    for line in lines:
        if rest and not any(mark in line for mark in ("'", '"', "`", "*/")):
            rest += line
            continue
        found, rest = split(rest + line)
        yield from found
    if rest.strip():
        yield rest.strip()
