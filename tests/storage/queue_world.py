"""A store with a clock of its own, driven in the words of the commands."""

from __future__ import annotations

import random

import msgspec

from storage.asking import ANYBODY, Caller
from storage.limits import AnswerLimits, CacheLimits, QueueLimits
from storage.memory import MemoryStore
from storage.recorder import Recorder
from storage.vocabulary import (
    Cell,
    KeyRef,
    QueueAck,
    QueueAdd,
    QueueAddAndRetrieve,
    QueueCancel,
    QueueClear,
    QueueHeartbeat,
    QueueResult,
    QueueResultBlocking,
    QueueRetrieve,
    RequestKey,
    Result,
    Statement,
)
from tests.asking import Told
from tests.audit import audit

START_MS = 1_700_000_000_123
SECOND_MS, HOUR_MS = 1_000, 3_600_000


class World:
    """One store whose ids start at 1."""

    def __init__(
        self,
        queue: QueueLimits | None = None,
        answers: AnswerLimits | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self.now_ms = START_MS
        self.limits = queue or QueueLimits()
        limits = (self.limits, CacheLimits(), answers or AnswerLimits())
        self.store = MemoryStore(*limits, 1, random.Random(7).random, Told, recorder)

    def run(
        self, statement: Statement, process: bytes | None = None, key: RequestKey | None = None
    ) -> list[tuple[Cell, ...]]:
        caller = ANYBODY if process is None else Caller(process)
        result = self.store.execute(statement, caller, key, self.now_ms)
        assert isinstance(result, Result)
        return list(result.rows)

    def wait(self, key: KeyRef, timeout_ms: int = 10_000, request_key: RequestKey | None = None) -> Told:
        later = self.store.execute(QueueResultBlocking(key, timeout_ms), ANYBODY, request_key, self.now_ms)
        assert isinstance(later, Told)
        return later

    def add(self, path: bytes, payload: bytes = b"{}", **options: object) -> int:
        """The id of the item, new or not."""
        [(id_, _, _)] = self.run(msgspec.structs.replace(QueueAdd(path, payload), **options))
        assert isinstance(id_, bytes)
        return int(id_)

    def add_and_retrieve(self, path: bytes, concurrency: int) -> bool:
        """Whether it was claimed."""
        [row] = self.run(QueueAddAndRetrieve(path, b"{}", concurrency))
        return row[4] is not None

    def retrieve(self, path: bytes, concurrency: int = 1_000_000) -> bool:
        return bool(self.run(QueueRetrieve(path, concurrency)))

    def ack(self, key: KeyRef, value: bytes | None = b"done") -> bool:
        return self.run(QueueAck(key, value)) == [(True,)]

    def cancel(self, key: KeyRef) -> bool:
        return bool(self.run(QueueCancel(key)))

    def heartbeat(self, key: KeyRef) -> None:
        assert self.run(QueueHeartbeat(key)) == []

    def result(self, key: KeyRef) -> Cell:
        """The value, None if there is no row."""
        rows = self.run(QueueResult(key))
        return rows[0][0] if rows else None

    def clear(self) -> None:
        assert self.run(QueueClear()) == []

    def later(self, milliseconds: int) -> None:
        self.now_ms += milliseconds

    def gauge(self, name: str) -> int:
        return self.store.gauges()[name]

    def settle(self) -> None:
        """Tick at this moment until nothing is due."""
        while self.store.tick(self.now_ms, 1_000):
            pass

    def check(self) -> None:
        audit(self.store)


def request(number: int) -> RequestKey:
    return (b"", b"connection", number)
