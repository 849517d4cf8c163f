"""The last items that ended, for people who ask what happened (`system.history`)."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Container, Iterable
from itertools import islice
from operator import itemgetter
from typing import Final, TypeAlias

import msgspec

from storage.asking import Caller
from storage.keys import key_of, prefix_of
from storage.limits import HistoryLimits
from storage.queue.items import Item
from storage.vocabulary import Path, Row, Value

# How an item ended. `ERROR` is an ACK whose value is an error of Cube.
ACKNOWLEDGED: Final = b"acknowledged"
ERROR: Final = b"error"
CANCELLED: Final = b"cancelled"  # by hand: neither STALLED nor ORPHANED would have listed it
STALLED: Final = b"stalled"
ORPHANED: Final = b"orphaned"
EXPIRED: Final = b"expired"

# The text that Cube acknowledges with when a query failed begins so (clients.md §3).
CUBE_ERROR: Final = b'{"error"'

HEAD_BYTES: Final = 4_096
TAIL_BYTES: Final = 512
WHOLE_BYTES: Final = HEAD_BYTES + TAIL_BYTES
ERROR_BYTES: Final = 512
# What an entry takes beyond its texts: the object, its numbers, its place in the ring.
ENTRY_OVERHEAD_BYTES: Final = 500

_REQUEST_ID: Final = re.compile(rb'"requestId"\s*:\s*"([^"\\]{1,256})"')
_MAX_CANCELS: Final = 100  # that wait to be taken

BLOCK_ITEMS: Final = 64  # that are written together
BLOCKS: Final = 256  # that a journal keeps
Block: TypeAlias = tuple[int, "list[EndedItem]"]  # its number, and its items that are still remembered


class EndedItem(msgspec.Struct, gc=False, array_like=True):
    """An item that ended. `head` is its payload, or the first 4096 bytes beside a `tail` of 512.

    `claimed_by` and `claimed_ms` are None if nobody claimed it, `ended_by` is None if it expired.
    """

    number: int
    path: Path
    priority: int
    created_ms: int
    claimed_ms: int | None
    ended_ms: int
    outcome: bytes
    added_by: Caller
    claimed_by: Caller | None
    ended_by: Caller | None
    external_id: bytes | None
    payload_bytes: int
    head: bytes
    tail: bytes
    result_bytes: int | None
    error: bytes | None
    size_bytes: int

    def row(self) -> Row:
        """The row of `system.history`. About 5 µs, which look for the request id."""
        claimed_ms, added_by = self.claimed_ms, self.added_by
        run_ms = None if claimed_ms is None else max(0, self.ended_ms - claimed_ms)
        wait_end_ms = self.ended_ms if claimed_ms is None else claimed_ms
        claimed_by, ended_by = self.claimed_by or _NOBODY, self.ended_by or _NOBODY
        return (
            key_of(self.path),
            prefix_of(self.path) if b":" in self.path else None,
            self.number,
            self.priority,
            self.created_ms,
            claimed_ms,
            self.ended_ms,
            max(0, wait_end_ms - self.created_ms),
            run_ms,
            self.outcome,
            self.result_bytes,
            self.error,
            self.request_id,
            added_by.process_id,
            added_by.peer.encode() or None,
            claimed_by.process_id,
            claimed_by.peer.encode() or None,
            ended_by.process_id,
            ended_by.peer.encode() or None,
            ended_by.user or None,
            self.external_id,
            self.payload_bytes,
            self.head,
            self.tail or None,
        )

    @property
    def request_id(self) -> bytes | None:
        """Cube's request id. Cube writes it behind the query, so the last one of the payload is taken."""
        for part in (self.tail, self.head):
            found = _REQUEST_ID.findall(part)
            if found:
                last: bytes = found[-1]
                return last
        return None


_NOBODY: Final = Caller()


class History:
    """A ring of ended items, the oldest first, bounded in number, bytes and age.

    For a journal it is cut into blocks of 64 items: the n-th item since the first start is in block n // 64.
    `cancels_dropped` counts the cancelled items that `take_cancels` did not give.
    """

    __slots__ = (
        "_cancels", "_due", "_emptied", "_entries", "_given", "_keep_ms", "_max_bytes", "_max_items",
        "cancels_dropped", "count", "size_bytes"
    )  # fmt: skip

    def __init__(self, limits: HistoryLimits) -> None:
        self._max_items, self._max_bytes, self._keep_ms = limits.max_items, limits.max_bytes, limits.keep_ms
        self._entries: deque[EndedItem] = deque()
        self._cancels: list[EndedItem] = []
        self.cancels_dropped = 0
        self.size_bytes = 0
        self.count = 0  # of all items that ever came
        self._given = 0  # so many were given as blocks
        self._due = 0  # so many are to be given
        self._emptied = 0  # blocks below were given again as empty ones

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, item: Item, outcome: bytes, ended_by: Caller | None, now_ms: int, result: Value | None) -> None:
        """Remember an item that ends, and count how long an acknowledged one ran. O(1), amortised, and a copy of 5 KB.

        Everything is in this one function: ACK calls it, and a call costs as much as half of it.
        """
        head, tail = item.payload, b""
        payload_bytes = size_bytes = len(head)
        if payload_bytes > WHOLE_BYTES:
            tail, head = head[-TAIL_BYTES:], head[:HEAD_BYTES]
            size_bytes = WHOLE_BYTES
        path, claimed_ms, error, result_bytes = item.path, item.claimed_ms, None, None
        size_bytes += ENTRY_OVERHEAD_BYTES + len(path)
        if result is not None:
            result_bytes = len(result)
            if outcome is ERROR:
                error = bytes(result[:ERROR_BYTES])
                size_bytes += len(error)
        if claimed_ms is not None and (outcome is ACKNOWLEDGED or outcome is ERROR):
            runs, run_ms = item.queue.stats.runs, now_ms - claimed_ms
            if run_ms > 0:
                runs[run_ms.bit_length()] += 1
                runs[0] += run_ms
            else:
                runs[1] += 1
        entry = EndedItem(
            item.id,
            path,
            item.priority,
            item.created_ms,
            claimed_ms,
            now_ms,
            outcome,
            item.added_by,
            item.claimed_by,
            ended_by,
            item.external_id,
            payload_bytes,
            bytes(head),
            tail,
            result_bytes,
            error,
            size_bytes,
        )
        entries = self._entries
        entries.append(entry)
        self.count += 1
        size_bytes += self.size_bytes
        while size_bytes > self._max_bytes or len(entries) > self._max_items:
            size_bytes -= entries.popleft().size_bytes
        self.size_bytes = size_bytes
        if outcome is CANCELLED:
            if len(self._cancels) < _MAX_CANCELS:
                self._cancels.append(entry)
            else:
                self.cancels_dropped += 1

    def entries(self) -> list[EndedItem]:
        """All entries. O(entries), about ten nanoseconds each."""
        return list(self._entries)

    def take_cancels(self) -> list[EndedItem]:
        """The items that were cancelled by hand since the last call."""
        taken, self._cancels = self._cancels, []
        return taken

    def expire(self, now_ms: int, max_rows: int) -> int:
        """Drop entries that are too old, `max_rows` at most; returns how many were dropped."""
        oldest_ms, entries, dropped = now_ms - self._keep_ms, self._entries, 0
        while entries and entries[0].ended_ms < oldest_ms and dropped < max_rows:
            self.size_bytes -= entries.popleft().size_bytes
            dropped += 1
        return dropped

    # Blocks.

    def begin_blocks(self) -> None:
        """Have `next_block` give what came by now."""
        self._due = self.count

    def next_block(self) -> Block | None:
        """A block with items that were not given yet, or one that is empty now; None when none is due.

        O(entries), ten nanoseconds each.
        """
        first = self.count - len(self._entries)
        position = max(self._given, first)
        if position < self._due:
            number = position // BLOCK_ITEMS
            begin, end = max(number * BLOCK_ITEMS, first), (number + 1) * BLOCK_ITEMS
            self._given = min(end, self.count)
            return number, list(islice(self._entries, begin - first, end - first))
        self._emptied = max(self._emptied, self._given // BLOCK_ITEMS - BLOCKS + 1)  # older places have newer blocks
        if self._emptied < min(first, self._given) // BLOCK_ITEMS:
            self._emptied += 1
            return self._emptied - 1, []
        return None

    def restore(self, blocks: Iterable[Block], alive: Container[int] = ()) -> None:
        """Begin with earlier blocks, in any order, but without items that are alive: their end was lost.

        The items get new places, behind those of the earlier blocks: they are given again before those are emptied.
        """
        self._entries.clear()
        self.size_bytes = 0
        ordered = sorted(blocks, key=itemgetter(0))
        callers = {_NOBODY: _NOBODY}  # one object each: a client has many items
        seen: set[int] = set()
        for _, entries in ordered:
            for entry in entries:
                if entry.number in alive or entry.number in seen:
                    continue
                seen.add(entry.number)
                entry.added_by = callers.setdefault(entry.added_by, entry.added_by)
                if entry.claimed_by is not None:
                    entry.claimed_by = callers.setdefault(entry.claimed_by, entry.claimed_by)
                if entry.ended_by is not None:
                    entry.ended_by = callers.setdefault(entry.ended_by, entry.ended_by)
                self._entries.append(entry)
                self.size_bytes += entry.size_bytes
        while self.size_bytes > self._max_bytes or len(self._entries) > self._max_items:
            self.size_bytes -= self._entries.popleft().size_bytes
        self._emptied = ordered[0][0] if ordered else 0
        self._given = self._due = (ordered[-1][0] + 1) * BLOCK_ITEMS if ordered else 0
        self.count = self._given + len(self._entries)

    def take_over(self, earlier: History, alive: Container[int]) -> None:
        """Go on after effects were lost, without items that are alive: their end was lost, too."""
        self.restore([(earlier.count // BLOCK_ITEMS, earlier.entries())], alive)
        self._cancels = [entry for entry in earlier.take_cancels() if entry.number not in alive]
