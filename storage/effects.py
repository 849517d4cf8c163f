"""What changed in state that is to outlast the process, told row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from storage.cache.entry import Entry
    from storage.engine import RequestKey
    from storage.queue.items import Item
    from storage.queue.results import StoredResult
    from storage.vocabulary import Result, Value


class AnswerGroup:
    """Kept answers that were written as one row. `remaining` of them are still kept."""

    __slots__ = ("number", "remaining")

    def __init__(self, number: int) -> None:
        self.number = number
        self.remaining = 0


class Effects:
    """One object a store, told of every row that is put, changed or deleted, after it happened.

    `seq` rises with each: it tells whether a statement changed anything, and numbers what replies wait for. This
    one writes nothing; `storage.journal.recorder.Recorder` does. Every method is O(1), or O(cells) for answers.
    """

    __slots__ = ("seq",)

    def __init__(self) -> None:
        self.seq = 0

    # Queue items.

    def item_put(self, item: Item) -> None:
        """A new item."""
        self.seq += 1

    def item_touched(self, item: Item) -> None:
        """It was claimed, or its heartbeat set."""
        self.seq += 1

    def extra_set(self, item: Item, old: Value | None) -> None:
        """Its extra was replaced."""
        self.seq += 1

    def item_removed(self, item: Item) -> None:
        """It is gone."""
        self.seq += 1

    def queue_cleared(self) -> None:
        """All items and results are gone; `item_freed` and `result_freed` follow for each, some time."""
        self.seq += 1

    def item_freed(self, item: Item) -> None:
        """One that CLEAR took lets go of its texts."""

    # Results.

    def result_put(self, result: StoredResult) -> None:
        """A new result."""
        self.seq += 1

    def result_taken(self, result: StoredResult) -> None:
        """It was read by path."""
        self.seq += 1

    def result_removed(self, result: StoredResult) -> None:
        """It is gone."""
        self.seq += 1

    def result_freed(self, result: StoredResult) -> None:
        """One that CLEAR took lets go of its value."""

    # Cache entries.

    def entry_put(self, entry: Entry, old: Value | None) -> None:
        """A new entry, or one with a new value in place of `old`."""
        self.seq += 1

    def entry_removed(self, entry: Entry) -> None:
        """It is gone."""
        self.seq += 1

    def cache_cleared(self) -> None:
        """All entries are gone; `entry_freed` follows for each, some time."""
        self.seq += 1

    def entry_freed(self, entry: Entry) -> None:
        """One that CLEAR took lets go of its value."""

    # Kept answers: those of statements that changed something. They are written with what was changed.

    def answer_kept(self, key: RequestKey, result: Result, now_ms: int) -> AnswerGroup | None:
        """An answer is kept; returns the group to name when it is dropped, None if it is not written."""
        return None

    def answer_dropped(self, group: AnswerGroup, result: Result) -> None:
        """An answer of this group is no longer kept."""
