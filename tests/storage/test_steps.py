"""What takes long is done in steps, and statements between two of them see all of it or what is done so far."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from storage.asking import Caller
from storage.limits import AnswerLimits, CacheLimits, QueueLimits
from storage.memory import MemoryStore
from storage.releases import STEP
from storage.vocabulary import (
    CacheSet,
    CachestoreAction,
    QueueAck,
    QueueAdd,
    QueueResultBlocking,
    QueueRetrieve,
    QueueStalled,
    RequestKey,
    Result,
    Statement,
    SysCachestore,
)
from tests.asking import Told
from tests.audit import audit

NOW_MS = 1_700_000_000_000
MANY = 10_000


class Stepping:
    """A store whose work in steps waits for `step`."""

    def __init__(self, cache: CacheLimits | None = None) -> None:
        self.turns: list[Iterator[object]] = []
        self.store = MemoryStore(
            QueueLimits(), cache or CacheLimits(), AnswerLimits(), 1, random.Random(7).random, Told,
            turns=self.turns.append,
        )  # fmt: skip

    def ask(self, statement: Statement, key: RequestKey | None = None, now_ms: int = NOW_MS) -> Result | Told:
        outcome = self.store.execute(statement, Caller(host="10.0.0.1"), key, now_ms)
        assert isinstance(outcome, Result | Told)
        return outcome

    def wait(self, count: int, item: bytes | int = 1) -> list[Told]:
        """So many requests that wait for an item, each of a client of its own."""
        waits = [self.ask(QueueResultBlocking(item, 60_000), (b"", b"c%d" % number, 1)) for number in range(count)]
        assert all(isinstance(wait, Told) for wait in waits)
        return [wait for wait in waits if isinstance(wait, Told)]

    def step(self) -> bool:
        """One step; False when there is none."""
        if not self.turns:
            return False
        if next(self.turns[0], self) is self:
            self.turns.pop(0)
        return True


def answered(waits: list[Told]) -> int:
    return sum(len(wait.outcomes) for wait in waits)


def test_an_ack_that_releases_many_answers_a_few_in_each_step() -> None:
    stepping = Stepping()
    stepping.ask(QueueAdd(b"p:a", b"{}"))
    waits = stepping.wait(MANY)
    stepping.ask(QueueAck(b"p:a", b"r"))
    steps = 0
    while stepping.step():
        before = answered(waits)
        assert before <= (steps + 1) * STEP
        steps += 1
    assert steps >= MANY / STEP
    assert {len(wait.outcomes) for wait in waits} == {1}
    assert all(wait.rows == [(b"r", b"success", b"1", None)] for wait in waits)
    assert stepping.store.gauges()["answers"] == MANY
    assert not stepping.store._owing
    audit(stepping.store)


@pytest.mark.parametrize("item", [1, b"p:a"], ids=["by id", "by path"])
def test_a_released_request_that_is_sent_again_gets_its_answer_before_its_turn(item: bytes | int) -> None:
    """Executed again, one by path would wait for a result that is gone."""
    stepping = Stepping()
    stepping.ask(QueueAdd(b"p:a", b"{}"))
    waits = stepping.wait(STEP * 4, item)
    stepping.ask(QueueAck(b"p:a", b"r"))
    stepping.step()
    assert 0 < answered(waits) < len(waits)
    for number in range(len(waits)):
        again = stepping.ask(QueueResultBlocking(item, 60_000), (b"", b"c%d" % number, 1))
        assert isinstance(again, Result), number
        assert list(again.rows) == [(b"r", b"success", b"1", None)]
    audit(stepping.store)


def test_a_released_request_is_given_up_no_more() -> None:
    stepping = Stepping()
    stepping.ask(QueueAdd(b"p:a", b"{}"))
    waits = stepping.wait(STEP * 4)
    stepping.ask(QueueAck(b"p:a", b"r"))
    for wait in waits:
        stepping.store.give_up(wait, NOW_MS)
    stepping.store.end_waits(NOW_MS)
    while stepping.step():
        pass
    assert all(wait.rows == [(b"r", b"success", b"1", None)] for wait in waits)


def test_few_are_answered_at_once() -> None:
    stepping = Stepping()
    stepping.ask(QueueAdd(b"p:a", b"{}"))
    waits = stepping.wait(STEP)
    stepping.ask(QueueAck(b"p:a", b"r"))
    assert answered(waits) == STEP
    assert not stepping.turns


def test_many_waits_that_end_with_the_server_end_in_steps() -> None:
    stepping = Stepping()
    waits = stepping.wait(STEP * 4, b"p:never")
    stepping.store.end_waits(NOW_MS)
    stepping.step()
    assert answered(waits) == STEP
    while stepping.step():
        pass
    assert all(wait.rows == [] for wait in waits)
    assert stepping.store.gauges()["answers"] == 0


def test_eviction_removes_a_few_rows_in_each_step_and_counts_only_its_own() -> None:
    limits = CacheLimits(max_keys=10_000)
    stepping = Stepping(limits)
    for number in range(12_000):
        stepping.ask(CacheSet(b"p:%d" % number, b"v"))
    before = stepping.store.gauges()["cache_keys"]
    evicting = stepping.ask(SysCachestore(CachestoreAction.EVICTION), (b"", b"c", 1))
    assert isinstance(evicting, Told)
    steps, kept = 0, stepping.store.gauges()["cache_keys"]
    assert before - kept <= 128
    while not evicting.outcomes:
        stepping.step()
        now = stepping.store.gauges()["cache_keys"]
        assert kept - now <= 128
        stepping.ask(CacheSet(b"q:%d" % steps, b"v"))
        steps, kept = steps + 1, now + 1
    assert steps > 10
    figures = {name: value for name, value, _ in evicting.rows}
    removed = int(figures[b"total_keys_removed"])  # type: ignore[arg-type]
    assert removed == before + steps - stepping.store.gauges()["cache_keys"]
    again = stepping.ask(SysCachestore(CachestoreAction.EVICTION), (b"", b"c", 1))
    assert isinstance(again, Result), "its answer is kept"
    assert list(again.rows) == evicting.rows
    audit(stepping.store)


def test_stalled_items_of_a_large_queue_are_listed_by_id_however_many() -> None:
    stepping = Stepping()
    ids = list(range(1, 3_001))
    for number in ids:
        stepping.ask(QueueAdd(b"p:%d" % number, b"{}"))
    random.Random(3).shuffle(ids)
    for at, number in enumerate(ids):
        stepping.ask(QueueRetrieve(b"p:%d" % number, 1_000_000), None, NOW_MS + at)
    for limit in (0, 1, 10, 999, 1_000, 1_001, 1_500, 3_000):
        listed = stepping.ask(QueueStalled(b"p", 1_000), None, NOW_MS + limit + 1_000)
        assert isinstance(listed, Result)
        assert [int(id_) for _, id_ in listed.rows] == sorted(ids[:limit])  # type: ignore[arg-type]
