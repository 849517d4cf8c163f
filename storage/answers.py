"""Answers kept for clients that ask again (wire.md §3; decisions, "De-duplication").

                     confirm_delivered
      fresh --------------------------------> confirmed: the first to go when room is short
        |  mark_undelivered
        +-----------------------------------> undelivered: kept for longer

A fresh or undelivered answer is never dropped before its time: it may be the only trace of a claimed item.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable

import msgspec

from storage.limits import AnswerLimits
from storage.queue.indexes import NEVER_MS
from storage.recorder import AnswerGroup, Recorder
from storage.vocabulary import RequestKey, Result

# What an answer costs beyond its texts: its key, its result and its places in the dicts.
ANSWER_OVERHEAD_BYTES = 512


class _Answer(msgspec.Struct, gc=False):
    """`size_bytes` is what it counts; `group` the one that it was written with, if it was."""

    result: Result
    answered_ms: int
    size_bytes: int
    group: AnswerGroup | None
    is_confirmed: bool = False


class Answers:
    """Kept answers by request key, oldest first. Every operation is O(1), amortised.

    Texts are kept by reference. They count in full all the same, because the item or result that they came from
    may go while the answer stays. One result that wakes many counts once, in equal shares: were it counted for each,
    a dozen clients that wait for a large result would use up the room, and all others' writes would be refused.
    """

    __slots__ = (
        "_confirmed",
        "_kept",
        "_limits",
        "_recorder",
        "_undelivered",
        "due_ms",
        "give_way_bytes",
        "size_bytes",
        "unconfirmed_count",
    )

    def __init__(self, limits: AnswerLimits, recorder: Recorder | None) -> None:
        self._limits = limits
        self._recorder = recorder
        self.give_way_bytes = min(limits.give_way_bytes, limits.max_bytes)
        self._kept: OrderedDict[RequestKey, _Answer] = OrderedDict()  # fresh and confirmed ones
        self._undelivered: OrderedDict[RequestKey, _Answer] = OrderedDict()
        self._confirmed: deque[RequestKey] = deque()  # in the order of confirmation; some may be gone meanwhile
        self.due_ms = NEVER_MS  # no answer is dropped earlier
        self.size_bytes = 0
        self.unconfirmed_count = 0  # answers whose arrival nobody has proved yet

    def __len__(self) -> int:
        return len(self._kept) + len(self._undelivered)

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

    def keep(
        self, key: RequestKey, result: Result, now_ms: int, group: AnswerGroup | None = None, sharers: int = 1
    ) -> None:
        """Keep the first answer to a request. `key` has none yet.

        `group` is the one that it is written with, if it is. With `sharers` the same result is kept for so many
        requests: each counts its share of the texts.
        """
        text_bytes = 0
        for row in result.rows:
            for cell in row:
                if isinstance(cell, bytes):
                    text_bytes += len(cell)
        size_bytes = ANSWER_OVERHEAD_BYTES + text_bytes // sharers
        self._kept[key] = _Answer(result, now_ms, size_bytes, group)
        self.size_bytes += size_bytes
        self.unconfirmed_count += 1
        due_ms = now_ms + self._limits.keep_ms
        if due_ms < self.due_ms:  # noqa: PLR1730  # a call of min() would cost more
            self.due_ms = due_ms

    def confirm(self, keys: Iterable[RequestKey]) -> None:
        """The peer has these answers: they are the first to go when room is short."""
        kept, confirmed = self._kept, self._confirmed
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
                confirmed.append(key)

    def mark_undelivered(self, key: RequestKey) -> None:
        """Nobody could be given the answer: it is kept for longer."""
        answer = self._kept.pop(key, None)
        if answer is not None:
            self._undelivered[key] = answer
            if answer.is_confirmed:
                answer.is_confirmed = False
                self.unconfirmed_count += 1

    def make_room(self) -> bool:
        """Drop confirmed answers, oldest first, until there is room for more; False if there is none then.

        Pointless below `give_way_bytes`.
        """
        kept, confirmed = self._kept, self._confirmed
        while self.size_bytes >= self.give_way_bytes and confirmed:
            key = confirmed.popleft()
            answer = kept.get(key)
            if answer is not None and answer.is_confirmed:
                del kept[key]
                self._drop(answer)
        return self.size_bytes < self._limits.max_bytes

    def expire(self, now_ms: int) -> None:
        """Drop answers whose time has passed. Pointless before `due_ms`."""
        limits = self._limits
        self.due_ms = min(
            self._expire(self._kept, now_ms, limits.keep_ms),
            self._expire(self._undelivered, now_ms, limits.keep_undelivered_ms),
        )
        while self._confirmed and self._confirmed[0] not in self._kept:
            self._confirmed.popleft()

    def _expire(self, group: OrderedDict[RequestKey, _Answer], now_ms: int, keep_ms: int) -> int:
        """Drop the oldest of a group while their time has passed; returns when the next one is due."""
        while group:
            key, answer = next(iter(group.items()))
            if answer.answered_ms + keep_ms > now_ms:
                return answer.answered_ms + keep_ms
            del group[key]
            self._drop(answer)
        return NEVER_MS

    def _drop(self, answer: _Answer) -> None:
        self.size_bytes -= answer.size_bytes
        if not answer.is_confirmed:
            self.unconfirmed_count -= 1
        if answer.group is not None and self._recorder is not None:
            self._recorder.answer_dropped(answer.group, answer.result)
