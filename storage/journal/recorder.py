"""Notes what statements change, and turns what changed since the last time into one group of rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from storage.asking import ANYBODY
from storage.cache.entry import Entry
from storage.journal import rows
from storage.journal.blobs import Blobs
from storage.minutes import KEPT_MINUTES
from storage.queue.history import BLOCKS, EndedItem
from storage.queue.items import Item, StoredResult
from storage.recorder import AnswerGroup
from storage.stats import MinuteRows
from storage.vocabulary import RequestKey, Result, Value

# Longer texts are written ahead of their group, chunk by chunk.
LARGE_BYTES: Final = rows.CHUNK_BYTES // 4


class Group(msgspec.Struct):
    """Rows that are committed together, in the order in which they are applied: ranges, deletes, puts.

    `large` are texts too long to be written in one go. They are written ahead, chunk by chunk: until the rest
    of the group is there nothing names them, and a start deletes what nothing names.
    """

    seq: int  # everything up to this commit sequence number is in it, or in one before
    ranges: list[bytes]  # kinds of rows of which all are deleted
    deletes: list[bytes]
    puts: list[tuple[bytes, bytes]]
    large: list[tuple[int, bytes]]
    mark: bytes = b""  # what is known to be synced by now, if that is news

    def chunks(self) -> Iterator[tuple[bytes, bytes]]:
        """The rows of the large texts."""
        for number, value in self.large:
            yield from chunks_of(number, value)


def chunks_of(number: int, value: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The rows of a large text."""
    for chunk, start in enumerate(range(0, len(value), rows.CHUNK_BYTES)):
        yield rows.chunk_key(number, chunk), bytes(value[start : start + rows.CHUNK_BYTES])


class Recorder:
    """Remembers which rows changed: a row that changes often between two groups is written once.

    It implements `storage.recorder.Recorder`. Costs a few dictionary entries a change; `take` is O(rows changed).
    """

    def __init__(self) -> None:
        self.seq = 0
        self.blobs = Blobs()
        self.moved_until_ms = 0  # by absences up to here times were moved when rows were read
        self._next_id = 0  # the id that the next item will get
        self._stored_next_id = 0
        self._next_group = 1
        self._next_write = 1
        self._begin()

    def _begin(self) -> None:
        self.is_clean = True  # nothing for a group
        self._ranges: list[bytes] = []
        self._notes: dict[bytes, bytes] = {}
        # What a row is now; None when it is gone.
        self._items: dict[int, Item | None] = {}
        self._states: dict[int, Item] = {}
        self._results: dict[int, StoredResult | None] = {}
        self._entries: dict[bytes, tuple[Entry, int] | None] = {}
        self._answers: list[tuple[RequestKey, Result, int]] = []
        self._group: AnswerGroup | None = None
        self._answer_groups: list[int] = []  # whose last answer was dropped

    def note(self, key: bytes, value: bytes) -> None:
        """Have the next group write a row that is no change of state."""
        self._notes[key] = value
        self.is_clean = False

    def lease(self, value: bytes) -> int:
        """Keep a large text that is written before any row names it, until `end_lease` at least. Its number."""
        return self.blobs.lease(value)

    def end_lease(self, value: bytes) -> None:
        """Only rows keep it from now on."""
        self.blobs.end_lease(value)
        self.is_clean = False

    # What the tables tell. A change counts in `seq`, for which answers wait; texts that are let go of do not.

    def item_put(self, item: Item) -> None:
        self._items[item.id] = item
        self._next_id = item.id + 1
        if len(item.payload) > rows.INLINE_BYTES:
            self.blobs.acquire(item.payload)
        self.seq += 1
        self.is_clean = False

    def item_touched(self, item: Item) -> None:
        self._states[item.id] = item
        self.seq += 1
        self.is_clean = False

    def extra_set(self, item: Item, old: Value | None) -> None:
        self._states[item.id] = item
        self.blobs.acquire(item.extra)
        self.blobs.release(old)
        self.seq += 1
        self.is_clean = False

    def item_removed(self, item: Item) -> None:
        self._items[item.id] = None
        self._states.pop(item.id, None)
        self.seq += 1
        self.item_freed(item)

    def item_freed(self, item: Item) -> None:
        if len(item.payload) > rows.INLINE_BYTES:
            self.blobs.release(item.payload)
        if item.extra is not None:
            self.blobs.release(item.extra)
        self.is_clean = False

    def queue_cleared(self) -> None:
        self._ranges += (rows.ITEM, rows.STATE, rows.RESULT)
        self._items.clear()
        self._states.clear()
        self._results.clear()
        self.seq += 1
        self.is_clean = False

    def result_put(self, result: StoredResult) -> None:
        self._results[result.id] = result
        if len(result.value) > rows.INLINE_BYTES:
            self.blobs.acquire(result.value)
        self.seq += 1
        self.is_clean = False

    def result_taken(self, result: StoredResult) -> None:
        self._results[result.id] = result
        self.seq += 1
        self.is_clean = False

    def result_removed(self, result: StoredResult) -> None:
        self._results[result.id] = None
        self.seq += 1
        self.result_freed(result)

    def result_freed(self, result: StoredResult) -> None:
        if len(result.value) > rows.INLINE_BYTES:
            self.blobs.release(result.value)
        self.is_clean = False

    def entry_put(self, entry: Entry, old: Value | None) -> None:
        self._entries[entry.path] = (entry, self._next_write)
        self._next_write += 1
        if len(entry.value) > rows.INLINE_BYTES:
            self.blobs.acquire(entry.value)
        if old is not None:
            self.blobs.release(old)
        self.seq += 1
        self.is_clean = False

    def entry_removed(self, entry: Entry) -> None:
        self._entries[entry.path] = None
        self.seq += 1
        self.entry_freed(entry)

    def cache_cleared(self) -> None:
        self._ranges.append(rows.ENTRY)
        self._entries.clear()
        self.seq += 1
        self.is_clean = False

    def entry_freed(self, entry: Entry) -> None:
        if len(entry.value) > rows.INLINE_BYTES:
            self.blobs.release(entry.value)
        self.is_clean = False

    def guard_set(self, until_ms: int) -> None:
        self.note(rows.GUARD_KEY, rows.encode(until_ms))

    def minute_ended(self, minutes: MinuteRows) -> None:
        number = minutes[0][1].minute % KEPT_MINUTES
        self.note(rows.numbered(rows.MINUTE, number), rows.encode(minutes))

    def block_ended(self, number: int, items: list[EndedItem]) -> None:
        self.note(rows.numbered(rows.BLOCK, number % BLOCKS), rows.encode((number, items)))

    def answer_kept(self, key: RequestKey, result: Result, now_ms: int) -> AnswerGroup:
        group = self._group
        if group is None:
            group = self._group = AnswerGroup(self._next_group)
            self._next_group += 1
        group.remaining += 1
        self._answers.append((key, result, now_ms))
        if result.columns not in rows.WITHOUT_TEXTS:
            for cell in _long_texts(result):
                self.blobs.acquire(cell)
        self.seq += 1
        self.is_clean = False
        return group

    def answers_kept(self, keys: list[RequestKey], result: Result, now_ms: int) -> AnswerGroup:
        group = self.answer_kept(keys[0], result, now_ms)
        more = keys[1:]
        self._answers += [(key, result, now_ms) for key in more]
        group.remaining += len(more)
        for cell in _long_texts(result):
            self.blobs.acquire(cell, len(more))
        return group

    def answer_dropped(self, group: AnswerGroup, result: Result) -> None:
        if result.columns not in rows.WITHOUT_TEXTS:
            for cell in _long_texts(result):
                self.blobs.release(cell)
        group.remaining -= 1
        if not group.remaining and group is not self._group:
            self._answer_groups.append(group.number)
        self.is_clean = False

    # Groups.

    def take(self, mark: bytes = b"") -> Group:
        """All that changed since the last one. O(rows changed)."""
        group = Group(self.seq, self._ranges, [], [], [], mark)
        deletes, puts = group.deletes, group.puts
        if self.blobs.unnamed or self.blobs.new:
            self._take_blobs(group)
        if self._items:
            self._take_items(deletes, puts)
        if self._states:
            self._take_states(puts)
        if self._results:
            self._take_results(deletes, puts)
        if self._entries:
            self._take_entries(deletes, puts)
        if self._answers or self._answer_groups:
            self._take_answers(deletes, puts)
        puts += self._notes.items()
        if self._next_id != self._stored_next_id:
            self._stored_next_id = self._next_id
            puts.append((rows.NEXT_ID_KEY, rows.encode(self._next_id)))
        self._begin()
        return group

    def _take_blobs(self, group: Group) -> None:
        for blob in self.blobs.take_unnamed():
            if len(blob.value) <= rows.CHUNK_BYTES:
                group.deletes.append(rows.BLOB + blob.number.to_bytes(8, "big") + rows.FIRST_CHUNK)
            else:
                group.deletes += rows.chunk_keys(blob.number, len(blob.value))
        for blob in self.blobs.take_new():
            if len(blob.value) <= LARGE_BYTES:
                key = rows.BLOB + blob.number.to_bytes(8, "big") + rows.FIRST_CHUNK
                group.puts.append((key, bytes(blob.value)))
            else:
                group.large.append((blob.number, blob.value))

    def _take_items(self, deletes: list[bytes], puts: list[tuple[bytes, bytes]]) -> None:
        for id_, item in self._items.items():
            number = id_.to_bytes(8, "big")
            if item is None:
                deletes += (rows.ITEM + number, rows.STATE + number)
                continue
            added_by = item.added_by
            row = rows.ItemRow(
                item.path,
                rows.stored(item.payload, self.blobs.number),
                item.priority,
                item.created_ms,
                item.orphaned_ms,
                added_by.process_id,
                item.exclusive,
                item.external_id,
                added_by.peer,
                added_by.connection,
            )
            puts.append((rows.ITEM + number, rows.encode(row)))

    def _take_states(self, puts: list[tuple[bytes, bytes]]) -> None:
        for id_, item in self._states.items():
            extra = None if item.extra is None else rows.stored(item.extra, self.blobs.number)
            claimed_by = item.claimed_by or ANYBODY
            row = rows.StateRow(
                item.active,
                item.heartbeat_ms,
                extra,
                claimed_by.process_id,
                claimed_by.peer,
                claimed_by.connection,
                self.moved_until_ms,
                item.claimed_ms,
            )
            puts.append((rows.STATE + id_.to_bytes(8, "big"), rows.encode(row)))

    def _take_results(self, deletes: list[bytes], puts: list[tuple[bytes, bytes]]) -> None:
        for id_, result in self._results.items():
            key = rows.RESULT + id_.to_bytes(8, "big")
            if result is None:
                deletes.append(key)
                continue
            value = rows.stored(result.value, self.blobs.number)
            row = rows.ResultRow(
                result.path, value, result.external_id, result.expire_ms, result.taken, self.moved_until_ms
            )
            puts.append((key, rows.encode(row)))

    def _take_entries(self, deletes: list[bytes], puts: list[tuple[bytes, bytes]]) -> None:
        for path, written in self._entries.items():
            if written is None:
                deletes.append(rows.ENTRY + path)
                continue
            entry, number = written
            row = rows.EntryRow(rows.stored(entry.value, self.blobs.number), entry.expires_ms, number)
            puts.append((rows.ENTRY + path, rows.encode(row)))

    def _take_answers(self, deletes: list[bytes], puts: list[tuple[bytes, bytes]]) -> None:
        if self._answer_groups:
            deletes += [rows.ANSWERS + number.to_bytes(8, "big") for number in self._answer_groups]
        group = self._group
        if group is None or not group.remaining:
            return
        answers = []
        last: Result | None = None  # one result may answer many
        number, cells = 0, None
        for key, result, answered_ms in self._answers:
            if result is not last:
                last, number = result, rows.COLUMNS_NUMBERS[result.columns]
                try:
                    cells = result.rows if result.columns in rows.WITHOUT_TEXTS else self._cells(result)
                except KeyError:
                    cells = None  # kept for so short a time that it was dropped, texts and all, within this group
            if cells is not None:
                answers.append((*key, answered_ms, number, cells))
        puts.append((rows.ANSWERS + group.number.to_bytes(8, "big"), rows.encode(answers)))

    def _cells(self, result: Result) -> list[list[rows.Stored]]:
        cells: list[list[rows.Stored]] = []
        for row in result.rows:
            stored: list[rows.Stored] = []
            for cell in row:
                is_plain = not isinstance(cell, bytes) or (type(cell) is bytes and len(cell) <= rows.INLINE_BYTES)
                stored.append(cell if is_plain else rows.stored(cell, self.blobs.number))
            cells.append(stored)
        return cells

    # Taking over what an earlier process left (`storage.journal.recovery`).

    def id_restored(self, next_id: int) -> None:
        """The id of the next item, which is on the disk already or need not be."""
        self._next_id = self._stored_next_id = next_id

    def writes_restored(self, last: int) -> None:
        """The number of the last write to the cache: later ones are above."""
        self._next_write = last + 1

    def answers_restored(self, number: int, results: list[Result]) -> AnswerGroup:
        """A row of answers of which these are still whole."""
        self._next_group = max(self._next_group, number + 1)
        group = AnswerGroup(number)
        group.remaining = len(results)
        for result in results:
            for cell in _long_texts(result):
                self.blobs.acquire(cell)
        if not results:
            self._answer_groups.append(number)
        return group

    def forget_puts(self) -> None:
        """What was put back is on the disk already. What was removed on the way, for want of room, is not, nor what
        nothing names: a group is due."""
        self.is_clean = False
        self._items = {id_: None for id_, item in self._items.items() if item is None}
        self._states.clear()
        self._results = {id_: None for id_, result in self._results.items() if result is None}
        self._entries = {path: None for path, entry in self._entries.items() if entry is None}


def _long_texts(result: Result) -> list[bytes]:
    """The cells that are stored as blobs."""
    found: list[bytes] = []
    for row in result.rows:
        for cell in row:
            if isinstance(cell, bytes) and len(cell) > rows.INLINE_BYTES:
                found.append(cell)  # noqa: PERF401  # a comprehension is a call more for each request
    return found
