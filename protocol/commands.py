"""The table of all statements, and the way from a text to one of them (commands.md §1, §2).

Each row has a head, the statement's class, the usual spelling, and the grammar's rule: the terminals in the order in
which they are written. The usual spelling is how the real clients write the statement: one regular expression reads it
and finds what the rule would find. The rule reads any other spelling, token by token (`protocol.grammar`). SQL of
another kind is passed on as `OtherSql`.

Adding a statement: one class in `storage.vocabulary`, one row here.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from protocol import grammar, usual
from protocol.cursor import UINT64, Cursor
from protocol.errors import ParserError
from protocol.grammar import Rule, behind, flag, integer, rule
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

_KEY: Final = Cursor.key
_KEYREF: Final = Cursor.keyref
_WITH_PAYLOAD: Final = flag(b"WITH_PAYLOAD")


class Command(NamedTuple):
    """One row: `head` are the first two words; `usual` is None where clients have no usual spelling."""

    head: bytes
    statement: type[Statement]
    rule: Rule
    usual: Usual | None = None


def _row(
    head: bytes, statement: type[Statement], usual_: Usual | None = None, /, **terminals: grammar.Terminal
) -> Command:
    return Command(head, statement, rule(statement, **terminals), usual_)


COMMANDS: Final = (
    Command(b"QUEUE ADD", QueueAdd, grammar.add, usual.add),
    Command(b"QUEUE ADD_AND_RETRIEVE", QueueAddAndRetrieve, grammar.add_and_retrieve),
    _row(b"QUEUE GET", QueueGet, usual.of_keyref(QueueGet), key=_KEYREF),
    _row(b"QUEUE LIST", QueueList, usual.of_key(QueueList), with_payload=_WITH_PAYLOAD, prefix=_KEY),
    _row(b"QUEUE PENDING", QueuePending, usual.of_key(QueuePending), with_payload=_WITH_PAYLOAD, prefix=_KEY),
    _row(b"QUEUE ACTIVE", QueueActive, usual.of_key(QueueActive), with_payload=_WITH_PAYLOAD, prefix=_KEY),
    _row(b"QUEUE CANCEL", QueueCancel, usual.of_keyref(QueueCancel), key=_KEYREF),
    _row(b"QUEUE HEARTBEAT", QueueHeartbeat, usual.of_keyref(QueueHeartbeat), key=_KEYREF),
    _row(b"QUEUE ACK", QueueAck, usual.ack, key=_KEYREF, value=Cursor.value_or_null),
    _row(b"QUEUE MERGE_EXTRA", QueueMergeExtra, usual.merge_extra, key=_KEYREF, extra=Cursor.string),
    _row(b"QUEUE STALLED", QueueStalled, heartbeat_timeout_ms=integer("heartbeat timeout"), prefix=_KEY),
    _row(b"QUEUE ORPHANED", QueueOrphaned, orphaned_timeout_ms=integer("orphaned timeout"), prefix=_KEY),
    _row(
        b"QUEUE TO_CANCEL",
        QueueToCancel,
        usual.to_cancel,
        heartbeat_timeout_ms=integer("heartbeat timeout"),
        orphaned_timeout_ms=integer("orphaned timeout"),
        prefix=_KEY,
    ),
    _row(
        b"QUEUE RETRIEVE",
        QueueRetrieve,
        usual.retrieve,
        extended=flag(b"EXTENDED"),
        concurrency=behind(b"CONCURRENCY", integer("concurrency"), 1),
        path=_KEY,
    ),
    _row(
        b"QUEUE RESULT",
        QueueResult,
        usual.of_keyref(QueueResult),
        external_id=behind(b"EXTERNAL_ID", grammar.external_id),
        key=_KEYREF,
    ),
    _row(
        b"QUEUE RESULT_BLOCKING",
        QueueResultBlocking,
        usual.result_blocking,
        timeout_ms=integer("timeout", UINT64),
        key=_KEYREF,
    ),
    _row(b"QUEUE CLEAR", QueueClear),
    _row(b"QUEUE TRUNCATE", QueueClear),
    _row(
        b"CACHE SET",
        CacheSet,
        usual.cache_set,
        nx=flag(b"NX"),
        ttl_s=behind(b"TTL", integer("ttl")),
        path=_KEY,
        value=Cursor.value,
    ),
    _row(b"CACHE GET", CacheGet, usual.of_cache_key(CacheGet), path=_KEY),
    _row(b"CACHE KEYS", CacheKeys, usual.of_cache_key(CacheKeys), prefix=_KEY),
    _row(b"CACHE INCR", CacheIncr, usual.of_cache_key(CacheIncr), path=_KEY),
    _row(b"CACHE REMOVE", CacheRemove, usual.of_cache_key(CacheRemove), path=_KEY),
    _row(b"CACHE CLEAR", CacheClear),
    _row(b"CACHE TRUNCATE", CacheClear),
    _row(b"SYS CACHESTORE", SysCachestore, action=grammar.cachestore_action),
    _row(b"SYS METASTORE", SysForeign, text=grammar.metastore),
    _row(b"SYS DROP", SysForeign, text=grammar.drop),
    _row(b"SYS KILL", SysForeign, text=grammar.kill),
    _row(b"SYS REPARTITION", SysForeign, text=grammar.repartition),
    _row(b"SYS PANIC", SysForeign, text=grammar.panic),
)

_BY_HEAD: Final = {command.head: command for command in COMMANDS}
_USUAL: Final = {
    **{command.head: command.usual for command in COMMANDS if command.usual is not None},
    **dict.fromkeys((b"SELECT", b"INSERT", b"CREATE", b"DROP TABLE"), usual.other_sql),
}
FAMILIES: Final = frozenset(command.head.split()[0] for command in COMMANDS)
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
    cursor = Cursor(text, skip_trivia(text, 0 if command is None else space), parameters)
    try:
        if command is None:
            command = _command(cursor)
            if command is None:
                return OtherSql(text, parameters or ())
        statement = command.rule(cursor)
    except ParserError:
        check_tokens(text, cursor.offset)
        raise
    if cursor.offset < len(text):
        check_tokens(text, cursor.offset)
    return statement


def _command(cursor: Cursor) -> Command | None:
    """Read the words that begin the statement; None for SQL of another kind."""
    family = cursor.word()
    if family is None or family not in FAMILIES:
        return None
    word = cursor.word()
    if word is None and family != b"SYS":
        raise ParserError(f"Invalid token: {cursor.show_next()}, expected Word (command)")
    command = _BY_HEAD.get(b"%s %s" % (family, word or b""))
    if command is None:
        raise _unknown_command(family, word or b"")
    return command


def _unknown_command(family: bytes, word: bytes) -> ParserError:
    if family == b"SYS":
        return grammar.unknown_system_command()
    if family == b"QUEUE":
        return ParserError(f"Unknown queue command: {preview(word.lower())}")
    available = "SET|GET|KEYS|INCR|REMOVE|CLEAR"
    return ParserError(f"Unknown cache command: {preview(word.lower())}, available: {available}")
