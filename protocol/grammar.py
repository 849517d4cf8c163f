"""The rules of QUEUE, CACHE and SYS (commands.md §2): one function a command.

Each reads what follows the two words that begin a statement, token by token, in any spelling that CubeStore accepts.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from protocol.cursor import INT64, UINT32, UINT64, UINT128, Cursor
from protocol.errors import ParserError
from storage.vocabulary import (
    CacheClear,
    CacheGet,
    CacheIncr,
    CacheKeys,
    CacheRemove,
    CacheSet,
    CachestoreAction,
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
    SysCachestore,
    SysForeign,
)

EXTERNAL_ID_MAX_BYTES: Final = 48
_ADD_OPTIONS: Final = frozenset((b"EXCLUSIVE", b"PRIORITY", b"ORPHANED", b"EXTERNAL_ID"))
_CACHESTORE_ACTIONS: Final = {action.name.encode(): action for action in CachestoreAction}
_METASTORE_ACTIONS: Final = frozenset((b"COMPACTION", b"HEALTHCHECK", b"TRUNCATE"))

# Priority, orphaned in seconds, exclusive, external id: the order of the fields of `QueueAdd`.
_AddOptions: TypeAlias = tuple[int, int | None, bool, bytes | None]


# QUEUE


def _add_options(cursor: Cursor) -> _AddOptions:
    priority = orphaned_s = external_id = None
    exclusive = False
    while (name := cursor.option(_ADD_OPTIONS)) is not None:
        if name == b"PRIORITY" and priority is None:
            priority = cursor.integer("priority", INT64)
        elif name == b"ORPHANED" and orphaned_s is None:
            orphaned_s = cursor.integer("orphaned", UINT32)
        elif name == b"EXCLUSIVE" and not exclusive:
            exclusive = True
        elif name == b"EXTERNAL_ID" and external_id is None:
            external_id = _external_id(cursor)
        else:
            raise ParserError(f"Duplicate option: {name.decode()}")
    return priority or 0, orphaned_s, exclusive, external_id


def _external_id(cursor: Cursor) -> bytes:
    external_id = cursor.string()
    if len(external_id) > EXTERNAL_ID_MAX_BYTES:
        raise ParserError(f"external_id exceeds maximum allowed length of {EXTERNAL_ID_MAX_BYTES} characters")
    return external_id


def add(cursor: Cursor) -> QueueAdd:
    options, path = _add_options(cursor), cursor.key()
    return QueueAdd(path, cursor.value(), *options)


def add_and_retrieve(cursor: Cursor) -> QueueAddAndRetrieve:
    options, path = _add_options(cursor), cursor.key()
    return QueueAddAndRetrieve(path, cursor.value(), cursor.integer("concurrency", UINT32), *options)


def get(cursor: Cursor) -> QueueGet:
    return QueueGet(cursor.keyref())


def list_(cursor: Cursor) -> QueueList:
    with_payload = cursor.flag(b"WITH_PAYLOAD")
    return QueueList(cursor.key(), with_payload)


def pending(cursor: Cursor) -> QueuePending:
    with_payload = cursor.flag(b"WITH_PAYLOAD")
    return QueuePending(cursor.key(), with_payload)


def active(cursor: Cursor) -> QueueActive:
    with_payload = cursor.flag(b"WITH_PAYLOAD")
    return QueueActive(cursor.key(), with_payload)


def cancel(cursor: Cursor) -> QueueCancel:
    return QueueCancel(cursor.keyref())


def heartbeat(cursor: Cursor) -> QueueHeartbeat:
    return QueueHeartbeat(cursor.keyref())


def ack(cursor: Cursor) -> QueueAck:
    return QueueAck(cursor.keyref(), cursor.value_or_null())


def merge_extra(cursor: Cursor) -> QueueMergeExtra:
    return QueueMergeExtra(cursor.keyref(), cursor.string())


def stalled(cursor: Cursor) -> QueueStalled:
    heartbeat_timeout_ms = cursor.integer("heartbeat timeout", UINT32)
    return QueueStalled(cursor.key(), heartbeat_timeout_ms)


def orphaned(cursor: Cursor) -> QueueOrphaned:
    orphaned_timeout_ms = cursor.integer("orphaned timeout", UINT32)
    return QueueOrphaned(cursor.key(), orphaned_timeout_ms)


def to_cancel(cursor: Cursor) -> QueueToCancel:
    heartbeat_timeout_ms = cursor.integer("heartbeat timeout", UINT32)
    orphaned_timeout_ms = cursor.integer("orphaned timeout", UINT32)
    return QueueToCancel(cursor.key(), heartbeat_timeout_ms, orphaned_timeout_ms)


def retrieve(cursor: Cursor) -> QueueRetrieve:
    extended = cursor.flag(b"EXTENDED")
    concurrency = cursor.integer("concurrency", UINT32) if cursor.flag(b"CONCURRENCY") else 1
    return QueueRetrieve(cursor.key(), concurrency, extended)


def result(cursor: Cursor) -> QueueResult:
    external_id = _external_id(cursor) if cursor.flag(b"EXTERNAL_ID") else None
    return QueueResult(cursor.keyref(), external_id)


def result_blocking(cursor: Cursor) -> QueueResultBlocking:
    timeout_ms = cursor.integer("timeout", UINT64)
    return QueueResultBlocking(cursor.keyref(), timeout_ms)


def queue_clear(_cursor: Cursor) -> QueueClear:
    return QueueClear()


# CACHE


def cache_set(cursor: Cursor) -> CacheSet:
    nx = cursor.flag(b"NX")
    ttl_s = cursor.integer("ttl", UINT32) if cursor.flag(b"TTL") else None
    return CacheSet(cursor.key(), cursor.value(), ttl_s, nx)


def cache_get(cursor: Cursor) -> CacheGet:
    return CacheGet(cursor.key())


def cache_keys(cursor: Cursor) -> CacheKeys:
    return CacheKeys(cursor.key())


def cache_incr(cursor: Cursor) -> CacheIncr:
    return CacheIncr(cursor.key())


def cache_remove(cursor: Cursor) -> CacheRemove:
    return CacheRemove(cursor.key())


def cache_clear(_cursor: Cursor) -> CacheClear:
    return CacheClear()


# SYS


def cachestore(cursor: Cursor) -> SysCachestore:
    action = _CACHESTORE_ACTIONS.get(cursor.word() or b"")
    if action is None:
        raise ParserError("Unknown cachestore command")
    return SysCachestore(action)


def metastore(cursor: Cursor) -> SysForeign:
    action = cursor.word()
    if action == b"SET_CURRENT":
        return SysForeign(f"METASTORE SET_CURRENT {cursor.integer('metastore snapshot id', UINT128)}")
    if action is None or action not in _METASTORE_ACTIONS:
        raise ParserError("Unknown metastore command")
    return SysForeign(f"METASTORE {action.decode()}")


def drop(cursor: Cursor) -> SysForeign:
    query = "QUERY " if cursor.flag(b"QUERY") else ""
    if not cursor.flag(b"CACHE"):
        raise ParserError("Unknown drop command")
    return SysForeign(f"DROP {query}CACHE")


def kill(cursor: Cursor) -> SysForeign:
    if not (cursor.flag(b"ALL") and cursor.flag(b"JOBS")):
        raise unknown_system_command()
    return SysForeign("KILL ALL JOBS")


def repartition(cursor: Cursor) -> SysForeign:
    return SysForeign(f"REPARTITION {cursor.integer('partition id', UINT64)}")


def panic(cursor: Cursor) -> SysForeign:
    if not cursor.flag(b"WORKER"):
        raise unknown_system_command()
    return SysForeign("PANIC WORKER")


def unknown_system_command() -> ParserError:
    """The error of a SYS statement that is none."""
    return ParserError("Unknown system command")
