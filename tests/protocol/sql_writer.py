"""Statements written as SQL: the other way round of the parser, in any style of quoting that the lexer allows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from storage.vocabulary import (
    Binary,
    CacheClear,
    CacheGet,
    CacheIncr,
    CacheKeys,
    CacheRemove,
    CacheSet,
    Cell,
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

# sqlstring 2.3, CHARS_ESCAPE_MAP: what the JS client escapes, and how (commands.md §1).
SQLSTRING_ESCAPES = {
    0x00: b"\\0",
    0x08: b"\\b",
    0x09: b"\\t",
    0x0A: b"\\n",
    0x0D: b"\\r",
    0x1A: b"\\Z",
    0x22: b'\\"',
    0x27: b"\\'",
    0x5C: b"\\\\",
}


def sqlstring(text: bytes) -> bytes:
    """The literal that the JS client writes for a string."""
    return b"'" + b"".join(SQLSTRING_ESCAPES.get(code, bytes((code,))) for code in text) + b"'"


def ansi(text: bytes) -> bytes:
    """Quotes doubled, only backslashes escaped."""
    return b"'" + text.replace(b"\\", b"\\\\").replace(b"'", b"''") + b"'"


def double_quoted(text: bytes) -> bytes:
    return b'"' + text.replace(b'"', b'""') + b'"'


def back_ticked(text: bytes) -> bytes:
    return b"`" + text.replace(b"`", b"``") + b"`"


QUOTING = (sqlstring, ansi, double_quoted, back_ticked)


@dataclass
class Keyword:
    word: bytes


@dataclass
class Text:
    value: Cell


@dataclass
class Number:
    value: int


Piece: TypeAlias = Keyword | Text | Number


def pieces(statement: Statement) -> list[Piece]:
    """The terminals of the statement, in the order of the grammar (commands.md §2)."""
    words = f"{statement.family} {statement.command}".upper().split()
    return [*(Keyword(word.encode()) for word in words), *_ARGUMENTS[type(statement)](statement)]


def _optional(name: bytes, piece: Piece | None = None) -> list[Piece]:
    return [Keyword(name)] if piece is None else [Keyword(name), piece]


def _keyref(key: bytes | int) -> Piece:
    return Number(key) if isinstance(key, int) else Text(key)


def _add_options(s: QueueAdd | QueueAddAndRetrieve) -> list[Piece]:
    return [
        *(_optional(b"EXCLUSIVE") if s.exclusive else ()),
        *(_optional(b"PRIORITY", Number(s.priority)) if s.priority else ()),
        *(_optional(b"ORPHANED", Number(s.orphaned_s)) if s.orphaned_s is not None else ()),
        *(_optional(b"EXTERNAL_ID", Text(s.external_id)) if s.external_id is not None else ()),
    ]


def _listing(s: QueueList | QueuePending | QueueActive) -> list[Piece]:
    return [*(_optional(b"WITH_PAYLOAD") if s.with_payload else ()), Text(s.prefix)]


_ARGUMENTS: dict[type[Statement], Callable[..., list[Piece]]] = {
    QueueAdd: lambda s: [*_add_options(s), Text(s.path), Text(s.payload)],
    QueueAddAndRetrieve: lambda s: [*_add_options(s), Text(s.path), Text(s.payload), Number(s.concurrency)],
    QueueGet: lambda s: [_keyref(s.key)],
    QueueList: _listing,
    QueuePending: _listing,
    QueueActive: _listing,
    QueueCancel: lambda s: [_keyref(s.key)],
    QueueHeartbeat: lambda s: [_keyref(s.key)],
    QueueAck: lambda s: [_keyref(s.key), Text(s.value)],
    QueueMergeExtra: lambda s: [_keyref(s.key), Text(s.extra)],
    QueueStalled: lambda s: [Number(s.heartbeat_timeout_ms), Text(s.prefix)],
    QueueOrphaned: lambda s: [Number(s.orphaned_timeout_ms), Text(s.prefix)],
    QueueToCancel: lambda s: [Number(s.heartbeat_timeout_ms), Number(s.orphaned_timeout_ms), Text(s.prefix)],
    QueueRetrieve: lambda s: [
        *(_optional(b"EXTENDED") if s.extended else ()),
        *(_optional(b"CONCURRENCY", Number(s.concurrency)) if s.concurrency != 1 else ()),
        Text(s.path),
    ],
    QueueResult: lambda s: [
        *(_optional(b"EXTERNAL_ID", Text(s.external_id)) if s.external_id is not None else ()),
        _keyref(s.key),
    ],
    QueueResultBlocking: lambda s: [Number(s.timeout_ms), _keyref(s.key)],
    QueueClear: lambda s: [],
    CacheSet: lambda s: [
        *(_optional(b"NX") if s.nx else ()),
        *(_optional(b"TTL", Number(s.ttl_s)) if s.ttl_s is not None else ()),
        Text(s.path),
        Text(s.value),
    ],
    CacheGet: lambda s: [Text(s.path)],
    CacheKeys: lambda s: [Text(s.prefix)],
    CacheIncr: lambda s: [Text(s.path)],
    CacheRemove: lambda s: [Text(s.path)],
    CacheClear: lambda s: [],
    SysCachestore: lambda s: [Keyword(s.action.name.encode())],
}


def write_foreign(statement: SysForeign) -> bytes:
    """`SysForeign` keeps its text, so this is all there is to it."""
    return b"SYS " + statement.text.encode()


def write_value(value: Cell, quoting: Callable[[bytes], bytes] = sqlstring) -> bytes:
    if value is None:
        return b"NULL"
    if isinstance(value, Binary):
        return b"X'" + value.hex().encode() + b"'"
    assert isinstance(value, bytes)
    return quoting(value)


def write(statement: Statement) -> bytes:
    """The text that the JS client sends when it formats the values itself."""
    words = []
    for piece in pieces(statement):
        if isinstance(piece, Keyword):
            words.append(piece.word)
        elif isinstance(piece, Number):
            words.append(b"%d" % piece.value)
        else:
            words.append(write_value(piece.value))
    return b" ".join(words)
