"""A queue item (commands.md §4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from storage.queue.prefix_queue import PrefixQueue
    from storage.vocabulary import Path, Value


class Item:
    """One queue item: pending until it is claimed, then active until it is acknowledged or cancelled.

    Times are wall clock in whole milliseconds. `heartbeat_ms` is None before the first claim or HEARTBEAT.
    `key` is what stands behind the last colon of `path`, once the item is active: RETRIEVE names all active ones.
    `orphaned_ms` is when a pending item counts as orphaned by its own ORPHANED, None without one. Only the
    `ItemTable` that holds an item changes it, because the indexes of `queue` follow these fields.
    """

    __slots__ = (
        "active",
        "created_ms",
        "exclusive",
        "external_id",
        "extra",
        "heartbeat_ms",
        "id",
        "key",
        "orphaned_ms",
        "path",
        "payload",
        "priority",
        "process_id",
        "queue",
    )

    def __init__(  # noqa: PLR0917  # by position: it is made once an ADD, and keywords cost a fifth more
        self,
        id_: int,
        path: Path,
        queue: PrefixQueue,
        payload: Value,
        priority: int,
        created_ms: int,
        orphaned_ms: int | None,
        process_id: bytes | None,
        exclusive: bool,
        external_id: bytes | None,
    ) -> None:
        self.id = id_
        self.path = path
        self.queue = queue
        self.payload = payload
        self.extra: Value | None = None
        self.active = False
        self.key = b""
        self.priority = priority
        self.created_ms = created_ms
        self.heartbeat_ms: int | None = None
        self.orphaned_ms = orphaned_ms
        self.process_id = process_id
        self.exclusive = exclusive
        self.external_id = external_id

    @property
    def owner(self) -> bytes | None:
        """The process that alone may see and claim the item; None when everybody may (commands.md §4.4)."""
        return self.process_id if self.exclusive else None

    @property
    def size_bytes(self) -> int:
        """What the item counts towards the size of the queue: payload and extra."""
        return len(self.payload) + (0 if self.extra is None else len(self.extra))

    def __repr__(self) -> str:
        return f"Item({self.id}, {self.path!r}, {'active' if self.active else 'pending'})"
