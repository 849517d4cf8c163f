"""The rules of QUEUE (commands.md §2): one function a command, which reads what follows the command word."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, TypeAlias

from protocol.cursor import INT64, UINT32, UINT64, Cursor
from protocol.errors import ParserError
from protocol.lexer import PLAIN_KEY
from storage.vocabulary import (
    Path,
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
)

EXTERNAL_ID_MAX_BYTES: Final = 48
_ADD_OPTIONS: Final = frozenset((b"EXCLUSIVE", b"PRIORITY", b"ORPHANED", b"EXTERNAL_ID"))
# What the drivers write in front of a payload (clients.md §2).
_USUAL_ADD: Final = re.compile(
    rb"(?:(EXCLUSIVE) )?(?:PRIORITY (-?[0-9]{1,18}) )?(?:ORPHANED ([0-9]{1,9}) )?"
    rb"(?:EXTERNAL_ID '([^'\\]{0,%d})' )?%s" % (EXTERNAL_ID_MAX_BYTES, PLAIN_KEY)
)
_USUAL_RETRIEVE: Final = re.compile(rb"(?:(EXTENDED) )?CONCURRENCY ([0-9]{1,9}) " + PLAIN_KEY)

# Priority, orphaned in seconds, exclusive, external id: the order of the fields of `QueueAdd`.
_AddOptions: TypeAlias = tuple[int, int | None, bool, bytes | None]


def _add_options_and_key(cursor: Cursor) -> tuple[_AddOptions, Path]:
    usual = cursor.usual(_USUAL_ADD)
    if usual is None:
        return _add_options(cursor), cursor.key()
    exclusive, priority, orphaned_s, external_id, path = usual.groups()
    options = (
        0 if priority is None else int(priority),
        None if orphaned_s is None else int(orphaned_s),
        exclusive is not None,
        external_id,
    )
    return options, path


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


def _add(cursor: Cursor) -> QueueAdd:
    options, path = _add_options_and_key(cursor)
    return QueueAdd(path, cursor.value(), *options)


def _add_and_retrieve(cursor: Cursor) -> QueueAddAndRetrieve:
    options, path = _add_options_and_key(cursor)
    return QueueAddAndRetrieve(path, cursor.value(), cursor.integer("concurrency", UINT32), *options)


def _get(cursor: Cursor) -> QueueGet:
    return QueueGet(cursor.keyref())


def _list(cursor: Cursor) -> QueueList:
    with_payload = cursor.flag(b"WITH_PAYLOAD")
    return QueueList(cursor.key(), with_payload)


def _pending(cursor: Cursor) -> QueuePending:
    with_payload = cursor.flag(b"WITH_PAYLOAD")
    return QueuePending(cursor.key(), with_payload)


def _active(cursor: Cursor) -> QueueActive:
    with_payload = cursor.flag(b"WITH_PAYLOAD")
    return QueueActive(cursor.key(), with_payload)


def _cancel(cursor: Cursor) -> QueueCancel:
    return QueueCancel(cursor.keyref())


def _heartbeat(cursor: Cursor) -> QueueHeartbeat:
    return QueueHeartbeat(cursor.keyref())


def _ack(cursor: Cursor) -> QueueAck:
    return QueueAck(cursor.keyref(), cursor.value_or_null())


def _merge_extra(cursor: Cursor) -> QueueMergeExtra:
    return QueueMergeExtra(cursor.keyref(), cursor.string())


def _stalled(cursor: Cursor) -> QueueStalled:
    heartbeat_timeout_ms = cursor.integer("heartbeat timeout", UINT32)
    return QueueStalled(cursor.key(), heartbeat_timeout_ms)


def _orphaned(cursor: Cursor) -> QueueOrphaned:
    orphaned_timeout_ms = cursor.integer("orphaned timeout", UINT32)
    return QueueOrphaned(cursor.key(), orphaned_timeout_ms)


def _to_cancel(cursor: Cursor) -> QueueToCancel:
    heartbeat_timeout_ms = cursor.integer("heartbeat timeout", UINT32)
    orphaned_timeout_ms = cursor.integer("orphaned timeout", UINT32)
    return QueueToCancel(cursor.key(), heartbeat_timeout_ms, orphaned_timeout_ms)


def _retrieve(cursor: Cursor) -> QueueRetrieve:
    usual = cursor.usual(_USUAL_RETRIEVE)
    if usual is not None:
        return QueueRetrieve(usual[3], int(usual[2]), usual[1] is not None)
    extended = cursor.flag(b"EXTENDED")
    concurrency = cursor.integer("concurrency", UINT32) if cursor.flag(b"CONCURRENCY") else 1
    return QueueRetrieve(cursor.key(), concurrency, extended)


def _result(cursor: Cursor) -> QueueResult:
    external_id = _external_id(cursor) if cursor.flag(b"EXTERNAL_ID") else None
    return QueueResult(cursor.keyref(), external_id)


def _result_blocking(cursor: Cursor) -> QueueResultBlocking:
    timeout_ms = cursor.integer("timeout", UINT64)
    return QueueResultBlocking(cursor.keyref(), timeout_ms)


def _clear(_cursor: Cursor) -> QueueClear:
    return QueueClear()


QUEUE_RULES: Final[dict[bytes, Callable[[Cursor], Statement]]] = {
    b"ADD": _add,
    b"ADD_AND_RETRIEVE": _add_and_retrieve,
    b"GET": _get,
    b"LIST": _list,
    b"PENDING": _pending,
    b"ACTIVE": _active,
    b"CANCEL": _cancel,
    b"HEARTBEAT": _heartbeat,
    b"ACK": _ack,
    b"MERGE_EXTRA": _merge_extra,
    b"STALLED": _stalled,
    b"ORPHANED": _orphaned,
    b"TO_CANCEL": _to_cancel,
    b"RETRIEVE": _retrieve,
    b"RESULT": _result,
    b"RESULT_BLOCKING": _result_blocking,
    b"CLEAR": _clear,
    b"TRUNCATE": _clear,
}
