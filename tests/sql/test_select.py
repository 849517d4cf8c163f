"""SELECTs without tables: values, types and column names."""

from __future__ import annotations

import pytest

from storage.errors import InternalError, UserError
from storage.vocabulary import Binary, Cell, ColumnType
from tests.sql.running import NOW_MS, Execute

INT, FLOAT, STRING, BOOLEAN, TIMESTAMP = (
    ColumnType.INT,
    ColumnType.FLOAT,
    ColumnType.STRING,
    ColumnType.BOOLEAN,
    ColumnType.TIMESTAMP,
)

EXPRESSIONS: list[tuple[str, Cell, ColumnType]] = [
    ("1", 1, INT),
    ("9223372036854775807", 2**63 - 1, INT),
    ("9223372036854775808", 2.0**63, FLOAT),
    ("1.5", 1.5, FLOAT),
    ("1e3", 1000.0, FLOAT),
    ("-5", -5, INT),
    ("- - 5", 5, INT),
    ("TRUE", True, BOOLEAN),
    ("NULL", None, STRING),
    ("'it''s'", b"it's", STRING),
    (r"'\'\n\Z\%\b'", b"'\n\x1a%\b", STRING),
    ("'\0'", b"\0", STRING),
    ("'\N{GRINNING FACE}'", "\N{GRINNING FACE}".encode(), STRING),
    ("'" + "x" * 5000 + "'", b"x" * 5000, STRING),
    ("1 + 2 * 3 - 4", 3, INT),
    ("(1 + 2) * 3", 9, INT),
    ("10 - (4 - 3)", 9, INT),
    ("10 - 4 - 3", 3, INT),
    ("7 / 2", 3, INT),
    ("-7 / 2", -3, INT),
    ("7 / 2.0", 3.5, FLOAT),
    ("-7 % 3", -1, INT),
    ("MOD(7, 3)", 1, INT),
    ("FLOOR(-7 / 2)", -4, INT),
    ("CEIL(-7 / 2)", -3, INT),
    ("CEILING(7 / 2)", 4, INT),
    ("FLOOR(1.7)", 1, INT),
    ("FLOOR(NULL / 2)", None, INT),
    ("ROUND(2.4)", 2.0, FLOAT),
    ("ROUND(1.256, 2)", 1.26, FLOAT),
    ("ABS(-3)", 3, INT),
    ("POWER(2, 10)", 1024.0, FLOAT),
    ("SQRT(9)", 3.0, FLOAT),
    ("LEAST(3, 1, 2)", 1, INT),
    ("GREATEST(3, 1.5)", 3.0, FLOAT),
    ("COALESCE(NULL, 3)", 3, INT),
    ("IFNULL(NULL, 'x')", b"x", STRING),
    ("NULLIF(1, 1)", None, INT),
    ("IF(1 > 2, 'yes', 'no')", b"no", STRING),
    ("CASE 2 WHEN 1 THEN 'a' WHEN 2 THEN 'b' ELSE 'c' END", b"b", STRING),
    ("CASE WHEN FALSE THEN 1 END", None, INT),
    ("CASE WHEN TRUE THEN 1 ELSE 2.5 END", 1.0, FLOAT),
    ("1 = 1 AND NOT 1 <> 1", True, BOOLEAN),
    ("1 < 2 OR 1 / 1 > 3", True, BOOLEAN),
    ("NULL IS NULL", True, BOOLEAN),
    ("1 IS NOT NULL", True, BOOLEAN),
    ("NULL <=> NULL", True, BOOLEAN),
    ("2 BETWEEN 1 AND 3", True, BOOLEAN),
    ("2 IN (1, 2)", True, BOOLEAN),
    ("2 NOT IN (1, 3)", True, BOOLEAN),
    ("'abc' LIKE 'a%'", True, BOOLEAN),
    ("'abc' LIKE 'A%'", False, BOOLEAN),
    ("'abc' ILIKE 'A%'", True, BOOLEAN),
    ("'abc' LIKE 'a_c'", True, BOOLEAN),
    ("'abc' NOT LIKE '%b%'", False, BOOLEAN),
    ("'aXbXc' LIKE 'a%X%c'", True, BOOLEAN),
    ("'a' LIKE 'a%a'", False, BOOLEAN),
    ("'a' || 'b' || 'c'", b"abc", STRING),
    ("CONCAT('a', 1, NULL)", b"a1", STRING),
    ("LOWER('AB')", b"ab", STRING),
    ("LENGTH('\u00e9')", 1, INT),
    ("SUBSTRING('hello', 2, 3)", b"ell", STRING),
    ("LEFT('hello', 2)", b"he", STRING),
    ("RIGHT('hello', 2)", b"lo", STRING),
    ("TRIM('  x ')", b"x", STRING),
    ("REPLACE('aba', 'a', 'c')", b"cbc", STRING),
    ("CAST('5' AS INT)", 5, INT),
    ("CAST(5 AS VARCHAR)", b"5", STRING),
    ("5::varchar", b"5", STRING),
    ("CAST(TRUE AS VARCHAR)", b"true", STRING),
    ("CAST(5.9 AS BIGINT)", 5, INT),
    ("CAST('1.5' AS DOUBLE)", 1.5, FLOAT),
    ("NOW()", NOW_MS, TIMESTAMP),
    ("CURRENT_TIMESTAMP", NOW_MS, TIMESTAMP),
    ("CURRENT_DATE", 1_699_920_000_000, TIMESTAMP),
    ("UNIX_TIMESTAMP()", NOW_MS // 1000, INT),
    ("UNIX_TIMESTAMP(to_timestamp('1970-01-02'))", 86_400, INT),
    ("FROM_UNIXTIME(60)", 60_000, TIMESTAMP),
    ("to_timestamp('2020-01-01T00:00:00.000')", 1_577_836_800_000, TIMESTAMP),
    ("to_timestamp('2020-01-01 02:00:00+02:00')", 1_577_836_800_000, TIMESTAMP),
    ("TIMESTAMP '2020-01-01'", 1_577_836_800_000, TIMESTAMP),
    ("CAST('2020-01-01T05:00:00Z' AS DATE)", 1_577_836_800_000, TIMESTAMP),
    ("CAST(to_timestamp('2020-01-01') AS VARCHAR)", b"2020-01-01T00:00:00.000Z", STRING),
    ("DATE_TRUNC('hour', NOW())", 1_699_999_200_000, TIMESTAMP),
    ("date_trunc('week', NOW())", 1_699_833_600_000, TIMESTAMP),
    ("DATE_TRUNC('quarter', NOW())", 1_696_118_400_000, TIMESTAMP),
    ("DATE_TRUNC('year', NOW())", 1_672_531_200_000, TIMESTAMP),
    ("DATE_ADD(to_timestamp('2020-01-31'), INTERVAL '1 MONTH')", 1_582_934_400_000, TIMESTAMP),
    ("DATE_ADD(to_timestamp('2020-01-01'), INTERVAL '1 DAY 2 HOUR')", 1_577_930_400_000, TIMESTAMP),
    ("DATE_SUB(to_timestamp('2020-01-01'), INTERVAL '1 YEAR 1 QUARTER')", 1_538_352_000_000, TIMESTAMP),
    ("to_timestamp('2020-01-01') - INTERVAL 1 DAY", 1_577_750_400_000, TIMESTAMP),
    ("to_timestamp('2020-01-01') + INTERVAL '-1 DAY'", 1_577_750_400_000, TIMESTAMP),
    ("EXTRACT(YEAR FROM NOW())", 2023, INT),
    ("DATE_PART('dow', NOW())", 2, INT),
    ("CONVERT_TZ(to_timestamp('2020-01-01'), '+02:00')", 1_577_844_000_000, TIMESTAMP),
    (
        "DATE_BIN(INTERVAL '2 DAY', to_timestamp('2020-01-04'), to_timestamp('2020-01-01'))",
        1_578_009_600_000,
        TIMESTAMP,
    ),
    (
        "DATE_BIN(INTERVAL '1 MONTH', to_timestamp('2020-03-10'), to_timestamp('2020-01-15'))",
        1_581_724_800_000,
        TIMESTAMP,
    ),
    ("NOW() > '2020-01-01'", True, BOOLEAN),
    ("(SELECT 5)", 5, INT),
    ("EXISTS (SELECT 1)", True, BOOLEAN),
    ("1 IN (SELECT 1)", True, BOOLEAN),
]


@pytest.mark.parametrize(("expression", "value", "column_type"), EXPRESSIONS)
def test_expression(execute: Execute, expression: str, value: Cell, column_type: ColumnType) -> None:
    result = execute(f"SELECT {expression}")
    assert result.rows == [(value,)]
    assert type(result.rows[0][0]) is type(value)
    assert result.columns.types == (column_type,)


@pytest.mark.parametrize(
    ("sql", "names"),
    [
        ("SELECT 1", ("Int64(1)",)),
        ("select 1;", ("Int64(1)",)),
        ("  SELECT  1 -- ping", ("Int64(1)",)),
        ("/* a */ SELECT /* b */ 1", ("Int64(1)",)),
        ("SELECT 1, 'x', 1.5, true, now()", ("Int64(1)", 'Utf8("x")', "Float64(1.5)", "Boolean(true)", "now()")),
        ("SELECT 1 + 2 AS `a b`, 3 AS \"c\"", ("a b", "c")),
        ("SELECT 1 + 2", ("Int64(1) + Int64(2)",)),
    ],
)  # fmt: skip
def test_columns_are_named_after_the_expression(execute: Execute, sql: str, names: tuple[str, ...]) -> None:
    assert execute(sql).columns.names == names


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("SELECT 1 UNION ALL SELECT 1", [(1,), (1,)]),
        ("SELECT 1 UNION SELECT 1", [(1,)]),
        ("SELECT 1 AS x UNION ALL SELECT 2.5 ORDER BY x DESC LIMIT 1", [(2.5,)]),
        ("SELECT x FROM (SELECT 3 AS x UNION SELECT 2) t ORDER BY x DESC", [(3,), (2,)]),
        (
            "WITH a AS (SELECT 1 AS x UNION ALL SELECT 2) SELECT sum(x), count(*), max(x), avg(x) FROM a",
            [(3, 2, 2, 1.5)],
        ),
        ("SELECT a.x, b.y FROM (SELECT 1 AS x) a JOIN (SELECT 1 AS y UNION ALL SELECT 2) b ON a.x = b.y", [(1, 1)]),
        ("SELECT * FROM (SELECT 1 AS x, 2 AS y) t WHERE x = 2", []),
        ("SELECT x, count(*) FROM (SELECT 1 AS x UNION ALL SELECT 1) t GROUP BY 1 HAVING count(*) > 1", [(1, 2)]),
        ("SELECT DISTINCT x FROM (SELECT 1 AS x UNION ALL SELECT 1) t", [(1,)]),
        ("(SELECT 1)", [(1,)]),
        ("SELECT 1 AS x LIMIT 1 OFFSET 1", []),
    ],
)
def test_queries(execute: Execute, sql: str, rows: list[tuple[Cell, ...]]) -> None:
    assert execute(sql).rows == rows


def test_parameters_are_bound_as_values(execute: Execute) -> None:
    sql = "SELECT ?, ?, ?, ?, ?, ?"
    assert execute(sql, b"a'; --", 5, -5, 1.5, True, None).rows == [(b"a'; --", 5, -5, 1.5, True, None)]
    assert execute("SELECT 10 - ?", -5).rows == [(15,)]
    assert execute("SELECT ?", b"x" * 1000).rows == [(b"x" * 1000,)]


def test_missing_parameters_are_the_parsers_errors(execute: Execute) -> None:
    with pytest.raises(InternalError) as none:
        execute("SELECT ?")
    assert none.value.wire_text == 'Internal: ParserError("Empty parameters, please send parameters within query")'
    with pytest.raises(InternalError) as few:
        execute("SELECT ?, ?", 1)
    assert few.value.wire_text == (
        'Internal: ParserError("Placeholder index is out of bound, actual: 1, parameters length: 1")'
    )
    with pytest.raises(UserError, match="binary parameters"):
        execute("SELECT ?", Binary(b"x"))


@pytest.mark.parametrize(
    ("sql", "text"),
    [
        ("SELECT 1 / 0", "Divide by zero error"),
        ("SELECT 9223372036854775807 + 1", "integer overflow"),
        ("SELECT load_extension('x')", "LOAD_EXTENSION is not supported in SELECT"),
        ("SELECT randomblob(1000000000)", "RANDOMBLOB is not supported in SELECT"),
        ("SELECT sqlite_version()", "SQLITE_VERSION is not supported in SELECT"),
        ("SELECT nope", "Column 'nope' could not be resolved"),
        ("SELECT to_timestamp('soon')", "Error parsing 'soon' as timestamp"),
        ("SELECT to_timestamp('2020-02-30')", "Error parsing '2020-02-30' as timestamp"),
        ("SELECT CAST('x' AS INT)", "Cannot cast string 'x' to value of Int64 type"),
        ("SELECT 'a' + 1", 'Utf8("a") + Int64(1): numbers are wanted'),
        ("SELECT DATE_TRUNC('eon', NOW())", "'eon' is not a unit of time"),
        ("SELECT DATE_ADD(NOW(), INTERVAL '9999 YEAR')", "outside the years 1 to 9999"),
        ("SELECT 1; SELECT 2", "more than one statement"),
        ("SELECT * FROM dev.orders", "Table dev.orders was not found: cubequeue keeps"),
        ("SELECT * FROM sqlite_master", "Table sqlite_master was not found"),
        ("SELECT *", "no columns"),
        ("WITH RECURSIVE a AS (SELECT 1) SELECT * FROM a", "WITH RECURSIVE is not supported"),
        ("SELECT SUM(1) OVER ()", "WINDOW is not supported"),
        ("SELECT @@version", "PARAMETER is not supported"),
        ("SELECT :cq0", "PLACEHOLDER is not supported"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_a_users_error(execute: Execute, sql: str, text: str) -> None:
    with pytest.raises(UserError) as error:
        execute(sql)
    assert text in error.value.wire_text


@pytest.mark.parametrize("sql", ["SELECT 1 FROM", "SELECT (1", "SELECT 'open", "SELECT 1 +", "SELECT 1 /* open"])
def test_what_is_no_sql_is_an_internal_error(execute: Execute, sql: str) -> None:
    with pytest.raises(InternalError) as error:
        execute(sql)
    assert error.value.wire_text.startswith(('Internal: ParserError("', 'Internal: TokenizerError("'))
