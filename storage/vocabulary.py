"""What a client asks and what it gets: the only words that all three layers share.

Text is UTF-8 `bytes` throughout: a payload stays the bytes it arrived as, from the frame of the request to the
frame of the reply, and is neither decoded nor copied on the way. A value that the client sent as *binary* is a
`Binary`. Numbers carry their unit last in their name. Every statement is one class; `command` and `family` name
it in metrics and logs, `effect` says what a second execution of the same message would do (wire.md §3).

Adding a statement: one class here, one grammar rule in `protocol`, one method of the state machine, one row in
the tests' tables.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import ClassVar, TypeAlias, final

import msgspec


class Binary(bytes):
    """A value that was sent as binary and is given back as binary (commands.md §2, wire.md §5)."""

    __slots__ = ()


# A path or prefix: the whole text, case-sensitive (commands.md §3).
Path: TypeAlias = bytes
# What addresses an item: its path, or its numeric id (commands.md §2, "keyref").
KeyRef: TypeAlias = bytes | int
# (authenticated user, connection_id, message_id): names one message of one client for ever (wire.md §3).
RequestKey: TypeAlias = tuple[bytes, bytes, int]
# A payload, result or cache value. `Binary` is a subclass of `bytes`.
Value: TypeAlias = bytes
# One cell of a result: text or binary, a number, a truth value, or NULL.
Cell: TypeAlias = bytes | int | float | bool | None
Row: TypeAlias = tuple[Cell, ...]


class ColumnType(enum.Enum):
    """The types a column of a result can have (wire.md §5)."""

    STRING = "String"
    BOOLEAN = "Boolean"
    INT = "Int"
    BYTES = "Bytes"
    FLOAT = "Float"
    TIMESTAMP = "Timestamp"  # cells are whole milliseconds since the epoch


class Columns:
    """The names and types of a result's columns; one shared object a command, so encoders cache by identity."""

    __slots__ = ("names", "types")

    def __init__(self, *columns: tuple[str, ColumnType]) -> None:
        self.names: tuple[str, ...] = tuple(name for name, _ in columns)
        self.types: tuple[ColumnType, ...] = tuple(type_ for _, type_ in columns)

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return f"Columns({', '.join(f'{n} {t.value}' for n, t in zip(self.names, self.types, strict=True))})"


@final
class Result(msgspec.Struct, eq=False, gc=False):
    """A table: what a statement answers. `rows` is not changed after the result was handed out."""

    columns: Columns
    rows: Sequence[tuple[Cell, ...]]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Result):
            return NotImplemented
        mine, theirs = self.columns, other.columns
        return (mine.names, mine.types, list(self.rows)) == (theirs.names, theirs.types, list(other.rows))

    __hash__ = None  # type: ignore[assignment]  # a table is compared, never looked up


_S, _B, _I = ColumnType.STRING, ColumnType.BOOLEAN, ColumnType.INT

# The column sets of commands.md §4 to §6, each named after the first command that answers with it.
NO_COLUMNS = Columns()
ADD_COLUMNS = Columns(("id", _S), ("added", _B), ("pending", _I))
ADD_AND_RETRIEVE_COLUMNS = Columns(
    ("id", _S), ("added", _B), ("pending", _I), ("active", _S), ("payload", _S), ("extra", _S)
)
PAYLOAD_COLUMNS = Columns(("payload", _S), ("extra", _S))  # GET, CANCEL
LIST_COLUMNS = Columns(("id", _S), ("queue_id", _S), ("status", _S), ("extra", _S))
LIST_WITH_PAYLOAD_COLUMNS = Columns(("id", _S), ("queue_id", _S), ("status", _S), ("extra", _S), ("payload", _S))
TO_CANCEL_COLUMNS = Columns(("id", _S), ("queue_id", _S))  # STALLED, ORPHANED, TO_CANCEL
RETRIEVE_COLUMNS = Columns(("payload", _S), ("extra", _S), ("pending", _I), ("active", _S), ("id", _S))
SUCCESS_COLUMNS = Columns(("success", _B))  # ACK, CACHE SET
RESULT_COLUMNS = Columns(("payload", _S), ("type", _S), ("id", _S), ("external_id", _S))
VALUE_COLUMNS = Columns(("value", _S))  # CACHE GET, CACHE INCR
KEY_COLUMNS = Columns(("key", _S))  # CACHE KEYS
INFO_COLUMNS = Columns(("name", _S), ("value", _S), ("description", _S))

EMPTY_RESULT = Result(NO_COLUMNS, ())


class Effect(enum.Enum):
    """What a statement changes, and so what a message does that arrives a second time."""

    NONE = "none"  # it only reads: it is executed again
    REPEATABLE = "repeatable"  # it may be executed again: the second time changes nothing of weight
    KEPT = "kept"  # it gets the answer that was kept of the first time


class Statement(msgspec.Struct, gc=False):
    """The base of everything the parser can produce. Made in C: two or three are made for each request."""

    family: ClassVar[str]
    command: ClassVar[str]
    effect: ClassVar[Effect] = Effect.NONE


class QueueStatement(Statement, gc=False):
    family: ClassVar[str] = "queue"


class CacheStatement(Statement, gc=False):
    family: ClassVar[str] = "cache"


class SysStatement(Statement, gc=False):
    family: ClassVar[str] = "sys"


class QueueAdd(QueueStatement, gc=False):
    """`QUEUE ADD` (commands.md §4.1): `orphaned_s` in seconds, `external_id` at most 48 bytes."""

    command: ClassVar[str] = "add"
    effect: ClassVar[Effect] = Effect.KEPT
    path: Path
    payload: Value
    priority: int = 0
    orphaned_s: int | None = None
    exclusive: bool = False
    external_id: bytes | None = None


class QueueAddAndRetrieve(QueueStatement, gc=False):
    """`QUEUE ADD_AND_RETRIEVE` (commands.md §4.2)."""

    command: ClassVar[str] = "add_and_retrieve"
    effect: ClassVar[Effect] = Effect.KEPT
    path: Path
    payload: Value
    concurrency: int
    priority: int = 0
    orphaned_s: int | None = None
    exclusive: bool = False
    external_id: bytes | None = None


class QueueGet(QueueStatement, gc=False):
    """`QUEUE GET` (commands.md §4.3)."""

    command: ClassVar[str] = "get"
    key: KeyRef


class QueueList(QueueStatement, gc=False):
    """`QUEUE LIST`: pending and active items (commands.md §4.4)."""

    command: ClassVar[str] = "list"
    prefix: Path
    with_payload: bool = False


class QueuePending(QueueStatement, gc=False):
    """`QUEUE PENDING` (commands.md §4.4)."""

    command: ClassVar[str] = "pending"
    prefix: Path
    with_payload: bool = False


class QueueActive(QueueStatement, gc=False):
    """`QUEUE ACTIVE` (commands.md §4.4)."""

    command: ClassVar[str] = "active"
    prefix: Path
    with_payload: bool = False


class QueueCancel(QueueStatement, gc=False):
    """`QUEUE CANCEL` (commands.md §4.6)."""

    command: ClassVar[str] = "cancel"
    effect: ClassVar[Effect] = Effect.KEPT
    key: KeyRef


class QueueHeartbeat(QueueStatement, gc=False):
    """`QUEUE HEARTBEAT` (commands.md §4.7)."""

    command: ClassVar[str] = "heartbeat"
    effect: ClassVar[Effect] = Effect.REPEATABLE
    key: KeyRef


class QueueAck(QueueStatement, gc=False):
    """`QUEUE ACK` (commands.md §4.10); `value` None is `ACK k NULL`."""

    command: ClassVar[str] = "ack"
    effect: ClassVar[Effect] = Effect.KEPT
    key: KeyRef
    value: Value | None


class QueueMergeExtra(QueueStatement, gc=False):
    """`QUEUE MERGE_EXTRA` (commands.md §4.8)."""

    command: ClassVar[str] = "merge_extra"
    effect: ClassVar[Effect] = Effect.KEPT
    key: KeyRef
    extra: bytes


class QueueStalled(QueueStatement, gc=False):
    """`QUEUE STALLED` (commands.md §4.5)."""

    command: ClassVar[str] = "stalled"
    prefix: Path
    heartbeat_timeout_ms: int


class QueueOrphaned(QueueStatement, gc=False):
    """`QUEUE ORPHANED` (commands.md §4.5)."""

    command: ClassVar[str] = "orphaned"
    prefix: Path
    orphaned_timeout_ms: int


class QueueToCancel(QueueStatement, gc=False):
    """`QUEUE TO_CANCEL`: STALLED and ORPHANED in one (commands.md §4.5)."""

    command: ClassVar[str] = "to_cancel"
    prefix: Path
    heartbeat_timeout_ms: int
    orphaned_timeout_ms: int


class QueueRetrieve(QueueStatement, gc=False):
    """`QUEUE RETRIEVE` (commands.md §4.9)."""

    command: ClassVar[str] = "retrieve"
    effect: ClassVar[Effect] = Effect.KEPT
    path: Path
    concurrency: int = 1
    extended: bool = False


class QueueResult(QueueStatement, gc=False):
    """`QUEUE RESULT` (commands.md §4.11); by path it is one-shot, hence its effect."""

    command: ClassVar[str] = "result"
    effect: ClassVar[Effect] = Effect.KEPT
    key: KeyRef
    external_id: bytes | None = None


class QueueResultBlocking(QueueStatement, gc=False):
    """`QUEUE RESULT_BLOCKING` (commands.md §4.11): waits at most `timeout_ms`."""

    command: ClassVar[str] = "result_blocking"
    effect: ClassVar[Effect] = Effect.KEPT
    key: KeyRef
    timeout_ms: int


class QueueClear(QueueStatement, gc=False):
    """`QUEUE CLEAR`, formerly `TRUNCATE` (commands.md §4.12)."""

    command: ClassVar[str] = "clear"
    effect: ClassVar[Effect] = Effect.KEPT


class CacheSet(CacheStatement, gc=False):
    """`CACHE SET` (commands.md §5): `ttl_s` None lives for ever, `nx` leaves a live entry alone."""

    command: ClassVar[str] = "set"
    effect: ClassVar[Effect] = Effect.KEPT
    path: Path
    value: Value
    ttl_s: int | None = None
    nx: bool = False


class CacheGet(CacheStatement, gc=False):
    """`CACHE GET` (commands.md §5)."""

    command: ClassVar[str] = "get"
    path: Path


class CacheKeys(CacheStatement, gc=False):
    """`CACHE KEYS` (commands.md §3, §5); `prefix` as sent, a trailing `:` or `:*` included."""

    command: ClassVar[str] = "keys"
    prefix: Path


class CacheIncr(CacheStatement, gc=False):
    """`CACHE INCR` (commands.md §5)."""

    command: ClassVar[str] = "incr"
    effect: ClassVar[Effect] = Effect.KEPT
    path: Path


class CacheRemove(CacheStatement, gc=False):
    """`CACHE REMOVE` (commands.md §5)."""

    command: ClassVar[str] = "remove"
    effect: ClassVar[Effect] = Effect.KEPT
    path: Path


class CacheClear(CacheStatement, gc=False):
    """`CACHE CLEAR`, formerly `TRUNCATE` (commands.md §5)."""

    command: ClassVar[str] = "clear"
    effect: ClassVar[Effect] = Effect.KEPT


class CachestoreAction(enum.Enum):
    """The words after `SYS CACHESTORE` (commands.md §6)."""

    COMPACTION = "compaction"
    EVICTION = "eviction"
    HEALTHCHECK = "healthcheck"
    INFO = "info"
    PERSIST = "persist"
    TRUNCATE = "truncate"
    WIPE = "wipe"


class SysCachestore(SysStatement, gc=False):
    """`SYS CACHESTORE …` (commands.md §6)."""

    command: ClassVar[str] = "cachestore"
    effect: ClassVar[Effect] = Effect.KEPT
    action: CachestoreAction


class SysForeign(SysStatement, gc=False):
    """A SYS statement of CubeStore's pre-aggregation engine: METASTORE, DROP, KILL, REPARTITION, PANIC.

    `text` is its normal form in upper case, e.g. `METASTORE COMPACTION`: what answers it says so in words.
    """

    command: ClassVar[str] = "foreign"
    text: str


class OtherSql(Statement, gc=False):
    """SQL outside QUEUE, CACHE and SYS: start-up statements, refresh keys, DDL (commands.md §9)."""

    family: ClassVar[str] = "sql"
    command: ClassVar[str] = "sql"
    text: bytes
    parameters: tuple[Cell, ...] = ()
