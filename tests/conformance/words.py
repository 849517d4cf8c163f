"""Statements in few words: texts instead of bytes, options by name."""

from __future__ import annotations

from storage.vocabulary import (
    Binary,
    CacheGet,
    CacheIncr,
    CacheKeys,
    CacheRemove,
    CacheSet,
    KeyRef,
    QueueAck,
    QueueActive,
    QueueAdd,
    QueueAddAndRetrieve,
    QueueCancel,
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
)


def add(
    path: str,
    payload: str = "{}",
    *,
    priority: int = 0,
    orphaned_s: int | None = None,
    exclusive: bool = False,
    external_id: str | None = None,
) -> QueueAdd:
    return QueueAdd(path.encode(), payload.encode(), priority, orphaned_s, exclusive, _optional(external_id))


def add_and_retrieve(
    path: str,
    payload: str = "{}",
    concurrency: int = 1,
    *,
    priority: int = 0,
    orphaned_s: int | None = None,
    exclusive: bool = False,
    external_id: str | None = None,
) -> QueueAddAndRetrieve:
    return QueueAddAndRetrieve(
        path.encode(), payload.encode(), concurrency, priority, orphaned_s, exclusive, _optional(external_id)
    )


def retrieve(path: str, concurrency: int = 1, *, extended: bool = False) -> QueueRetrieve:
    return QueueRetrieve(path.encode(), concurrency, extended)


def get(key: str | int) -> QueueGet:
    return QueueGet(_key(key))


def list_all(prefix: str, *, with_payload: bool = False) -> QueueList:
    return QueueList(prefix.encode(), with_payload)


def pending(prefix: str, *, with_payload: bool = False) -> QueuePending:
    return QueuePending(prefix.encode(), with_payload)


def active(prefix: str, *, with_payload: bool = False) -> QueueActive:
    return QueueActive(prefix.encode(), with_payload)


def stalled(prefix: str, timeout_ms: int) -> QueueStalled:
    return QueueStalled(prefix.encode(), timeout_ms)


def orphaned(prefix: str, timeout_ms: int) -> QueueOrphaned:
    return QueueOrphaned(prefix.encode(), timeout_ms)


def to_cancel(prefix: str, heartbeat_ms: int, orphaned_ms: int) -> QueueToCancel:
    return QueueToCancel(prefix.encode(), heartbeat_ms, orphaned_ms)


def cancel(key: str | int) -> QueueCancel:
    return QueueCancel(_key(key))


def heartbeat(key: str | int) -> QueueHeartbeat:
    return QueueHeartbeat(_key(key))


def merge_extra(key: str | int, extra: str) -> QueueMergeExtra:
    return QueueMergeExtra(_key(key), extra.encode())


def ack(key: str | int, value: str | bytes | None) -> QueueAck:
    return QueueAck(_key(key), _value(value))


def result(key: str | int, *, external_id: str | None = None) -> QueueResult:
    return QueueResult(_key(key), _optional(external_id))


def result_blocking(key: str | int, timeout_ms: int = 10_000) -> QueueResultBlocking:
    return QueueResultBlocking(_key(key), timeout_ms)


def cache_set(path: str, value: str | bytes, *, ttl_s: int | None = None, nx: bool = False) -> CacheSet:
    wanted = _value(value)
    assert wanted is not None
    return CacheSet(path.encode(), wanted, ttl_s, nx)


def cache_get(path: str) -> CacheGet:
    return CacheGet(path.encode())


def cache_keys(prefix: str) -> CacheKeys:
    return CacheKeys(prefix.encode())


def incr(path: str) -> CacheIncr:
    return CacheIncr(path.encode())


def remove(path: str) -> CacheRemove:
    return CacheRemove(path.encode())


def _key(key: str | int) -> KeyRef:
    return key if isinstance(key, int) else key.encode()


def _value(value: str | bytes | None) -> bytes | None:
    """A `str` is text; `bytes` are a value that was sent as binary."""
    if isinstance(value, bytes):
        return Binary(value)
    return _optional(value)


def _optional(text: str | None) -> bytes | None:
    return None if text is None else text.encode()
