"""DeadlineIndex against a model that keeps a dict and looks at all of it."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from storage.cache.deadlines import DeadlineIndex
from tests.audit import audited_deadlines

KEYS = st.integers(0, 30)
# Close together, so that buckets are shared, and far apart.
DEADLINES = st.one_of(st.integers(0, 20_000), st.integers(0, 1 << 62))
TIMES = st.one_of(st.integers(-5_000, 25_000), st.integers(0, 1 << 62))
ENOUGH = 1_000


class AgainstDict(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.index: DeadlineIndex[int] = DeadlineIndex()
        self.model: dict[int, int] = {}

    @rule(key=KEYS, deadline_ms=DEADLINES)
    def put(self, key: int, deadline_ms: int) -> None:
        if key in self.model:
            self.index.discard(key, self.model[key])
        self.index.add(key, deadline_ms)
        self.model[key] = deadline_ms

    @rule(key=KEYS, deadline_ms=DEADLINES)
    def discard(self, key: int, deadline_ms: int) -> None:
        self.index.discard(key, self.model.pop(key, deadline_ms))

    @rule(now_ms=TIMES)
    def pop_all(self, now_ms: int) -> None:
        due = {key for key, deadline_ms in self.model.items() if deadline_ms <= now_ms}
        assert set(self.index.expired(now_ms)) == due
        popped = self.index.pop_expired(now_ms, ENOUGH)
        assert sorted(popped) == sorted(due)
        assert not self.index.may_be_due(now_ms)
        for key in due:
            del self.model[key]

    @rule(now_ms=TIMES, max_rows=st.integers(0, 5))
    def pop_some(self, now_ms: int, max_rows: int) -> None:
        popped = self.index.pop_expired(now_ms, max_rows)
        assert len(popped) == len(set(popped)) <= max_rows
        for key in popped:
            assert self.model.pop(key) <= now_ms
        if any(deadline_ms <= now_ms for deadline_ms in self.model.values()):
            assert self.index.may_be_due(now_ms)

    @rule(now_ms=TIMES)
    def pop_in_slices_comes_to_an_end(self, now_ms: int) -> None:
        popped: list[int] = []
        for _ in range(2 * len(self.model) + 1):
            if not self.index.may_be_due(now_ms):
                break
            popped += self.index.pop_expired(now_ms, 1)
        assert sorted(popped) == sorted(key for key, deadline_ms in self.model.items() if deadline_ms <= now_ms)
        for key in popped:
            del self.model[key]

    @precondition(lambda self: self.model)
    @rule()
    def soonest(self) -> None:
        key = self.index.soonest()
        assert key is not None
        assert self.model[key] == min(self.model.values())

    @precondition(lambda self: not self.model)
    @rule()
    def nothing_is_soonest(self) -> None:
        assert self.index.soonest() is None

    @invariant()
    def agrees(self) -> None:
        assert audited_deadlines(self.index) == self.model


TestAgainstDict = AgainstDict.TestCase
TestAgainstDict.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9_000)), max_size=300))
@settings(deadline=None)
def test_endless_overwrites_of_near_deadlines_leave_no_garbage(writes: list[tuple[int, int]]) -> None:
    index: DeadlineIndex[int] = DeadlineIndex()
    current: dict[int, int] = {}
    for key, deadline_ms in writes * 5:
        if key in current:
            index.discard(key, current[key])
        index.add(key, deadline_ms)
        current[key] = deadline_ms
        index.soonest()
        audited_deadlines(index)
    assert len(index._heap) <= 2 * len(current) + 64


def test_a_million_overwrites_far_ahead_keep_one_key_and_one_bucket() -> None:
    index: DeadlineIndex[bytes] = DeadlineIndex()
    deadline_ms = 0
    index.add(b"k", deadline_ms)
    for step in range(1, 100_000):
        index.discard(b"k", deadline_ms)
        deadline_ms = step * 86_400_000
        index.add(b"k", deadline_ms)
    assert len(index._buckets) == 1
    assert not index._heap
    assert audited_deadlines(index) == {b"k": deadline_ms}


def test_a_pop_touches_no_more_than_it_may() -> None:
    index: DeadlineIndex[int] = DeadlineIndex()
    for key in range(10_000):
        index.add(key, 4_096 + key % 4_096)  # all in one bucket
    assert len(index.pop_expired(8_191, 100)) <= 100
    assert len(index._near) <= 100  # put in order by that call
    assert index.may_be_due(8_191)


def test_a_clock_that_steps_back_finds_every_key_where_it_was() -> None:
    rng = random.Random(3)
    deadlines = {key: rng.randrange(10**9) for key in range(1_000)}
    index: DeadlineIndex[int] = DeadlineIndex()
    for key, deadline_ms in deadlines.items():
        index.add(key, deadline_ms)
    assert index.pop_expired(5 * 10**8, 1) != []  # the clock was far ahead for a moment
    left = audited_deadlines(index)
    assert set(index.pop_expired(10**6, 10_000)) == {key for key, at in left.items() if at <= 10**6}
    assert set(index.pop_expired(10**9, 10_000)) == {key for key, at in left.items() if at > 10**6}


def test_soonest_in_a_crowded_bucket_is_of_that_bucket_and_turns_exact() -> None:
    index: DeadlineIndex[int] = DeadlineIndex()
    for key in range(4_000):
        index.add(key, 4_096 + key)
    index.add(9_999, 1 << 40)
    taken = []
    for _ in range(4_000):
        soonest = index.soonest()
        assert soonest is not None
        index.discard(soonest, 4_096 + soonest)
        taken.append(soonest)
    assert sorted(taken) == list(range(4_000))
    assert taken[-3_900:] == sorted(taken[-3_900:])
    assert index.soonest() == 9_999
