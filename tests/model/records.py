"""What the naive model remembers: flat records, kept in plain lists (commands.md §4, "State kept per item")."""

from __future__ import annotations

from dataclasses import dataclass

from storage.asking import Later
from storage.errors import InternalError, UserError
from storage.vocabulary import KeyRef, RequestKey, Result

PENDING = b"pending"
ACTIVE = b"active"


class BoundError(UserError):
    """One past a bound of limits.py: the exact text is each engine's own, but it names the setting."""


class OversizeError(UserError):
    """CACHE SET of too large a value: the sizes in the text are listed in their MB form only (commands.md §5)."""


class JsonTextError(InternalError):
    """MERGE_EXTRA met text that is not JSON: only the one listed text is exact (decisions, "Ids, time, texts")."""


def prefix_of(path: bytes) -> bytes:
    """What stands before the last `:`; the empty prefix when there is none (commands.md §3, "path")."""
    return path.rpartition(b":")[0]


def key_of(path: bytes) -> bytes:
    """What stands behind the last `:`; the whole path when there is none (commands.md §3, "path")."""
    return path.rpartition(b":")[2]


@dataclass
class Item:
    """A queue item (commands.md §4)."""

    id: int
    path: bytes
    payload: bytes
    priority: int
    created_ms: int
    expire_ms: int
    orphaned_ms: int | None
    process_id: bytes | None
    exclusive: bool
    external_id: bytes | None
    status: bytes = PENDING
    heartbeat_ms: int | None = None
    extra: bytes | None = None

    @property
    def prefix(self) -> bytes:
        return prefix_of(self.path)

    @property
    def owner(self) -> bytes | None:
        """Whose the item is: only EXCLUSIVE items have an owner (commands.md §4.4)."""
        return self.process_id if self.exclusive else None

    @property
    def size(self) -> int:
        return len(self.payload) + len(self.extra or b"")

    def is_named(self, key: KeyRef) -> bool:
        """Whether a key reference, a path or a numeric id, means this item (commands.md §2, "Id vs path")."""
        return (self.id if isinstance(key, int) else self.path) == key


@dataclass
class StoredResult:
    """What ACK with a value leaves behind (commands.md §4.11, state-machine.md §2)."""

    id: int
    path: bytes
    value: bytes
    expire_ms: int
    external_id: bytes | None
    taken: bool = False


@dataclass
class Waiter:
    """A RESULT_BLOCKING that found no result (state-machine.md §3)."""

    key: KeyRef
    later: Later
    request_key: RequestKey | None


@dataclass
class Entry:
    """A cache entry (commands.md §5); `used` counts uses, `used_ms` dates the newest one."""

    path: bytes
    value: bytes
    expire_ms: int | None
    used: int
    used_ms: int

    @property
    def prefix(self) -> bytes:
        return prefix_of(self.path)


@dataclass
class Answer:
    """A kept answer (wire.md §3; decisions, "De-duplication"). `host` is the address that shares the room."""

    request_key: RequestKey
    result: Result
    answered_ms: int
    host: str = ""
    confirmed: bool = False
    undelivered: bool = False
