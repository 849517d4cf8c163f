"""Long lists: their rows are made when they are read, and tell what was there when the statement was executed."""

from __future__ import annotations

import random
import time

import pytest

from storage.asking import ANYBODY, Caller
from storage.limits import AnswerLimits, CacheLimits, QueueLimits
from storage.listings import SHORT, Listing
from storage.memory import MemoryStore
from storage.vocabulary import (
    CacheClear,
    CacheKeys,
    CacheRemove,
    CacheSet,
    QueueAck,
    QueueActive,
    QueueAdd,
    QueueCancel,
    QueueClear,
    QueueList,
    QueueMergeExtra,
    QueuePending,
    QueueRetrieve,
    QueueToCancel,
    Result,
    Statement,
)
from tests.asking import Told

NOW_MS = 1_700_000_000_000
OWNER = Caller(b"process")
COUNT = 5 * SHORT + 3

LISTS: list[Statement] = [
    QueueList(b"q"),
    QueueList(b"q", with_payload=True),
    QueuePending(b"q"),
    QueueActive(b"q", with_payload=True),
    QueueToCancel(b"q", 0, 0),
    CacheKeys(b"c:"),
]


def make_store(count: int = COUNT) -> MemoryStore:
    store = MemoryStore(QueueLimits(), CacheLimits(), AnswerLimits(), 1, random.Random(1).random, Told)
    for number in range(count):
        payload = b"payload %d" % number
        ask(store, QueueAdd(b"q:%d" % number, payload, priority=number % 3, exclusive=number % 5 == 0))
        ask(store, CacheSet(b"c:%d" % number, b"v", ttl_s=number % 4 + 1))
        if number % 2:
            ask(store, QueueRetrieve(b"q:%d" % number, concurrency=count))
        if number % 3 == 0:
            ask(store, QueueMergeExtra(b"q:%d" % number, b'{"a":%d}' % number))
    return store


def ask(store: MemoryStore, statement: Statement, now_ms: int = NOW_MS) -> Result:
    result = store.execute(statement, OWNER, None, now_ms)
    assert isinstance(result, Result)
    return result


def change_everything(store: MemoryStore) -> None:
    for number in range(COUNT):
        ask(store, QueueMergeExtra(b"q:%d" % number, b'{"b":1}'))
        if number % 4 == 0:
            ask(store, QueueRetrieve(b"q:%d" % number, concurrency=COUNT))
        if number % 4 == 1:
            ask(store, QueueCancel(b"q:%d" % number))
            ask(store, CacheRemove(b"c:%d" % number))
        if number % 4 == 2:
            ask(store, QueueAck(b"q:%d" % number, b"result"))
        ask(store, QueueAdd(b"q:new %d" % number, b"new"))
        ask(store, CacheSet(b"c:new %d" % number, b"new"))


@pytest.mark.parametrize("statement", LISTS, ids=repr)
@pytest.mark.parametrize("passed_ms", [1, 1_500])
def test_a_long_list_tells_what_was_there_when_it_was_asked(statement: Statement, passed_ms: int) -> None:
    store = make_store()
    rows = ask(store, statement, NOW_MS + passed_ms).rows
    assert isinstance(rows, Listing)
    before = [*rows]
    assert len(before) == len(rows) > SHORT
    change_everything(store)
    assert [*rows] == before
    ask(store, QueueClear())
    ask(store, CacheClear())
    while store.tick(NOW_MS + passed_ms, 100):
        pass
    assert [*rows] == before
    assert not ask(store, statement, NOW_MS + passed_ms).rows


@pytest.mark.parametrize("statement", LISTS, ids=repr)
def test_any_part_of_a_long_list_is_that_part_of_its_rows(statement: Statement) -> None:
    rows = ask(make_store(), statement, NOW_MS + 1).rows
    every = [*rows]
    assert rows[0] == every[0]
    assert rows[-1] == every[-1]
    assert rows[SHORT : 3 * SHORT] == every[SHORT : 3 * SHORT]
    assert rows[:] == every
    with pytest.raises(IndexError):
        rows[len(every)]


@pytest.mark.parametrize("statement", LISTS, ids=repr)
def test_a_list_is_the_same_on_both_sides_of_the_bound(statement: Statement) -> None:
    store = make_store(4 * SHORT)
    for _ in range(4 * SHORT):
        result = ask(store, statement, NOW_MS + 1)
        rows = [*result.rows]
        if len(rows) <= SHORT:
            break
        oldest = rows[0][0]
        assert isinstance(oldest, bytes)
        ask(store, CacheRemove(oldest) if type(statement) is CacheKeys else QueueCancel(b"q:" + oldest), NOW_MS + 1)
        assert [*ask(store, statement, NOW_MS + 1).rows] == rows[1:]
    assert isinstance(result.rows, list)


@pytest.mark.parametrize(
    ("statement", "ns_per_row"), [(QueueList(b"q", with_payload=True), 500), (QueueToCancel(b"q", 0, 0), 500)], ids=repr
)
def test_a_long_list_costs_little_until_it_is_read(statement: Statement, ns_per_row: int) -> None:
    count = 20_000
    store = MemoryStore(QueueLimits(), CacheLimits(), AnswerLimits(), 1, random.Random(1).random, Told)
    for number in range(count):
        store.execute(QueueAdd(b"q:%d" % number, b"{}"), ANYBODY, None, NOW_MS)
    costs = []
    for _ in range(5):
        started = time.process_time()
        result = ask(store, statement, NOW_MS + 1)
        costs.append(time.process_time() - started)
    assert len(result.rows) == count
    assert min(costs) < count * ns_per_row / 1e9
