"""Inputs made to hurt: each is answered or refused with one clear error, in bounded time, and so is the next one."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubequeue_server.engines.sql import evaluator
from cubequeue_server.engines.sql.evaluator import MAX_SELECT_BYTES
from storage.errors import StatementError
from storage.vocabulary import Result
from tests.sql.running import Execute, Running

DOUBLED = "SELECT x || x || x || x AS x FROM (" * 15 + "SELECT 'xxxxxxxx' AS x" + ") t" * 15
MANY_ROWS = "SELECT count(*) FROM " + " CROSS JOIN ".join(
    f"(SELECT 1 AS x{' UNION ALL SELECT 1' * 9}) t{number}" for number in range(12)
)
CHAINED_CTES = "WITH " + ", ".join(
    ["a0 AS (SELECT 1 AS x UNION ALL SELECT 2)"]
    + [f"a{n} AS (SELECT a.x AS x FROM a{n - 1} a CROSS JOIN a{n - 1} b)" for n in range(1, 8)]
)

HOSTILE = {
    "brackets": "SELECT " + "(" * 100_000 + "1" + ")" * 100_000,
    "brackets in bounds": "SELECT " + "(" * 24 + "1" + ")" * 24,
    "functions in bounds": "SELECT " + "ABS(" * 24 + "1" + ")" * 24,
    "names that double": "SELECT " + "GREATEST(1, " * 24 + "1" + ")" * 24,
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
    # Where a word may be a type, sqlglot reads what follows as one, and then again: twice the time a level.
    "type words": "SELECT " + "date(" * 24 + "now()" + ")" * 24,
    "structs": "SELECT " + "struct(" * 30 + "1" + ")" * 30,
    "casts": "SELECT 1" + "::int" * 1_000,
    "null tests": "SELECT 1" + " IS NOT NULL" * 800,
    "likes": "SELECT 'a'" + " LIKE 'a'" * 1_000,
    "ins": "SELECT 1" + " IN (1)" * 450,
    "many columns": "SELECT " + "1, " * 80_000 + "1",
}
# Those that are ended, and what for.
ENDED = {
    "rows that multiply": "SELECT without a table took longer than 1 s",
    "ctes that multiply": "SELECT without a table took longer than 1 s",
    "type words": "SELECT took longer than 1 s to parse",
    "structs": "SELECT took longer than 1 s to parse",
}


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluator, "QUICK_LIMIT_S", 1.0)


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_bounded(running: Running, caplog: pytest.LogCaptureFixture, name: str) -> None:
    start = time.perf_counter()
    error = None
    try:
        running.execute(HOSTILE[name])
    except StatementError as refusal:
        error = refusal.wire_text
    # A second to parse, a second to evaluate, and to start a process before; the rest is for a busy machine.
    assert time.perf_counter() - start < 10.0
    assert error is None or ("unexpected" not in error and len(error) < 500)
    assert len(caplog.records) <= 1
    if name in ENDED:
        assert error == ENDED[name]
        assert [record.getMessage() for record in caplog.records] == [
            f"the process that evaluates SELECTs was ended: {error}"
        ]
    assert running.execute("SELECT 1, 2").rows == [(1, 2)]


@pytest.mark.parametrize(
    "name",
    [
        *("brackets in bounds", "functions in bounds", "sums", "sums of products", "ors", "unions in bounds"),
        *("columns", "casts", "quotes", "escapes", "a long literal"),
    ],
)
def test_what_is_in_bounds_is_answered(execute: Execute, name: str) -> None:
    assert execute(HOSTILE[name]).rows


@pytest.mark.parametrize("name", ["brackets", "nots", "too long", "null tests", "likes", "ins"])
def test_what_is_out_of_bounds_is_refused(execute: Execute, name: str) -> None:
    with pytest.raises(StatementError):
        execute(HOSTILE[name])


def test_one_byte_more_than_the_limit_is_refused(execute: Execute) -> None:
    within = "SELECT LENGTH('" + "x" * (MAX_SELECT_BYTES - 17) + "')"
    assert len(within) == MAX_SELECT_BYTES
    assert execute(within).rows == [(MAX_SELECT_BYTES - 17,)]
    with pytest.raises(StatementError, match=f"exceeds the maximum of {MAX_SELECT_BYTES} bytes"):
        execute(within + " ")
    with pytest.raises(StatementError, match=f"exceeds the maximum of {MAX_SELECT_BYTES} bytes"):
        execute("SELECT ?", b"x" * MAX_SELECT_BYTES)


_WORDS = """
SELECT FROM ( ) , . * + - / % = < > 'a' "b" `c` 1 2.5 NULL CASE WHEN THEN ELSE END NOT AND OR IN LIKE BETWEEN
IS INTERVAL CAST AS INT NOW() UNIX_TIMESTAMP() FLOOR COUNT UNION ALL WITH JOIN ON GROUP BY ORDER LIMIT EXISTS
; ? :: [ ] { } : @ # -- /* */ ' \\ information_schema.tables DISTINCT DATE_TRUNC TIMESTAMP || EXTRACT
"""
_FRAGMENTS = st.sampled_from(_WORDS.split())

_TYPES = st.sampled_from(
    ["INT", "DOUBLE", "DECIMAL(3,1)", "VARCHAR", "BOOLEAN", "TIMESTAMP", "DATE", "ARRAY<INT>", "STRUCT<a INT>", "MAP"]
)
_LEAVES = st.sampled_from(
    [
        *("1", "0", "-9223372036854775807", "2.5", "1e308", "'a'", "'2020-01-31'", "''", "NULL", "TRUE", "now()"),
        *("id", "value", "created", "t.priority", "(SELECT count(*) FROM system.cache)", "interval '1 month'"),
    ]
)
_NAMES = """
abs floor ceil round sqrt power least greatest coalesce nullif concat lower length substring left right trim replace
date date_trunc date_add date_part year unix_timestamp from_unixtime to_timestamp convert_tz count sum min max
if map struct array json timestamp char interval
"""
_OPERATORS = "+ - * / % = <> < <= || AND OR LIKE <=> IS :: , . ->"


def _grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Expressions one level deeper."""
    function, operator = st.sampled_from(_NAMES.split()), st.sampled_from(_OPERATORS.split())
    return st.one_of(
        st.builds("{}({})".format, function, st.lists(inner, max_size=3).map(", ".join)),
        st.builds("{} {} {}".format, inner, operator, inner),
        st.builds("({})".format, inner),
        st.builds("NOT {}".format, inner),
        st.builds("- {}".format, inner),
        st.builds("CAST({} AS {})".format, inner, _TYPES),
        st.builds("{}::{}".format, inner, _TYPES),
        st.builds("CASE WHEN {} THEN {} ELSE {} END".format, inner, inner, inner),
        st.builds("CASE {} WHEN {} THEN {} END".format, inner, inner, inner),
        st.builds("{} IN ({}, {})".format, inner, inner, inner),
        st.builds("{} BETWEEN {} AND {}".format, inner, inner, inner),
        st.builds("{} IS NOT NULL".format, inner),
        st.builds("(SELECT {} FROM system.queue t)".format, inner),
        st.builds("EXISTS (SELECT {} FROM system.queue WHERE {})".format, inner, inner),
    )


_EXPRESSIONS = st.recursive(_LEAVES, _grown, max_leaves=12)


@pytest.fixture(scope="module")
def filled(running: Running) -> Running:
    running.empty()
    running.run("QUEUE ADD 'p:a' 'payload'", "CACHE SET 'c:k' 'v'")
    return running


@pytest.mark.usefixtures("filled")
@given(columns=st.lists(_EXPRESSIONS, min_size=1, max_size=2), where=_EXPRESSIONS, order=_EXPRESSIONS)
def test_any_expression_is_answered_or_refused(running: Running, columns: list[str], where: str, order: str) -> None:
    text = f"SELECT {', '.join(columns)} FROM system.queue t WHERE {where} ORDER BY {order}"
    check(running, text)
    assert running.counters.select_ended_died == running.counters.internal_errors == 0


@given(st.lists(_FRAGMENTS, max_size=40))
def test_any_words_are_answered_or_refused(running: Running, words: list[str]) -> None:
    check(running, "SELECT " + " ".join(words))


@given(st.text(max_size=200))
def test_any_text_is_answered_or_refused(running: Running, text: str) -> None:
    for statement in (text, "SELECT " + text, "SELECT '" + text):
        check(running, statement)


def check(running: Running, text: str) -> None:
    """There is a result, or an error that somebody foresaw."""
    outcome = running.runner.run(running.outcome(text.encode(errors="ignore").decode()))
    assert isinstance(outcome, Result) or "unexpected" not in str(outcome)
