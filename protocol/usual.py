"""The usual spellings: how Cube's drivers write their statements (clients.md §2), read in one step each.

A reader gets a text, the offset behind the head and the native parameters. It returns the statement that the rule of
`protocol.grammar` would find, or None for any other spelling: the rule then reads the text and finds its mistakes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, Protocol, TypeAlias

from protocol.lexer import TRIVIA_STARTS
from protocol.literals import last_literal
from storage.vocabulary import (
    CacheSet,
    Cell,
    KeyRef,
    OtherSql,
    Path,
    QueueAck,
    QueueAdd,
    QueueMergeExtra,
    QueueResultBlocking,
    QueueRetrieve,
    QueueToCancel,
    Statement,
)

Parameters: TypeAlias = tuple[Cell, ...] | None
Usual: TypeAlias = Callable[[bytes, int, Parameters], Statement | None]

_KEY: Final = rb"'([^'\\]{0,255})'"
_KEYREF: Final = rb"(?:'([^'\\]{0,255})'|([0-9]{1,18}))"
_END: Final = rb" *\Z"  # older drivers leave blanks there

_key_to_end = re.compile(_KEY + _END).match
_list_to_end = re.compile(rb"(WITH_PAYLOAD )?" + _KEY + _END).match
_keyref_to_end = re.compile(_KEYREF + _END).match
_wait_to_end = re.compile(rb"([0-9]{1,18}) " + _KEYREF + _END).match
_cancel_to_end = re.compile(rb"([0-9]{1,9}) ([0-9]{1,9}) " + _KEY + _END).match
_claim_to_end = re.compile(rb"(EXTENDED )?CONCURRENCY ([0-9]{1,9}) " + _KEY + _END).match
# These end at the quote that opens a payload, or at a placeholder.
_add_head = re.compile(
    rb"(EXCLUSIVE )?(?:PRIORITY (-?[0-9]{1,18}) )?(?:ORPHANED ([0-9]{1,9}) )?"
    rb"(?:EXTERNAL_ID '([^'\\]{0,48})' )?" + _KEY + rb" (?=')"
).match
_keyref_head = re.compile(_KEYREF + rb" (?=')").match
_set_head = re.compile(rb"(NX )?TTL ([0-9]{1,9}) " + _KEY + rb" (?=['?])").match

_MAX_UINT32: Final = (1 << 32) - 1
_QUOTE: Final = ord("'")


class _OfKeyRef(Protocol):
    def __call__(self, key: KeyRef) -> Statement: ...


class _OfKey(Protocol):
    def __call__(self, prefix: Path, with_payload: bool, /) -> Statement: ...


class _OfCacheKey(Protocol):
    def __call__(self, path: Path, /) -> Statement: ...


def of_keyref(make: _OfKeyRef) -> Usual:
    """`'path'` or an id, and nothing more."""

    def read(text: bytes, at: int, parameters: Parameters) -> Statement | None:
        found = _keyref_to_end(text, at)
        if found is None:
            return None
        path, id_ = found.groups()
        return make(int(id_) if path is None else path)

    return read


def of_key(make: _OfKey) -> Usual:
    """`'prefix'`, perhaps behind WITH_PAYLOAD."""

    def read(text: bytes, at: int, parameters: Parameters) -> Statement | None:
        found = _list_to_end(text, at)
        return None if found is None else make(found[2], found[1] is not None)

    return read


def of_cache_key(make: _OfCacheKey) -> Usual:
    """`'path'` or a parameter."""

    def read(text: bytes, at: int, parameters: Parameters) -> Statement | None:
        found = _key_to_end(text, at)
        if found is not None:
            return make(found[1])
        if text[at:] == b"?" and parameters and type(parameters[0]) is bytes:
            return make(parameters[0])
        return None

    return read


def add(text: bytes, at: int, parameters: Parameters) -> Statement | None:
    """`[EXCLUSIVE ][PRIORITY n ][ORPHANED n ][EXTERNAL_ID 'id' ]'path' 'payload'`."""
    head = _add_head(text, at)
    if head is None:
        return None
    payload = last_literal(text, head.end())
    if payload is None:
        return None
    exclusive, priority, orphaned_s, external_id, path = head.groups()
    return QueueAdd(
        path,
        payload,
        0 if priority is None else int(priority),
        None if orphaned_s is None else int(orphaned_s),
        exclusive is not None,
        external_id,
    )


def ack(text: bytes, at: int, parameters: Parameters) -> Statement | None:
    """`'path' 'value'` or `id 'value'`, or both as parameters."""
    head = _keyref_head(text, at)
    if head is not None:
        value = last_literal(text, head.end())
        path, id_ = head.groups()
        return None if value is None else QueueAck(int(id_) if path is None else path, value)
    if parameters is not None and len(parameters) > 1 and text[at:].rstrip(b" ") == b"? ?":
        key, result = parameters[:2]
        is_key = type(key) is bytes or (type(key) is int and key >= 0)
        if is_key and (result is None or isinstance(result, bytes)):
            return QueueAck(key, result)  # type: ignore[arg-type]  # it is one
    return None


def merge_extra(text: bytes, at: int, parameters: Parameters) -> Statement | None:
    """`'path' 'extra'` or `id 'extra'`."""
    head = _keyref_head(text, at)
    if head is None:
        return None
    extra = last_literal(text, head.end())
    path, id_ = head.groups()
    return None if extra is None else QueueMergeExtra(int(id_) if path is None else path, extra)


def retrieve(text: bytes, at: int, parameters: Parameters) -> Statement | None:
    """`[EXTENDED ]CONCURRENCY n 'path'`."""
    found = _claim_to_end(text, at)
    return None if found is None else QueueRetrieve(found[3], int(found[2]), found[1] is not None)


def result_blocking(text: bytes, at: int, parameters: Parameters) -> Statement | None:
    """`ms 'path'` or `ms id`."""
    found = _wait_to_end(text, at)
    if found is None:
        return None
    timeout_ms, path, id_ = found.groups()
    return QueueResultBlocking(int(id_) if path is None else path, int(timeout_ms))


def to_cancel(text: bytes, at: int, parameters: Parameters) -> Statement | None:
    """`ms ms 'prefix'`."""
    found = _cancel_to_end(text, at)
    return None if found is None else QueueToCancel(found[3], int(found[1]), int(found[2]))


def cache_set(text: bytes, at: int, parameters: Parameters) -> Statement | None:
    """`[NX ]TTL n 'path' 'value'`, the value or all three as parameters."""
    head = _set_head(text, at)
    if head is not None:
        nx, ttl_s, path = head.groups()
        behind = head.end()
        if text[behind] == _QUOTE:
            value = last_literal(text, behind)
        else:
            is_one = len(text) == behind + 1 and parameters and isinstance(parameters[0], bytes)
            value = parameters[0] if is_one else None  # type: ignore[index,assignment]  # it is one
        return None if value is None else CacheSet(path, value, int(ttl_s), nx is not None)
    if parameters is not None and len(parameters) > 2 and text[at:] == b"TTL ? ? ?":
        ttl, key, given = parameters[:3]
        if type(ttl) is int and 0 <= ttl <= _MAX_UINT32 and type(key) is bytes and isinstance(given, bytes):
            return CacheSet(key, given, ttl)
    return None


def other_sql(text: bytes, at: int, parameters: Parameters) -> OtherSql | None:
    """SQL of another kind, of which only the beginning is read; blanks and comments there are left to the rule."""
    is_trivia = at < len(text) and text[at] in TRIVIA_STARTS
    return None if is_trivia else OtherSql(text, parameters or ())
