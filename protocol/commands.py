"""The table of all statements, and the way from a text to one of them (commands.md §1, §2).

Each row has a head, the statement's class, the grammar's rule, and the usual spelling: how the real clients write the
statement. The usual spelling is read by one regular expression and finds what the rule would find; a text in any
other spelling is left to the rule, which reads tokens one after the other (`protocol.grammar`). SQL of another kind
is passed on as `OtherSql`.

Adding a statement: one class in `storage.vocabulary`, one rule in `protocol.grammar`, one row here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from protocol import grammar, usual
from protocol.cursor import Cursor
from protocol.errors import ParserError
from protocol.lexer import check_tokens, skip_trivia
from protocol.position import preview
from protocol.usual import Usual
from storage.vocabulary import (
    CacheClear,
    CacheGet,
    CacheIncr,
    CacheKeys,
    CacheRemove,
    CacheSet,
    Cell,
    OtherSql,
    QueueAck,
    QueueActive,
    QueueAdd,
    QueueAddAndRetrieve,
    QueueCancel,
    QueueClear,
    QueueGet,
    QueueHeartbeat,
    QueueList,
    QueueMergeExtra,
    QueueOrphaned,
    QueuePending,
    QueueResult,
    QueueResultBlocking,
    QueueRetrieve,
    QueueStalled,
    QueueToCancel,
    Statement,
    SysCachestore,
    SysForeign,
)

Rule: TypeAlias = Callable[[Cursor], Statement]


class Command(NamedTuple):
    """One row: `head` are the first two words; `usual` is None where clients have no usual spelling."""

    head: bytes
    statement: type[Statement]
    rule: Rule
    usual: Usual | None = None


COMMANDS: Final = (
    Command(b"QUEUE ADD", QueueAdd, grammar.add, usual.add),
    Command(b"QUEUE ADD_AND_RETRIEVE", QueueAddAndRetrieve, grammar.add_and_retrieve),
    Command(b"QUEUE GET", QueueGet, grammar.get, usual.of_keyref(QueueGet)),
    Command(b"QUEUE LIST", QueueList, grammar.list_, usual.of_key(QueueList)),
    Command(b"QUEUE PENDING", QueuePending, grammar.pending, usual.of_key(QueuePending)),
    Command(b"QUEUE ACTIVE", QueueActive, grammar.active, usual.of_key(QueueActive)),
    Command(b"QUEUE CANCEL", QueueCancel, grammar.cancel, usual.of_keyref(QueueCancel)),
    Command(b"QUEUE HEARTBEAT", QueueHeartbeat, grammar.heartbeat, usual.of_keyref(QueueHeartbeat)),
    Command(b"QUEUE ACK", QueueAck, grammar.ack, usual.ack),
    Command(b"QUEUE MERGE_EXTRA", QueueMergeExtra, grammar.merge_extra, usual.merge_extra),
    Command(b"QUEUE STALLED", QueueStalled, grammar.stalled),
    Command(b"QUEUE ORPHANED", QueueOrphaned, grammar.orphaned),
    Command(b"QUEUE TO_CANCEL", QueueToCancel, grammar.to_cancel, usual.to_cancel),
    Command(b"QUEUE RETRIEVE", QueueRetrieve, grammar.retrieve, usual.retrieve),
    Command(b"QUEUE RESULT", QueueResult, grammar.result, usual.of_keyref(QueueResult)),
    Command(b"QUEUE RESULT_BLOCKING", QueueResultBlocking, grammar.result_blocking, usual.result_blocking),
    Command(b"QUEUE CLEAR", QueueClear, grammar.queue_clear),
    Command(b"QUEUE TRUNCATE", QueueClear, grammar.queue_clear),
    Command(b"CACHE SET", CacheSet, grammar.cache_set, usual.cache_set),
    Command(b"CACHE GET", CacheGet, grammar.cache_get, usual.of_cache_key(CacheGet)),
    Command(b"CACHE KEYS", CacheKeys, grammar.cache_keys, usual.of_cache_key(CacheKeys)),
    Command(b"CACHE INCR", CacheIncr, grammar.cache_incr, usual.of_cache_key(CacheIncr)),
    Command(b"CACHE REMOVE", CacheRemove, grammar.cache_remove, usual.of_cache_key(CacheRemove)),
    Command(b"CACHE CLEAR", CacheClear, grammar.cache_clear),
    Command(b"CACHE TRUNCATE", CacheClear, grammar.cache_clear),
    Command(b"SYS CACHESTORE", SysCachestore, grammar.cachestore),
    Command(b"SYS METASTORE", SysForeign, grammar.metastore),
    Command(b"SYS DROP", SysForeign, grammar.drop),
    Command(b"SYS KILL", SysForeign, grammar.kill),
    Command(b"SYS REPARTITION", SysForeign, grammar.repartition),
    Command(b"SYS PANIC", SysForeign, grammar.panic),
)

_BY_HEAD: Final = {command.head: command for command in COMMANDS}
_USUAL: Final = {command.head: command.usual for command in COMMANDS if command.usual is not None}
_FAMILIES: Final = frozenset(command.head.split()[0] for command in COMMANDS)
_SHORTEST_FAMILY: Final = len(b"SYS ")
_LONGEST_HEAD: Final = max(map(len, _BY_HEAD))


def parse_statement(query: bytes | memoryview, parameters: tuple[Cell, ...] | None) -> Statement:
    """The statement that `query`, which is UTF-8, and its native parameters make.

    Surplus parameters and whatever follows the statement are ignored. Raises ParserError and TokenizerError with
    the texts of commands.md §8. Linear in the query; values are copied once.
    """
    text = query if type(query) is bytes else bytes(query)
    # QUEUE and CACHE are longer than SYS: a space at index 5 ends their first word, never their second.
    space = text.find(b" ", _SHORTEST_FAMILY + 2, _LONGEST_HEAD + 1)
    if space > 0:
        read = _USUAL.get(text[:space])
        if read is not None:
            statement = read(text, space + 1, parameters)
            if statement is not None:
                return statement
    return _parse_by_rule(text, space, parameters)


def _parse_by_rule(text: bytes, space: int, parameters: tuple[Cell, ...] | None) -> Statement:
    """Upstream cuts the whole text into tokens first, so it reports a quote or comment that is never closed before any
    other mistake: that is checked behind the statement, or behind the mistake."""
    command = _BY_HEAD.get(text[:space]) if space > 0 else None
    rule = None if command is None else command.rule
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
    if family is None or family not in _FAMILIES:
        return None
    word = cursor.word()
    if word is None and family != b"SYS":
        raise ParserError(f"Invalid token: {cursor.show_next()}, expected Word (command)")
    command = _BY_HEAD.get(b"%s %s" % (family, word or b""))
    if command is None:
        raise _unknown_command(family, word or b"")
    return command.rule


def _unknown_command(family: bytes, word: bytes) -> ParserError:
    if family == b"SYS":
        return grammar.unknown_system_command()
    if family == b"QUEUE":
        return ParserError(f"Unknown queue command: {preview(word.lower())}")
    available = "SET|GET|KEYS|INCR|REMOVE|CLEAR"
    return ParserError(f"Unknown cache command: {preview(word.lower())}, available: {available}")
