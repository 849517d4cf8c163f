"""Inputs made to hurt: each is answered or refused, in bounded time, and the engine works afterwards."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubequeue_server.engines.sql.engine import SqlEngine
from cubequeue_server.engines.sql.source import MAX_NESTING, MAX_SELECT_BYTES
from storage.asking import ANYBODY
from storage.errors import StatementError
from storage.vocabulary import OtherSql
from tests.asking import Told
from tests.sql.conftest import NOW_MS, Execute

DOUBLED = "SELECT x || x || x || x AS x FROM (" * 15 + "SELECT 'xxxxxxxx' AS x" + ") t" * 15
MANY_ROWS = "SELECT count(*) FROM " + " CROSS JOIN ".join(
    f"(SELECT 1 AS x{' UNION ALL SELECT 1' * 99}) t{number}" for number in range(6)
)
CHAINED_CTES = "WITH " + ", ".join(
    ["a0 AS (SELECT 1 AS x UNION ALL SELECT 2)"]
    + [f"a{n} AS (SELECT a.x AS x FROM a{n - 1} a CROSS JOIN a{n - 1} b)" for n in range(1, 8)]
)

HOSTILE = {
    "brackets": "SELECT " + "(" * 100_000 + "1" + ")" * 100_000,
    "brackets in bounds": "SELECT " + "(" * (MAX_NESTING - 1) + "1" + ")" * (MAX_NESTING - 1),
    "functions in bounds": "SELECT " + "ABS(" * (MAX_NESTING - 1) + "1" + ")" * (MAX_NESTING - 1),
    "names that double": "SELECT " + "GREATEST(1, " * (MAX_NESTING - 1) + "1" + ")" * (MAX_NESTING - 1),
    "cases": "SELECT " + "CASE WHEN 1 = 1 THEN " * 24 + "1" + " END" * 24,
    "case subjects": "SELECT " + "CASE " * 24 + "1" + " WHEN 1 THEN 2 WHEN 2 THEN 3 END" * 24,
    "betweens": "SELECT " + "(" * 24 + "1" + " BETWEEN 1 AND 2)" * 24,
    "nots": "SELECT " + "NOT " * 100_000 + "1",
    "minuses": "SELECT " + "- " * 1_000 + "1",
    "sums": "SELECT 1" + " + 1" * 800,
    "sums of products": "SELECT 1" + " + 1 * 2" * 600,
    "quotients": "SELECT 1" + " / 1" * 1_200,
    "ors": "SELECT 1 = 2" + " OR 1 = 2" * 600,
    "comparisons": "SELECT 1" + " = 1" * 1_200,
    "pipes": "SELECT 'x'" + " || 'x'" * 1_200,
    "unions": "SELECT 1" + " UNION ALL SELECT 1" * 1_000,
    "unions in bounds": "SELECT 1" + " UNION ALL SELECT 1" * 199,
    "zones": "SELECT 1" + " AT TIME ZONE 'x'" * 500,
    "types": "SELECT CAST(1 AS " + "ARRAY<" * 500 + "INT" + ">" * 500 + ")",
    "arrows": "SELECT " + "a -> " * 800 + "1",
    "withs": "WITH a AS (SELECT 1) " * 200 + "SELECT 1",
    "columns": "SELECT " + "1, " * 1_200 + "1",
    "dots": "SELECT a" + ".a" * 1_200,
    "quotes": "SELECT '" + "''" * 120_000 + "'",
    "escapes": "SELECT '" + r"\'" * 120_000 + "'",
    "open quotes": "SELECT " + "'" * 200_001,
    "a long literal": "SELECT LENGTH('" + "x" * 250_000 + "')",
    "too long": "SELECT '" + "x" * 20_000_000 + "'",
    "comments": "/* x */ " * 2_000_000 + "SELECT 1",
    "open comment": "/*" * 1_000_000,
    "blanks": " " * 10_000_000 + "SELECT 1, 2",
    "texts that double": DOUBLED,
    "rows that multiply": MANY_ROWS,
    "ctes that multiply": f"{CHAINED_CTES} SELECT count(*) FROM a7",
    "like with percents": "SELECT '" + "a" * 9_000 + "' LIKE '" + "a%" * 400 + "b'",
    "like with underscores": "SELECT '" + "a" * 9_000 + "' LIKE '" + "a%_" * 30 + "b'",
    "a huge number": "SELECT " + "9" * 100_000,
    "a huge exponent": "SELECT 1e999999",
    "a huge interval": "SELECT DATE_ADD(NOW(), INTERVAL '999999999 WEEK')",
    "power": "SELECT POWER(9999999, 9999999)",
    "replace": "SELECT " + "REPLACE(" * 20 + "'aaaaaaaaaaaaaaaa'" + ", 'a', 'aaaaaaaaaaaaaaaa')" * 20,
    "names": 'SELECT 1 AS "' + '""' * 1000 + '"',
    "nul": "SELECT 1 AS `\0`, '\0'",
    "template": "SELECT {{ 1 }} {% x %}",
    "semicolons": "SELECT 1" + ";" * 2_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_bounded(execute: Execute, name: str) -> None:
    text = HOSTILE[name].encode()
    start = time.perf_counter()
    with contextlib.suppress(StatementError):
        execute(text)
    # About 0.1 s of compiling and 0.1 s of evaluation; the rest is for a busy machine.
    assert time.perf_counter() - start < 1.0
    assert execute("SELECT 1, 2").rows == [(1, 2)]


@pytest.mark.parametrize(
    "name", ["brackets in bounds", "functions in bounds", "sums", "ors", "unions in bounds", "columns"]
)
def test_what_is_in_bounds_is_answered(execute: Execute, name: str) -> None:
    assert execute(HOSTILE[name]).rows


@pytest.mark.parametrize("name", ["brackets", "nots", "too long", "rows that multiply", "texts that double"])
def test_what_is_out_of_bounds_is_refused(execute: Execute, name: str) -> None:
    with pytest.raises(StatementError):
        execute(HOSTILE[name])


def test_one_byte_more_than_the_limit_is_refused(execute: Execute) -> None:
    within = "SELECT LENGTH('" + "x" * (MAX_SELECT_BYTES - 17) + "')"
    assert len(within) == MAX_SELECT_BYTES
    assert execute(within).rows == [(MAX_SELECT_BYTES - 17,)]
    with pytest.raises(StatementError, match=f"exceeds the maximum of {MAX_SELECT_BYTES} bytes"):
        execute(within + " ")


_WORDS = """
SELECT FROM ( ) , . * + - / % = < > 'a' "b" `c` 1 2.5 NULL CASE WHEN THEN ELSE END NOT AND OR IN LIKE BETWEEN
IS INTERVAL CAST AS INT NOW() UNIX_TIMESTAMP() FLOOR COUNT UNION ALL WITH JOIN ON GROUP BY ORDER LIMIT EXISTS
; ? :: [ ] { } : @ # -- /* */ ' \\ information_schema.tables DISTINCT DATE_TRUNC TIMESTAMP || EXTRACT
"""
_FRAGMENTS = st.sampled_from(_WORDS.split())


@given(st.lists(_FRAGMENTS, max_size=40))
def test_any_words_are_answered_or_refused(words: list[str]) -> None:
    with contextlib.suppress(StatementError):
        SqlEngine(Told).execute(OtherSql(("SELECT " + " ".join(words)).encode()), ANYBODY, None, NOW_MS)


@given(st.text(max_size=200))
def test_any_text_is_answered_or_refused(text: str) -> None:
    for statement in (text, "SELECT " + text, "SELECT '" + text):
        with contextlib.suppress(StatementError):
            SqlEngine(Told).execute(OtherSql(statement.encode(errors="ignore")), ANYBODY, None, NOW_MS)
