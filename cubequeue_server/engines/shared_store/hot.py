"""The hot connection to a primary: what its replies are worth is decided here (docs/shared-store.md, "Failover").

A reply that took too long is held until the primary has been confirmed: it may come from one that was frozen, replaced
meanwhile, and does not know it. With replicas, replies are held until enough of them have what those replies have seen:
one WAIT for all commands of a turn, behind a write, for some engines let WAIT ask for the writes of its own connection
only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from hiredis import ReplyError

from cubequeue_server.engines.shared_store.calls import Call
from cubequeue_server.engines.shared_store.connection import NOBODY, Answer, Connection, Nobody, Reply, Taker, command

_WAIT_MS: Final = 1_000  # for one WAIT; another follows
_WAIT_AGAIN_S: Final = 0.05


_WAITED: Final = Nobody()


class HotConnection(Connection):
    """`replicas` is how many must have what a reply has seen; `fence_key` a key of this primary that is written ahead
    of each WAIT. `on_doubt` is called when a reply has not come within `late_s`, or came later."""

    def __init__(
        self,
        on_lost: Callable[[list[Taker]], None],
        batch: Callable[[Callable[[], object]], None],
        late_s: float,
        on_doubt: Callable[[], None],
    ) -> None:
        super().__init__(on_lost, batch)
        self._late_s = late_s
        self._on_doubt = on_doubt
        self._replicas = 0
        self._fence = self._wait = b""
        self.is_doubted = False
        self._held: list[tuple[Taker, Reply]] = []  # have come, and must not be believed yet
        self._copied: list[tuple[Taker, Reply]] = []  # enough replicas have those; the primary is in doubt
        self.lacks_replicas = False

    def demand_replicas(self, replicas: int, fence_key: bytes) -> None:
        """From now on replies are worth something when so many replicas have what they have seen."""
        self._replicas = replicas
        self._fence = command("SET", fence_key, "")
        self._wait = command("WAIT", replicas, _WAIT_MS)

    def before_flush(self, out: list[bytes]) -> None:
        if self._replicas:
            out += (self._fence, self._wait)
            self._pending.extend((NOBODY, _WAITED))

    # Doubt.

    def look(self) -> None:
        """Whether a reply is overdue."""
        oldest_s = self.oldest_s
        if oldest_s is not None and self._loop.time() - oldest_s > self._late_s:
            self._doubt()

    def _doubt(self) -> None:
        if not self.is_doubted:
            self.is_doubted = True
            self._on_doubt()

    @property
    def is_silent(self) -> bool:
        """Whether a reply is overdue now."""
        oldest_s = self.oldest_s
        return oldest_s is not None and self._loop.time() - oldest_s > self._late_s

    def believe(self, come: int) -> bool:
        """The primary was confirmed after the first `come` of the replies that are held had come. True when that
        ends all doubt."""
        copied, held = self._copied[:come], [] if self._replicas else self._held[: max(come - len(self._copied), 0)]
        del self._copied[: len(copied)], self._held[: len(held)]
        self._batch(lambda: _hand_over([*copied, *held]))
        if self.is_lost or self.is_silent or self._copied or (self._held and not self._replicas):
            return False
        self.is_doubted = False
        return True

    # Replies.

    def buffer_updated(self, size: int) -> None:
        self.look()  # what has come now was asked for so long ago
        super().buffer_updated(size)

    def drain(self) -> None:
        if not self.is_doubted and not self._replicas:
            super().drain()
            return
        gets, pending = self._reader.gets, self._pending
        while (reply := gets()) is not False:
            self._answered += 1
            taker = pending.popleft()
            if taker is _WAITED:
                self._on_waited(reply)
            elif isinstance(taker, Answer) or (isinstance(reply, ReplyError) and not self.is_doubted):
                taker.take(reply)  # what was refused has seen nothing
            elif taker is not NOBODY:
                self._held.append((taker, reply))

    def _on_waited(self, reply: Reply) -> None:
        self.lacks_replicas = isinstance(reply, ReplyError) or reply < self._replicas
        if self.lacks_replicas:
            if self._held and not self.is_lost:
                self._loop.call_later(_WAIT_AGAIN_S, self._wait_again)
            return
        self._copied += self._held
        self._held = []
        if not self.is_doubted:
            copied, self._copied = self._copied, []
            _hand_over(copied)

    def _wait_again(self) -> None:
        if self._held and not self.is_lost:
            self.send(self._fence, NOBODY)

    @property
    def held(self) -> list[Taker]:
        """What has been answered, and is not believed yet."""
        return [taker for taker, _ in (*self._copied, *self._held)]

    def overdue(self, now_s: float) -> list[tuple[Call, bool]]:
        """Calls that have waited for too long, and whether they were answered. O(those, and what is held)."""
        found = [(taker, True) for taker in self.held if isinstance(taker, Call) and taker.deadline_s <= now_s]
        for taker in self._pending:
            if isinstance(taker, Call) and not taker.is_over:
                if taker.deadline_s > now_s:
                    break
                found.append((taker, False))
        return found

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.is_lost:
            self._pending.extendleft(reversed(self.held))
            self._copied, self._held = [], []
        super().connection_lost(exc)


def _hand_over(replies: list[tuple[Taker, Reply]]) -> None:
    for taker, reply in replies:
        taker.take(reply)
