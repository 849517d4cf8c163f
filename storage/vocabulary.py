"""What a client asks and what it gets: the only words that all three layers share.

Text is UTF-8 `bytes` throughout: a payload stays the bytes it arrived as, from the frame of the request to the
frame of the reply, and is neither decoded nor copied on the way. A value that the client sent as *binary* is a
`Binary`. Numbers carry their unit last in their name. Every statement is one class; `command` and `family` name
it in metrics and logs, `has_effects` says whether its answer must be kept for a client that asks again
(wire.md §3): executing it twice could change something twice.

Adding a statement: one class here, one grammar rule in `protocol`, one method of the state machine, one row in
the tests' tables.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias, final


class Binary(bytes):
    """A value that was sent as binary and is given back as binary (commands.md §2, wire.md §5)."""

    __slots__ = ()


# A path or prefix: the whole text, case-sensitive (commands.md §3).
Path: TypeAlias = bytes
# What addresses an item: its path, or its numeric id (commands.md §2, "keyref").
KeyRef: TypeAlias = bytes | int
# A payload, result or cache value. `Binary` is a subclass of `bytes`.
Value: TypeAlias = bytes
# One cell of a result: text or binary, a number, a truth value, or NULL.
Cell: TypeAlias = bytes | int | float | bool | None


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
class Result:
    """A table: what a statement answers. `rows` is not changed after the result was handed out."""

    __slots__ = ("columns", "rows")

    def __init__(self, columns: Columns, rows: Sequence[tuple[Cell, ...]]) -> None:
        self.columns = columns
        self.rows = rows

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Result):
            return NotImplemented
        mine, theirs = self.columns, other.columns
        return (mine.names, mine.types, list(self.rows)) == (theirs.names, theirs.types, list(other.rows))

    __hash__ = None  # type: ignore[assignment]  # a table is compared, never looked up

    def __repr__(self) -> str:
        return f"Result({self.columns!r}, {self.rows!r})"


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


class Statement:
    """The base of everything the parser can produce."""

    __slots__ = ()
    family: ClassVar[str]
    command: ClassVar[str]
    has_effects: ClassVar[bool] = False


class QueueStatement(Statement):
    __slots__ = ()
    family: ClassVar[str] = "queue"


class CacheStatement(Statement):
    __slots__ = ()
    family: ClassVar[str] = "cache"


class SysStatement(Statement):
    __slots__ = ()
    family: ClassVar[str] = "sys"


@dataclass(slots=True)
class QueueAdd(QueueStatement):
    """`QUEUE ADD` (commands.md §4.1): `orphaned_s` in seconds, `external_id` at most 48 bytes."""

    command: ClassVar[str] = "add"
    has_effects: ClassVar[bool] = True
    path: Path
    payload: Value
    priority: int = 0
    orphaned_s: int | None = None
    exclusive: bool = False
    external_id: bytes | None = None


@dataclass(slots=True)
class QueueAddAndRetrieve(QueueStatement):
    """`QUEUE ADD_AND_RETRIEVE` (commands.md §4.2)."""

    command: ClassVar[str] = "add_and_retrieve"
    has_effects: ClassVar[bool] = True
    path: Path
    payload: Value
    concurrency: int
    priority: int = 0
    orphaned_s: int | None = None
    exclusive: bool = False
    external_id: bytes | None = None


@dataclass(slots=True)
class QueueGet(QueueStatement):
    """`QUEUE GET` (commands.md §4.3)."""

    command: ClassVar[str] = "get"
    key: KeyRef


@dataclass(slots=True)
class QueueList(QueueStatement):
    """`QUEUE LIST`: pending and active items (commands.md §4.4)."""

    command: ClassVar[str] = "list"
    prefix: Path
    with_payload: bool = False


@dataclass(slots=True)
class QueuePending(QueueStatement):
    """`QUEUE PENDING` (commands.md §4.4)."""

    command: ClassVar[str] = "pending"
    prefix: Path
    with_payload: bool = False


@dataclass(slots=True)
class QueueActive(QueueStatement):
    """`QUEUE ACTIVE` (commands.md §4.4)."""

    command: ClassVar[str] = "active"
    prefix: Path
    with_payload: bool = False


@dataclass(slots=True)
class QueueCancel(QueueStatement):
    """`QUEUE CANCEL` (commands.md §4.6)."""

    command: ClassVar[str] = "cancel"
    has_effects: ClassVar[bool] = True
    key: KeyRef


@dataclass(slots=True)
class QueueHeartbeat(QueueStatement):
    """`QUEUE HEARTBEAT` (commands.md §4.7)."""

    command: ClassVar[str] = "heartbeat"
    has_effects: ClassVar[bool] = True
    key: KeyRef


@dataclass(slots=True)
class QueueAck(QueueStatement):
    """`QUEUE ACK` (commands.md §4.10); `value` None is `ACK k NULL`."""

    command: ClassVar[str] = "ack"
    has_effects: ClassVar[bool] = True
    key: KeyRef
    value: Value | None


@dataclass(slots=True)
class QueueMergeExtra(QueueStatement):
    """`QUEUE MERGE_EXTRA` (commands.md §4.8)."""

    command: ClassVar[str] = "merge_extra"
    has_effects: ClassVar[bool] = True
    key: KeyRef
    extra: bytes


@dataclass(slots=True)
class QueueStalled(QueueStatement):
    """`QUEUE STALLED` (commands.md §4.5)."""

    command: ClassVar[str] = "stalled"
    prefix: Path
    heartbeat_timeout_ms: int


@dataclass(slots=True)
class QueueOrphaned(QueueStatement):
    """`QUEUE ORPHANED` (commands.md §4.5)."""

    command: ClassVar[str] = "orphaned"
    prefix: Path
    orphaned_timeout_ms: int


@dataclass(slots=True)
class QueueToCancel(QueueStatement):
    """`QUEUE TO_CANCEL`: STALLED and ORPHANED in one (commands.md §4.5)."""

    command: ClassVar[str] = "to_cancel"
    prefix: Path
    heartbeat_timeout_ms: int
    orphaned_timeout_ms: int


@dataclass(slots=True)
class QueueRetrieve(QueueStatement):
    """`QUEUE RETRIEVE` (commands.md §4.9)."""

    command: ClassVar[str] = "retrieve"
    has_effects: ClassVar[bool] = True
    path: Path
    concurrency: int = 1
    extended: bool = False


@dataclass(slots=True)
class QueueResult(QueueStatement):
    """`QUEUE RESULT` (commands.md §4.11); by path it is one-shot, hence its effect."""

    command: ClassVar[str] = "result"
    has_effects: ClassVar[bool] = True
    key: KeyRef
    external_id: bytes | None = None


@dataclass(slots=True)
class QueueResultBlocking(QueueStatement):
    """`QUEUE RESULT_BLOCKING` (commands.md §4.11): waits at most `timeout_ms`."""

    command: ClassVar[str] = "result_blocking"
    has_effects: ClassVar[bool] = True
    key: KeyRef
    timeout_ms: int


@dataclass(slots=True)
class QueueClear(QueueStatement):
    """`QUEUE CLEAR`, formerly `TRUNCATE` (commands.md §4.12)."""

    command: ClassVar[str] = "clear"
    has_effects: ClassVar[bool] = True


@dataclass(slots=True)
class CacheSet(CacheStatement):
    """`CACHE SET` (commands.md §5): `ttl_s` None lives for ever, `nx` leaves a live entry alone."""

    command: ClassVar[str] = "set"
    has_effects: ClassVar[bool] = True
    path: Path
    value: Value
    ttl_s: int | None = None
    nx: bool = False


@dataclass(slots=True)
class CacheGet(CacheStatement):
    """`CACHE GET` (commands.md §5)."""

    command: ClassVar[str] = "get"
    path: Path


@dataclass(slots=True)
class CacheKeys(CacheStatement):
    """`CACHE KEYS` (commands.md §3, §5); `prefix` as sent, a trailing `:` or `:*` included."""

    command: ClassVar[str] = "keys"
    prefix: Path


@dataclass(slots=True)
class CacheIncr(CacheStatement):
    """`CACHE INCR` (commands.md §5)."""

    command: ClassVar[str] = "incr"
    has_effects: ClassVar[bool] = True
    path: Path


@dataclass(slots=True)
class CacheRemove(CacheStatement):
    """`CACHE REMOVE` (commands.md §5)."""

    command: ClassVar[str] = "remove"
    has_effects: ClassVar[bool] = True
    path: Path


@dataclass(slots=True)
class CacheClear(CacheStatement):
    """`CACHE CLEAR`, formerly `TRUNCATE` (commands.md §5)."""

    command: ClassVar[str] = "clear"
    has_effects: ClassVar[bool] = True


class CachestoreAction(enum.Enum):
    """The words after `SYS CACHESTORE` (commands.md §6)."""

    COMPACTION = "compaction"
    EVICTION = "eviction"
    HEALTHCHECK = "healthcheck"
    INFO = "info"
    PERSIST = "persist"
    TRUNCATE = "truncate"
    WIPE = "wipe"


@dataclass(slots=True)
class SysCachestore(SysStatement):
    """`SYS CACHESTORE …` (commands.md §6)."""

    command: ClassVar[str] = "cachestore"
    has_effects: ClassVar[bool] = True
    action: CachestoreAction


@dataclass(slots=True)
class SysForeign(SysStatement):
    """A SYS statement of CubeStore's pre-aggregation engine: METASTORE, DROP, KILL, REPARTITION, PANIC.

    `text` is its normal form in upper case, e.g. `METASTORE COMPACTION`: what answers it says so in words.
    """

    command: ClassVar[str] = "foreign"
    text: str


class OtherSql(Statement):
    """SQL outside QUEUE, CACHE and SYS: start-up statements, refresh keys, DDL (commands.md §9)."""

    __slots__ = ("parameters", "text")
    family: ClassVar[str] = "sql"
    command: ClassVar[str] = "sql"

    def __init__(self, text: bytes, parameters: tuple[Cell, ...] = ()) -> None:
        self.text = text
        self.parameters = parameters

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OtherSql) and (self.text, self.parameters) == (other.text, other.parameters)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"OtherSql({self.text!r}, {self.parameters!r})"
