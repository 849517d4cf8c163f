"""Text to statement: QUEUE, CACHE and SYS are understood here (commands.md §1, §2), other SQL is passed on.

The rules of the three families are functions over a `Cursor`, which reads tokens as they are asked for. Upstream cuts
the whole text into tokens first, so a quote or comment that is never closed is reported before any other mistake:
that is checked behind the statement, or behind the mistake.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from protocol.cache_grammar import CACHE_RULES
from protocol.cursor import Cursor
from protocol.errors import ParserError
from protocol.lexer import check_tokens, skip_trivia
from protocol.position import preview
from protocol.queue_grammar import QUEUE_RULES
from protocol.sys_grammar import SYS_RULES, unknown_system_command
from storage.vocabulary import Cell, OtherSql, Statement

Rule: TypeAlias = Callable[[Cursor], Statement]

_FAMILIES: Final = {b"QUEUE": QUEUE_RULES, b"CACHE": CACHE_RULES, b"SYS": SYS_RULES}

# The two words that begin a statement, as clients write them: most statements are recognised by these alone.
_HEADS: Final[dict[bytes, Rule]] = {
    b"%s %s" % (family, command): rule for family, rules in _FAMILIES.items() for command, rule in rules.items()
}
_SHORTEST_FAMILY: Final = len(b"SYS ")
_LONGEST_HEAD: Final = max(map(len, _HEADS))


def parse_statement(query: bytes | memoryview, parameters: tuple[Cell, ...] | None) -> Statement:
    """The statement that `query`, which is UTF-8, and its native parameters make.

    Surplus parameters and whatever follows the statement are ignored. Raises ParserError and TokenizerError with
    the texts of commands.md §8. Linear in the query; values are copied once.
    """
    text = query if type(query) is bytes else bytes(query)
    # QUEUE and CACHE are longer than SYS: a space at index 5 ends their first word, never their second.
    space = text.find(b" ", _SHORTEST_FAMILY + 2, _LONGEST_HEAD + 1)
    rule = _HEADS.get(text[:space]) if space > 0 else None
    cursor = Cursor(text, skip_trivia(text, 0 if rule is None else space), parameters)
    try:
        if rule is None:
            rule = _rule(cursor)
            if rule is None:
                return OtherSql(text, parameters or ())
        statement = rule(cursor)
    except ParserError:
        check_tokens(text, cursor.offset)
        raise
    if cursor.offset < len(text):
        check_tokens(text, cursor.offset)
    return statement


def _rule(cursor: Cursor) -> Rule | None:
    """Read the words that begin the statement: its rule, or None for SQL of another kind."""
    family = cursor.word()
    rules = _FAMILIES.get(family or b"")
    if rules is None:
        return None
    command = cursor.word()
    if command is None and family != b"SYS":
        raise ParserError(f"Invalid token: {cursor.show_next()}, expected Word (command)")
    rule = rules.get(command or b"")
    if rule is None:
        raise _unknown_command(family, command or b"")
    return rule


def _unknown_command(family: bytes | None, command: bytes) -> ParserError:
    if family == b"SYS":
        return unknown_system_command()
    if family == b"QUEUE":
        return ParserError(f"Unknown queue command: {preview(command.lower())}")
    available = "SET|GET|KEYS|INCR|REMOVE|CLEAR"
    return ParserError(f"Unknown cache command: {preview(command.lower())}, available: {available}")
