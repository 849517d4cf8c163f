"""The interface by which the tables tell a journal of each change that is to outlast the process."""

from __future__ import annotations

from typing import Protocol

import msgspec

from storage.cache.entry import Entry
from storage.queue.history import EndedItem
from storage.queue.items import Item, StoredResult
from storage.stats import MinuteRows
from storage.vocabulary import RequestKey, Result, Value


class AnswerGroup(msgspec.Struct, gc=False):
    """Kept answers that were written as one row. `remaining` of them are still kept."""

    number: int
    remaining: int = 0


class Recorder(Protocol):
    """Is called after each change, in the order of the changes; `seq` rises with each. O(1) a call.

    After CLEAR, the `…_freed` call of each row follows once its memory is reclaimed: until then its texts are in use.
    """

    seq: int

    def item_put(self, item: Item) -> None:
        """A new item."""

    def item_touched(self, item: Item) -> None:
        """The item was claimed, or its heartbeat set."""

    def extra_set(self, item: Item, old: Value | None) -> None:
        """The extra of the item replaced `old`."""

    def item_removed(self, item: Item) -> None:
        """The item is gone."""

    def item_freed(self, item: Item) -> None:
        """An item that CLEAR removed is freed."""

    def result_put(self, result: StoredResult) -> None:
        """A new result."""

    def result_taken(self, result: StoredResult) -> None:
        """The result was read by path."""

    def result_removed(self, result: StoredResult) -> None:
        """The result is gone."""

    def result_freed(self, result: StoredResult) -> None:
        """A result that CLEAR removed is freed."""

    def queue_cleared(self) -> None:
        """All items and results are gone."""

    def entry_put(self, entry: Entry, old: Value | None) -> None:
        """A new entry, or one with a new value in place of `old`."""

    def entry_removed(self, entry: Entry) -> None:
        """The entry is gone."""

    def entry_freed(self, entry: Entry) -> None:
        """An entry that CLEAR removed is freed."""

    def cache_cleared(self) -> None:
        """All entries are gone."""

    def guard_set(self, until_ms: int) -> None:
        """The guard of the cache has another end; 0 when it is off."""

    def minute_ended(self, rows: MinuteRows) -> None:
        """A minute of the queues has ended. No answer waits for it."""

    def block_ended(self, number: int, items: list[EndedItem]) -> None:
        """A block of the history; it may come again with more items. No answer waits for it."""

    def answer_kept(self, key: RequestKey, result: Result, now_ms: int) -> AnswerGroup:
        """An answer is kept; returns the group to name when it is dropped. O(cells)."""

    def answers_kept(self, keys: list[RequestKey], result: Result, now_ms: int) -> AnswerGroup:
        """The same for one result that answers many requests. 0.1 µs each."""

    def answer_dropped(self, group: AnswerGroup, result: Result) -> None:
        """An answer of this group is no longer kept. O(cells)."""
