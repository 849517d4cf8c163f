"""Statements and results: the words that all three layers share.

Text is UTF-8 `bytes` throughout: a payload stays the bytes of the request's frame until they are in the frame of the
reply, neither decoded nor copied. Names of numbers end in their unit. Each statement is one class.

Adding a statement: one class here, one grammar rule in `protocol`, one method of the state machine, one row in the
tests' tables.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from typing import ClassVar, TypeAlias, final

import msgspec


class Binary(bytes):
    """A value that the client sent as binary: it is answered as binary (commands.md §2, wire.md §5)."""

    __slots__ = ()


# A path or prefix: the whole text, case-sensitive (commands.md §3).
Path: TypeAlias = bytes
# The address of an item: its path or its id (commands.md §2, "keyref").
KeyRef: TypeAlias = bytes | int
# (authenticated user, connection_id, message_id): identifies one message of one client for ever (wire.md §3).
RequestKey: TypeAlias = tuple[bytes, bytes, int]
# A payload, result or cache value. `Binary` is a subclass of `bytes`.
Value: TypeAlias = bytes
Cell: TypeAlias = bytes | int | float | bool | None
Row: TypeAlias = tuple[Cell, ...]


class ColumnType(enum.Enum):
    """Types of a result's columns (wire.md §5)."""

    STRING = "String"
    BOOLEAN = "Boolean"
    INT = "Int"
    BYTES = "Bytes"
    FLOAT = "Float"
    TIMESTAMP = "Timestamp"  # cells are whole milliseconds since the epoch


class Columns:
    """Names and types of a result's columns. Commands share one object each, so that encoders can cache by identity."""

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
    """The table that answers a statement. `rows` never changes after the result was returned."""

    columns: Columns
    rows: Sequence[tuple[Cell, ...]]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Result):
            return NotImplemented
        mine, theirs = self.columns, other.columns
        return (mine.names, mine.types, list(self.rows)) == (theirs.names, theirs.types, list(other.rows))

    __hash__ = None  # type: ignore[assignment]  # a table is compared, never looked up


_S, _B, _I = ColumnType.STRING, ColumnType.BOOLEAN, ColumnType.INT

# Columns of commands.md §4 to §6, each named after the first command that has them.
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
    """What a statement changes, and so how a repeated message is treated (wire.md §3)."""

    NONE = "none"  # it only reads: executed again
    REPEATABLE = "repeatable"  # executed again: the second time changes nothing that matters
    KEPT = "kept"  # not executed again: it gets the kept answer of the first time


class Statement(msgspec.Struct, gc=False):
    """The base of all statements that the parser produces. Structs of msgspec: two or three are made for each request.

    `family` and `command` name the statement in metrics and logs. `command` is the class name without its first word:
    `merge_extra` for QueueMergeExtra. `effect` says how a second message with the same request key is treated,
    `has_texts` whether the answer holds a payload or a result.
    """

    family: ClassVar[str]
    command: ClassVar[str]
    effect: ClassVar[Effect] = Effect.NONE
    has_texts: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        cls.command = re.sub("(?<!^)(?=[A-Z])", "_", cls.__name__).lower().partition("_")[2]


class QueueStatement(Statement):
    family = "queue"


class CacheStatement(Statement):
    family = "cache"


class SysStatement(Statement):
    family = "sys"


class QueueAdd(QueueStatement):
    """`QUEUE ADD` (commands.md §4.1): `orphaned_s` in seconds, `external_id` at most 48 bytes."""

    effect = Effect.KEPT
    path: Path
    payload: Value
    priority: int = 0
    orphaned_s: int | None = None
    exclusive: bool = False
    external_id: bytes | None = None


class QueueAddAndRetrieve(QueueStatement):
    """`QUEUE ADD_AND_RETRIEVE` (commands.md §4.2)."""

    effect = Effect.KEPT
    has_texts = True
    path: Path
    payload: Value
    concurrency: int
    priority: int = 0
    orphaned_s: int | None = None
    exclusive: bool = False
    external_id: bytes | None = None


class QueueGet(QueueStatement):
    """`QUEUE GET` (commands.md §4.3)."""

    key: KeyRef


class QueueList(QueueStatement):
    """`QUEUE LIST`: pending and active items (commands.md §4.4)."""

    prefix: Path
    with_payload: bool = False


class QueuePending(QueueStatement):
    """`QUEUE PENDING` (commands.md §4.4)."""

    prefix: Path
    with_payload: bool = False


class QueueActive(QueueStatement):
    """`QUEUE ACTIVE` (commands.md §4.4)."""

    prefix: Path
    with_payload: bool = False


class QueueCancel(QueueStatement):
    """`QUEUE CANCEL` (commands.md §4.6)."""

    effect = Effect.KEPT
    has_texts = True
    key: KeyRef


class QueueHeartbeat(QueueStatement):
    """`QUEUE HEARTBEAT` (commands.md §4.7)."""

    effect = Effect.REPEATABLE
    key: KeyRef


class QueueAck(QueueStatement):
    """`QUEUE ACK` (commands.md §4.10); `value` is None for `ACK k NULL`."""

    effect = Effect.KEPT
    key: KeyRef
    value: Value | None


class QueueMergeExtra(QueueStatement):
    """`QUEUE MERGE_EXTRA` (commands.md §4.8)."""

    effect = Effect.KEPT
    key: KeyRef
    extra: bytes


class QueueStalled(QueueStatement):
    """`QUEUE STALLED` (commands.md §4.5)."""

    prefix: Path
    heartbeat_timeout_ms: int


class QueueOrphaned(QueueStatement):
    """`QUEUE ORPHANED` (commands.md §4.5)."""

    prefix: Path
    orphaned_timeout_ms: int


class QueueToCancel(QueueStatement):
    """`QUEUE TO_CANCEL`: STALLED and ORPHANED in one (commands.md §4.5)."""

    prefix: Path
    heartbeat_timeout_ms: int
    orphaned_timeout_ms: int


class QueueRetrieve(QueueStatement):
    """`QUEUE RETRIEVE` (commands.md §4.9)."""

    effect = Effect.KEPT
    has_texts = True
    path: Path
    concurrency: int = 1
    extended: bool = False


class QueueResult(QueueStatement):
    """`QUEUE RESULT` (commands.md §4.11). By path it takes the result, hence its effect."""

    effect = Effect.KEPT
    has_texts = True
    key: KeyRef
    external_id: bytes | None = None


class QueueResultBlocking(QueueStatement):
    """`QUEUE RESULT_BLOCKING` (commands.md §4.11): waits up to `timeout_ms`."""

    effect = Effect.KEPT
    has_texts = True
    key: KeyRef
    timeout_ms: int


class QueueClear(QueueStatement):
    """`QUEUE CLEAR`, formerly `TRUNCATE` (commands.md §4.12)."""

    effect = Effect.KEPT


class CacheSet(CacheStatement):
    """`CACHE SET` (commands.md §5). Without `ttl_s` the entry never expires; `nx` does not replace a live entry."""

    effect = Effect.KEPT
    path: Path
    value: Value
    ttl_s: int | None = None
    nx: bool = False


class CacheGet(CacheStatement):
    """`CACHE GET` (commands.md §5)."""

    path: Path


class CacheKeys(CacheStatement):
    """`CACHE KEYS` (commands.md §3, §5); `prefix` is the argument as sent, with its trailing `:` or `:*`."""

    prefix: Path


class CacheIncr(CacheStatement):
    """`CACHE INCR` (commands.md §5)."""

    effect = Effect.KEPT
    path: Path


class CacheRemove(CacheStatement):
    """`CACHE REMOVE` (commands.md §5)."""

    effect = Effect.KEPT
    path: Path


class CacheClear(CacheStatement):
    """`CACHE CLEAR`, formerly `TRUNCATE` (commands.md §5)."""

    effect = Effect.KEPT


class CachestoreAction(enum.Enum):
    """The words after `SYS CACHESTORE` (commands.md §6)."""

    COMPACTION = "compaction"
    END_DROP_GUARD = "end_drop_guard"  # ours: `storage.cache.drop_guard`
    EVICTION = "eviction"
    HEALTHCHECK = "healthcheck"
    INFO = "info"
    PERSIST = "persist"
    TRUNCATE = "truncate"
    WIPE = "wipe"


class SysCachestore(SysStatement):
    """`SYS CACHESTORE …` (commands.md §6)."""

    action: CachestoreAction

    @property
    def effect(self) -> Effect:  # type: ignore[override]  # of one object here, for INFO only reads: on a full disk too
        return Effect.NONE if self.action is CachestoreAction.INFO else Effect.KEPT


class SysForeign(SysStatement):
    """A SYS statement of CubeStore's pre-aggregation engine: METASTORE, DROP, KILL, REPARTITION, PANIC.

    `text` is its normal form in upper case, e.g. `METASTORE COMPACTION`, for the text of the answer.
    """

    text: str


class OtherSql(Statement):
    """SQL outside QUEUE, CACHE and SYS: start-up statements, refresh keys, DDL (commands.md §9)."""

    family = "sql"
    text: bytes
    parameters: tuple[Cell, ...] = ()
