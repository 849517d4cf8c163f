"""Answers kept for clients that ask again (wire.md §3; decisions, "De-duplication").

                     confirm_delivered
      fresh --------------------------------> confirmed: the first to go when room is short
        |  mark_undelivered
        +-----------------------------------> undelivered: kept for longer

A fresh or undelivered answer is never dropped before its time: it may be the only trace of a claimed item. When a large
item has gone, that reason has gone with it, so the answer to its claim counts as confirmed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

import msgspec

from storage.limits import AnswerLimits
from storage.queue.indexes import NEVER_MS
from storage.recorder import AnswerGroup, Recorder
from storage.shares import Pool, Share
from storage.vocabulary import (
    ADD_AND_RETRIEVE_COLUMNS,
    PAYLOAD_COLUMNS,
    RESULT_COLUMNS,
    RETRIEVE_COLUMNS,
    RequestKey,
    Result,
)

# What an answer costs beyond its texts: its key, its result and its places in the dicts.
ANSWER_OVERHEAD_BYTES = 512

# The part of the room that is for answers without texts: a quarter.
_SMALL_PART = 4

# Answers that expire in one go: a millisecond.
_EXPIRED_AT_ONCE = 1_000

# Answers with texts of weight. They are those of the statements that have `has_texts`.
_TEXT_COLUMNS = frozenset({ADD_AND_RETRIEVE_COLUMNS, PAYLOAD_COLUMNS, RESULT_COLUMNS, RETRIEVE_COLUMNS})

_GONE = -1


class SharedText:
    """The texts of one result that answers many requests: they count once, in equal parts.

    The parts grow when half of the answers have been dropped: the last one counts all, and no text is nearly free.
    """

    __slots__ = ("counted", "keys", "left", "text_bytes")

    def __init__(self, result: Result, sharers: int) -> None:
        self.text_bytes = _text_bytes(result)
        self.left = self.counted = sharers
        self.keys: list[RequestKey] = []

    @property
    def part_bytes(self) -> int:
        """What each answer counts."""
        return self.text_bytes // self.counted


class _Answer(msgspec.Struct, gc=False):
    """`size_bytes` is what it counts; `group` the one that it was written with, if it was.

    `item_id` is the item that its large payload belongs to, 0 for none, -1 once that has gone.
    """

    result: Result
    answered_ms: int
    size_bytes: int
    group: AnswerGroup | None
    share: Share
    shared: SharedText | None = None
    is_confirmed: bool = False
    item_id: int = 0


class Answers:
    """Kept answers by request key, oldest first. Every operation is O(1), amortised.

    Texts are kept by reference. They count in full all the same, because the result that they came from may go while
    the answer stays. A large payload counts as its item's until the item goes.

    Answers with texts and answers without have room of their own: a statement of the one kind is never refused because
    answers of the other kind fill theirs. `storage.shares` says who may have how much of it.
    """

    __slots__ = (
        "_claims",
        "_gone",
        "_kept",
        "_limits",
        "_recorder",
        "_undelivered",
        "due_ms",
        "small",
        "texts",
        "unconfirmed_count",
    )

    def __init__(self, limits: AnswerLimits, recorder: Recorder | None) -> None:
        self._limits = limits
        self._recorder = recorder
        small_bytes, small_give_way = limits.max_bytes // _SMALL_PART, limits.give_way_bytes // _SMALL_PART
        self.small = Pool("answers without texts", small_bytes, small_give_way)
        self.texts = Pool("answers with texts", limits.max_bytes - small_bytes, limits.give_way_bytes - small_give_way)
        self._kept: OrderedDict[RequestKey, _Answer] = OrderedDict()  # fresh and confirmed ones
        self._undelivered: OrderedDict[RequestKey, _Answer] = OrderedDict()
        self._claims: dict[int, RequestKey] = {}  # by the item whose large payload the answer has
        self._gone: list[tuple[int, RequestKey]] = []  # claims whose items CLEAR removed
        self.due_ms = NEVER_MS  # no answer is dropped earlier
        self.unconfirmed_count = 0  # answers whose arrival nobody has proved yet

    def __len__(self) -> int:
        return len(self._kept) + len(self._undelivered)

    @property
    def size_bytes(self) -> int:
        """Bytes of all kept answers."""
        return self.small.size_bytes + self.texts.size_bytes

    @property
    def longest_kept_ms(self) -> int:
        """For how long an answer is kept at most, by its age."""
        return max(self._limits.keep_ms, self._limits.keep_undelivered_ms)

    def find(self, key: RequestKey) -> Result | None:
        """The answer to a request that was answered before."""
        answer = self._kept.get(key)
        if answer is None and self._undelivered:
            answer = self._undelivered.get(key)
        return None if answer is None else answer.result

    def keep(  # noqa: PLR0917  # by position, which is faster
        self,
        key: RequestKey,
        result: Result,
        now_ms: int,
        host: str,
        pool: Pool,
        group: AnswerGroup | None = None,
        shared: SharedText | None = None,
    ) -> int:
        """Keep the first answer to a request; returns the bytes that it counts. `key` has none yet.

        `host` is the address of its sender, `group` the one that it is written with, if it is. With `shared` the same
        result is kept for others as well.
        """
        size_bytes = ANSWER_OVERHEAD_BYTES
        if shared is not None:
            size_bytes += shared.part_bytes
            shared.keys.append(key)
        elif pool is self.texts:
            for row in result.rows:
                for cell in row:
                    if isinstance(cell, bytes):
                        size_bytes += len(cell)
        owner = pool.owners.get(key[0] or host)
        share = None if owner is None else owner.connections.get(key[1])
        if share is None:
            share = pool.share(key[0] or host, key[1])
        share.size_bytes += size_bytes
        share.owner.size_bytes += size_bytes
        pool.size_bytes += size_bytes
        self._kept[key] = _Answer(result, now_ms, size_bytes, group, share, shared)
        self.unconfirmed_count += 1
        due_ms = now_ms + self._limits.keep_ms
        if due_ms < self.due_ms:  # noqa: PLR1730  # a call of min() would cost more
            self.due_ms = due_ms
        return size_bytes

    def pool_of(self, result: Result) -> Pool:
        """The pool that this answer is kept in."""
        return self.texts if result.columns in _TEXT_COLUMNS else self.small

    def confirm(self, keys: Iterable[RequestKey]) -> None:
        """The peer has these answers: they are the first to go when room is short."""
        kept = self._kept
        for key in keys:
            answer = kept.get(key)
            if answer is None:
                answer = self._undelivered.pop(key, None)
                if answer is None:
                    continue
                kept[key] = answer
                self.due_ms = min(self.due_ms, answer.answered_ms + self._limits.keep_ms)
                kept.move_to_end(key, last=False)  # it may be due
            if not answer.is_confirmed:
                answer.is_confirmed = True
                self.unconfirmed_count -= 1
                answer.share.owner.pool.confirmed.append(key)

    def mark_undelivered(self, key: RequestKey) -> None:
        """Nobody could be given the answer: it is kept for longer."""
        answer = self._kept.get(key)
        if answer is None or answer.item_id == _GONE:
            return
        del self._kept[key]
        self._undelivered[key] = answer
        if answer.is_confirmed:
            answer.is_confirmed = False
            self.unconfirmed_count += 1

    # Room.

    def make_room(self, pool: Pool) -> None:
        """Drop confirmed answers, oldest first, until a pool is below `give_way_bytes`. Pointless below that."""
        kept, confirmed = self._kept, pool.confirmed
        while pool.size_bytes >= pool.give_way_bytes and confirmed:
            key = confirmed.popleft()
            answer = kept.get(key)
            if answer is not None and answer.is_confirmed:
                del kept[key]
                self._drop(answer)

    def _change_size(self, answer: _Answer, by_bytes: int) -> None:
        answer.size_bytes += by_bytes
        answer.share.owner.pool.take(answer.share, -by_bytes)

    # Large payloads of live items.

    def claims_item(self, key: RequestKey, item_id: int, payload_bytes: int) -> None:
        """The answer kept under `key` has the large payload of an item that is there: it does not count twice."""
        answer = self._kept[key]
        answer.item_id = item_id
        self._claims[item_id] = key
        self._change_size(answer, -payload_bytes)

    def item_gone(self, item_id: int | None) -> None:
        """An item with a large payload has gone, with None all have. Its claim counts in full now, and gives way."""
        if item_id is None:
            self._gone += self._claims.items()
            self._claims = {}
        else:
            key = self._claims.pop(item_id, None)
            if key is not None:
                self._claim_gone(item_id, key)

    def _claim_gone(self, item_id: int, key: RequestKey) -> None:
        answer = self._kept.get(key) or self._undelivered.get(key)
        if answer is not None and answer.item_id == item_id:
            answer.item_id = _GONE
            self._change_size(answer, ANSWER_OVERHEAD_BYTES + _text_bytes(answer.result) - answer.size_bytes)
            self.confirm([key])

    # Time.

    def tick(self, max_rows: int) -> bool:
        """Count what CLEAR left to answers; True when there is more to do."""
        for _ in range(min(max_rows, len(self._gone))):
            self._claim_gone(*self._gone.pop())
        return bool(self._gone)

    def expire(self, now_ms: int) -> None:
        """Drop answers whose time has passed, a thousand at most: `due_ms` says when to go on."""
        limits = self._limits
        self.due_ms = min(
            self._expire(self._kept, now_ms, limits.keep_ms),
            self._expire(self._undelivered, now_ms, limits.keep_undelivered_ms),
        )
        for pool in (self.small, self.texts):
            confirmed = pool.confirmed
            while confirmed and confirmed[0] not in self._kept:
                confirmed.popleft()

    def _expire(self, group: OrderedDict[RequestKey, _Answer], now_ms: int, keep_ms: int) -> int:
        """Drop the oldest of a group while their time has passed; returns when the next one is due."""
        for _ in range(_EXPIRED_AT_ONCE):
            if not group:
                return NEVER_MS
            key, answer = next(iter(group.items()))
            if answer.answered_ms + keep_ms > now_ms:
                return answer.answered_ms + keep_ms
            del group[key]
            self._drop(answer)
        return now_ms

    def _drop(self, answer: _Answer) -> None:
        answer.share.owner.pool.take(answer.share, answer.size_bytes)
        if not answer.is_confirmed:
            self.unconfirmed_count -= 1
        if answer.item_id > 0:
            self._claims.pop(answer.item_id, None)
        if answer.group is not None and self._recorder is not None:
            self._recorder.answer_dropped(answer.group, answer.result)
        if answer.shared is not None:
            self.leave(answer.shared)

    def leave(self, shared: SharedText) -> None:
        """One of the requests that share a result has no kept answer, or none any more."""
        shared.left -= 1
        if not shared.left or 2 * shared.left > shared.counted:
            return
        before_bytes, shared.counted = shared.part_bytes, shared.left
        found = ((key, self._kept.get(key) or self._undelivered.get(key)) for key in shared.keys)
        left = [(key, answer) for key, answer in found if answer is not None and answer.shared is shared]
        shared.keys = [key for key, _ in left]
        for _, answer in left:
            self._change_size(answer, shared.part_bytes - before_bytes)

    def gauges(self) -> dict[str, int]:
        """Counts and bytes. O(1)."""
        small, texts = self.small, self.texts
        return {
            "answers": len(self),
            "answers_unconfirmed": self.unconfirmed_count,
            "answer_bytes": self.size_bytes,
            "answer_bytes_small": small.size_bytes,
            "answer_bytes_texts": texts.size_bytes,
            "answers_refused": small.refusals + texts.refusals,
            "answer_owners_refused": small.refused_owners + texts.refused_owners,
        }


def _text_bytes(result: Result) -> int:
    return sum(len(cell) for row in result.rows for cell in row if isinstance(cell, bytes))
