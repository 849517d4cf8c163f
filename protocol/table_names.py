"""Which tables a SELECT reads, found without parsing it: enough to tell whose tables they are.

Literals and comments are cut out first, with the dialect's rules (commands.md §1): a literal may hold any text. Of what
is left, the names that follow FROM, JOIN and the commas between them are the tables. Linear, for any bytes at all.
"""

from __future__ import annotations

import re
from typing import Final

# What can be seen of a text is the group; the last alternative is a literal or comment that nobody closed.
_VISIBLE: Final = re.compile(
    rb"""([^'"`/-]++|"[^"]*+"|`[^`]*+`|-(?!-)|/(?!\*))"""
    rb"""|'(?:[^'\\]++|\\.)*+'|--[^\n]*+|/\*.*?\*/|['"`/].*+""",
    re.DOTALL,
)
_TOKEN: Final = re.compile(rb'"[^"]*+"|`[^`]*+`|[A-Za-z_$\x80-\xff][\w$\x80-\xff]*+|[^\s]')
_ENDS_OF_FROM: Final = frozenset(
    {b"WHERE", b"GROUP", b"ORDER", b"HAVING", b"LIMIT", b"OFFSET", b"UNION", b"INTERSECT", b"EXCEPT", b"WINDOW"}
)
_NO_NAMES: Final = frozenset({b"LATERAL", b"ONLY", b"TABLE"})


def visible(text: bytes) -> bytes:
    """The text without literals and comments; blanks stand where something ended."""
    return b" ".join(_VISIBLE.findall(text))


class _Level:
    """What is known within one pair of brackets."""

    __slots__ = ("expects_name", "has_select", "in_from")

    def __init__(self, *, expects_name: bool = False) -> None:
        self.has_select = False
        self.in_from = self.expects_name = expects_name


def named_tables(visible_text: bytes) -> set[tuple[bytes, ...]]:
    """The tables of a `visible` text, each as the parts of its name in lower case."""
    tokens: list[bytes] = _TOKEN.findall(visible_text)
    names = set()
    levels = [_Level()]
    position = 0
    while position < len(tokens):
        token, level = tokens[position], levels[-1]
        position += 1
        if token == b"(":
            levels.append(_Level(expects_name=level.expects_name))
            level.expects_name = False
        elif token == b")":
            if len(levels) > 1:
                levels.pop()
        elif token == b",":
            level.expects_name = level.in_from
        elif level.expects_name and _is_name(token):
            parts = [_part(token)]
            while tokens[position : position + 1] == [b"."] and position + 1 < len(tokens):
                parts.append(_part(tokens[position + 1]))
                position += 2
            names.add(tuple(parts))
            level.expects_name = False
        else:
            _read_word(level, token.upper(), tokens[position - 2].upper() if position > 1 else b"")
    return names


def _read_word(level: _Level, word: bytes, before: bytes) -> None:
    if word == b"SELECT":
        level.has_select, level.in_from, level.expects_name = True, False, False
    elif word == b"FROM":
        # Not that of EXTRACT(x FROM y) and its like, nor that of IS DISTINCT FROM.
        if level.has_select and before != b"DISTINCT":
            level.in_from = level.expects_name = True
    elif word == b"JOIN":
        level.expects_name = level.in_from
    elif word in _ENDS_OF_FROM:
        level.in_from = level.expects_name = False


def _is_name(token: bytes) -> bool:
    is_word = token[0] in b'"`_$' or token[:1].isalpha() or token[0] >= 0x80
    return is_word and token.upper() not in _NO_NAMES and token.upper() != b"SELECT"


def _part(token: bytes) -> bytes:
    return token.strip(b'"`').lower()
