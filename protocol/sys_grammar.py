"""The rules of SYS (commands.md §2): what CubeStore's own engine would do is kept as its normal form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from protocol.cursor import UINT64, UINT128, Cursor
from protocol.errors import ParserError
from storage.vocabulary import CachestoreAction, Statement, SysCachestore, SysForeign

_CACHESTORE_ACTIONS: Final = {action.name.encode(): action for action in CachestoreAction}
_METASTORE_ACTIONS: Final = frozenset((b"COMPACTION", b"HEALTHCHECK", b"TRUNCATE"))


def _cachestore(cursor: Cursor) -> SysCachestore:
    action = _CACHESTORE_ACTIONS.get(cursor.word() or b"")
    if action is None:
        raise ParserError("Unknown cachestore command")
    return SysCachestore(action)


def _metastore(cursor: Cursor) -> SysForeign:
    action = cursor.word()
    if action == b"SET_CURRENT":
        return SysForeign(f"METASTORE SET_CURRENT {cursor.integer('metastore snapshot id', UINT128)}")
    if action is None or action not in _METASTORE_ACTIONS:
        raise ParserError("Unknown metastore command")
    return SysForeign(f"METASTORE {action.decode()}")


def _drop(cursor: Cursor) -> SysForeign:
    query = "QUERY " if cursor.flag(b"QUERY") else ""
    if not cursor.flag(b"CACHE"):
        raise ParserError("Unknown drop command")
    return SysForeign(f"DROP {query}CACHE")


def _kill(cursor: Cursor) -> SysForeign:
    if not (cursor.flag(b"ALL") and cursor.flag(b"JOBS")):
        raise unknown_system_command()
    return SysForeign("KILL ALL JOBS")


def _repartition(cursor: Cursor) -> SysForeign:
    return SysForeign(f"REPARTITION {cursor.integer('partition id', UINT64)}")


def _panic(cursor: Cursor) -> SysForeign:
    if not cursor.flag(b"WORKER"):
        raise unknown_system_command()
    return SysForeign("PANIC WORKER")


def unknown_system_command() -> ParserError:
    """The error of a SYS statement that is none."""
    return ParserError("Unknown system command")


SYS_RULES: Final[dict[bytes, Callable[[Cursor], Statement]]] = {
    b"CACHESTORE": _cachestore,
    b"METASTORE": _metastore,
    b"DROP": _drop,
    b"KILL": _kill,
    b"REPARTITION": _repartition,
    b"PANIC": _panic,
}
