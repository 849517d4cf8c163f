"""What of the journal is on the disk."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from storage.asking import Later
from storage.errors import StatementError
from storage.vocabulary import EMPTY_RESULT

_SYNC_INTERVAL_MS: Final = 1_000


class Syncs:
    """Asks for syncs, and completes SYS CACHESTORE PERSIST when everything before it is on the disk.

    `ask` asks for a sync up to a commit sequence number; without it nothing is ever synced but at the end.
    """

    def __init__(self, ask: Callable[[int], None] | None) -> None:
        self._ask = ask
        self._synced_seq = 0
        self._next_sync_ms = 0
        # Up to where the log is synced: the mark of a group (`storage.journal.unsynced`).
        self.position = b"" if ask is None else bytes(16)
        self._persists: deque[tuple[int, Later]] = deque()

    def taken_for_synced(self, seq: int) -> None:
        """The database was opened anew: it has rewritten and synced the recovered log, so all of it is durable."""
        self._synced_seq = seq

    # Syncs.

    def ask(self, seq: int) -> bool:
        """Have everything up to `seq` synced; False if nobody does that."""
        if self._ask is None:
            return False
        self._ask(seq)
        return True

    def ask_if_due(self, written_seq: int, now_ms: int) -> None:
        """Ask once a second, and at once when somebody waits for it."""
        if self._ask is None or written_seq <= self._synced_seq:
            return
        if self._persists or now_ms >= self._next_sync_ms or now_ms < self._next_sync_ms - 2 * _SYNC_INTERVAL_MS:
            self._next_sync_ms = now_ms + _SYNC_INTERVAL_MS
            self._ask(written_seq)

    def synced(self, seq: int, position: bytes) -> None:
        """Everything up to `seq` is on the disk, and the log up to `position`."""
        self.position = position
        self._synced_seq = max(self._synced_seq, seq)
        while self._persists and self._persists[0][0] <= seq:
            self._persists.popleft()[1].done(EMPTY_RESULT)

    # SYS CACHESTORE PERSIST.

    def is_synced(self, seq: int) -> bool:
        """Whether a PERSIST has nothing to wait for."""
        return self._ask is None or self._synced_seq >= seq

    def wait_for(self, seq: int, later: Later) -> None:
        """Complete `later` when everything up to `seq` is on the disk."""
        self._persists.append((seq, later))

    def lost(self, kept_seq: int, text: str) -> None:
        """Effects above `kept_seq` were lost: tell those that wait for them to be on the disk."""
        while self._persists and self._persists[-1][0] > kept_seq:
            self._persists.pop()[1].done(StatementError(text))

    def end_waits(self) -> None:
        """Complete all, as at a stop: the end syncs."""
        while self._persists:
            self._persists.popleft()[1].done(EMPTY_RESULT)
