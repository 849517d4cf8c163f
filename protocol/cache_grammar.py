"""The rules of CACHE (commands.md §2): one function a command, which reads what follows the command word."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from protocol.cursor import UINT32, Cursor
from protocol.lexer import PLAIN_KEY
from storage.vocabulary import CacheClear, CacheGet, CacheIncr, CacheKeys, CacheRemove, CacheSet, Statement

# What the drivers write in front of a value (clients.md §2).
_USUAL_SET: Final = re.compile(rb"(?:(NX) )?TTL ([0-9]{1,9}) " + PLAIN_KEY)


def _set(cursor: Cursor) -> CacheSet:
    usual = cursor.usual(_USUAL_SET)
    if usual is not None:
        return CacheSet(usual[3], cursor.value(), int(usual[2]), usual[1] is not None)
    nx = cursor.flag(b"NX")
    ttl_s = cursor.integer("ttl", UINT32) if cursor.flag(b"TTL") else None
    return CacheSet(cursor.key(), cursor.value(), ttl_s, nx)


def _get(cursor: Cursor) -> CacheGet:
    return CacheGet(cursor.key())


def _keys(cursor: Cursor) -> CacheKeys:
    return CacheKeys(cursor.key())


def _incr(cursor: Cursor) -> CacheIncr:
    return CacheIncr(cursor.key())


def _remove(cursor: Cursor) -> CacheRemove:
    return CacheRemove(cursor.key())


def _clear(_cursor: Cursor) -> CacheClear:
    return CacheClear()


CACHE_RULES: Final[dict[bytes, Callable[[Cursor], Statement]]] = {
    b"SET": _set,
    b"GET": _get,
    b"KEYS": _keys,
    b"INCR": _incr,
    b"REMOVE": _remove,
    b"CLEAR": _clear,
    b"TRUNCATE": _clear,
}
