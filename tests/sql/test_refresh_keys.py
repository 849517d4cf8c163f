"""Cube's refresh keys: integers, floored, of the server's time (design: what a server must get right)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubequeue_server.engines.sql.fixed import answer_known
from storage.vocabulary import ColumnType
from tests.sql.running import Execute, Running

FORMS = [
    ("SELECT FLOOR((UNIX_TIMESTAMP()) / 10) as refresh_key", 1789, 178),
    ("SELECT FLOOR((UNIX_TIMESTAMP()) / 10) as refresh_key", 1780, 178),
    ("SELECT FLOOR((UNIX_TIMESTAMP()) / 3600) as refresh_key", 7199, 1),
    ("select floor((unix_timestamp()) / 10) as refresh_key", 1789, 178),
    ("SELECT FLOOR((UNIX_TIMESTAMP()) / 10)", 1789, 178),
    ("SELECT FLOOR(UNIX_TIMESTAMP() / 10) as refresh_key", 1789, 178),
    ("SELECT FLOOR((0 + UNIX_TIMESTAMP()) / 60) as refresh_key", 121, 2),
    ("SELECT FLOOR((7200 + UNIX_TIMESTAMP()) / 86400) as refresh_key", 79_200, 1),
    ("SELECT FLOOR((-25200 + UNIX_TIMESTAMP()) / 86400) as refresh_key", 25_199, -1),
    ("SELECT FLOOR((-25200 + UNIX_TIMESTAMP()) / 86400) as refresh_key", 25_200, 0),
    ("SELECT FLOOR((-25200 + UNIX_TIMESTAMP() - 28800) / 86400) as refresh_key", 54_000, 0),
    ("SELECT FLOOR((-25200 + UNIX_TIMESTAMP() - 28800) / 86400) as refresh_key", 53_999, -1),
    ("SELECT FLOOR((19800 + UNIX_TIMESTAMP() - 0) / 3600) as refresh_key", 0, 5),
    (("SELECT CASE WHEN NOW() < CAST('1970-01-02T00:00:00.000' as TIMESTAMP) THEN FLOOR((UNIX_TIMESTAMP()) / 10) END"
     " as refresh_key"), 1789, 178),
    (("SELECT CASE WHEN NOW() < to_timestamp('1970-01-01T00:00:00.000') THEN FLOOR((UNIX_TIMESTAMP()) / 10) END"
     " as refresh_key"), 1789, None),
    (("SELECT CASE WHEN NOW() < DATE_ADD(to_timestamp('1970-01-01T00:00:00.000'), INTERVAL '7 DAY') THEN"
     " FLOOR((7200 + UNIX_TIMESTAMP() - 100) / 3600) END as refresh_key"), 3600, 2),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "seconds", "expected"), FORMS)
def test_a_refresh_key_is_the_floored_integer(execute: Execute, sql: str, seconds: int, expected: int | None) -> None:
    result = execute(sql, now_ms=seconds * 1000 + 999)
    assert result.columns.types == (ColumnType.INT,)
    assert result.rows == [(expected,)]
    assert expected is None or type(result.rows[0][0]) is int


def test_the_column_has_the_name_that_was_asked_for(execute: Execute) -> None:
    assert execute("SELECT FLOOR((UNIX_TIMESTAMP()) / 10) as refresh_key").columns.names == ("refresh_key",)
    assert execute("SELECT FLOOR((UNIX_TIMESTAMP()) / 10)").columns.names == ("floor(unix_timestamp() / Int64(10))",)


def test_a_remembered_plan_follows_the_clock(execute: Execute) -> None:
    sql = "SELECT FLOOR(UNIX_TIMESTAMP() / 10) AS remembered"
    assert [execute(sql, now_ms=now).rows for now in (0, 10_000, 5_000)] == [[(0,)], [(1,)], [(0,)]]


@given(
    offset=st.none() | st.integers(-99_999, 99_999),
    shift=st.none() | st.integers(-99_999, 99_999),
    interval=st.integers(1, 10**6),
    now_ms=st.integers(0, 4 * 10**12),
)
def test_the_quick_way_gives_what_the_compiler_gives(
    running: Running, offset: int | None, shift: int | None, interval: int, now_ms: int
) -> None:
    start = "" if offset is None else f"{offset} + "
    end = "" if shift is None else f" {'+' if shift >= 0 else '-'} {abs(shift)}"
    sql = f"SELECT FLOOR(({start}UNIX_TIMESTAMP(){end}) / {interval}) AS k"
    quick = answer_known(sql.encode(), now_ms)
    assert quick is not None
    # A second column keeps the text from being one of the shapes.
    slow = running.execute(f"{sql}, 2", now_ms=now_ms)
    assert quick.rows[0] == slow.rows[0][:1]
    assert quick.columns.names == slow.columns.names[:1]
