"""The two orders that rows are read in (storage/queue/indexes.py)."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter

from hypothesis import given
from hypothesis import strategies as st

from storage.queue.indexes import IdIndex, TimeIndex
from tests.audit import audit


@dataclass
class Row:
    id: int
    at_ms: int = 0


def by_time() -> TimeIndex[Row]:
    return TimeIndex(attrgetter("at_ms"))


def test_ids_are_read_in_order_whatever_order_they_came_in() -> None:
    index: IdIndex[Row] = IdIndex()
    for id_ in (5, 2, 9, 1):
        index.add(Row(id_))
    assert [row.id for row in index.rows()] == [1, 2, 5, 9]
    index.add(Row(7))
    assert [row.id for row in index.rows()] == [1, 2, 5, 7, 9]
    audit(index)


def test_a_consumed_front_is_not_walked_over_again() -> None:
    """The dict below is as long as what is left, not as what was there: 3 of 10 000 rows."""
    index: IdIndex[Row] = IdIndex()
    rows = [Row(id_) for id_ in range(10_000)]
    for row in rows:
        index.add(row)
    for row in rows[:-3]:
        index.remove(row)
        assert index._holes <= len(index) + 32
    assert index._rows.__sizeof__() < 10_000
    assert [row.id for row in index.rows()] == [9_997, 9_998, 9_999]


def test_remove_tells_how_many_are_left() -> None:
    index: IdIndex[Row] = IdIndex()
    one, two = Row(1), Row(2)
    index.add(one)
    index.add(two)
    assert [index.remove(one), index.remove(two)] == [1, 0]


def test_a_clock_that_goes_on_needs_no_tree() -> None:
    index = by_time()
    rows = [Row(id_, id_ * 10) for id_ in range(100)]
    for row in rows:
        index.add(row, row.at_ms)
    for row in rows[:50]:
        index.touch(row, 5_000)
        row.at_ms = 5_000
    assert index._late is None
    assert index.first_ms() == 500
    assert {row.id for row in index.before(520)} == {50, 51}


def test_a_step_back_is_kept_in_order_beside() -> None:
    index = by_time()
    for row in (Row(1, 1_000), Row(2, 400), Row(3, 1_200), Row(4, 700)):
        index.add(row, row.at_ms)
    audit(index)
    assert index.first_ms() == 400
    assert {row.id for row in index.before(1_000)} == {2, 4}
    assert {row.id for row in index.before(1_001)} == {1, 2, 4}


def test_once_empty_the_order_starts_anew() -> None:
    """A far future time does not send all that follow into the tree for ever."""
    index = by_time()
    far = Row(1, 1 << 60)
    index.add(far, far.at_ms)
    index.remove(far)
    index.add(Row(2, 5), 5)
    assert index._late is None
    assert index.first_ms() == 5


def test_first_ms_from_a_time_on() -> None:
    index = by_time()
    assert index.first_ms() is None
    for row in (Row(1, 10), Row(2, 30), Row(3, 20)):
        index.add(row, row.at_ms)
    assert [index.first_ms(at) for at in (0, 10, 11, 21, 31)] == [10, 10, 20, 30, None]


STEPS = st.lists(st.tuples(st.sampled_from(["add", "touch", "remove"]), st.integers(0, 6), st.integers(0, 9)))


@given(STEPS)
def test_time_index_against_a_scan(steps: list[tuple[str, int, int]]) -> None:
    index = by_time()
    rows: dict[int, Row] = {}
    for step, id_, at_ms in steps:
        if step == "add" and id_ not in rows:
            rows[id_] = Row(id_, at_ms)
            index.add(rows[id_], at_ms)
        elif step == "touch" and id_ in rows:
            index.touch(rows[id_], at_ms)
            rows[id_].at_ms = at_ms
        elif step == "remove" and id_ in rows:
            index.remove(rows.pop(id_))
        audit(index)
        assert len(index) == len(rows)
        assert index.first_ms() == min((row.at_ms for row in rows.values()), default=None)
        found = sorted(row.id for row in index.before(at_ms))
        assert found == sorted(row.id for row in rows.values() if row.at_ms < at_ms)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20))))
def test_id_index_against_a_scan(steps: list[tuple[bool, int]]) -> None:
    index: IdIndex[Row] = IdIndex()
    rows: dict[int, Row] = {}
    for adds, id_ in steps:
        if adds and id_ not in rows:
            rows[id_] = Row(id_)
            index.add(rows[id_])
        elif not adds and id_ in rows:
            assert index.remove(rows.pop(id_)) == len(rows)
        assert [row.id for row in index.rows()] == sorted(rows)
        audit(index)
