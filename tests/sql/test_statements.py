"""Statements that are no SELECT, SYS for other engines, and information_schema."""

from __future__ import annotations

import pytest

from cubequeue_server.engines.sql.engine import SqlEngine
from storage.asking import ANYBODY
from storage.errors import UserError
from storage.vocabulary import EMPTY_RESULT, ColumnType, SysForeign
from tests.sql.running import NOW_MS, Execute

STRING, TIMESTAMP = ColumnType.STRING, ColumnType.TIMESTAMP

SCHEMA_QUERIES = [
    ("SELECT schema_name FROM information_schema.schemata WHERE schema_name = 'x'", {"schema_name": STRING}),
    ("SELECT schema_name FROM information_schema.schemata WHERE schema_name = ?", {"schema_name": STRING}),
    ("SELECT schema_name AS s FROM INFORMATION_SCHEMA.SCHEMATA", {"s": STRING}),
    ("SELECT * FROM information_schema.schemata", {"schema_name": STRING}),
    (
        "SELECT table_name, build_range_end FROM information_schema.tables WHERE table_schema = 'x'",
        {"table_name": STRING, "build_range_end": TIMESTAMP},
    ),
    (
        (
            "SELECT table_name, build_range_end FROM information_schema.tables WHERE table_schema = 'x' AND "
            "(table_name LIKE CONCAT('p', '%') OR table_name LIKE CONCAT('q', '%'))"
        ),
        {"table_name": STRING, "build_range_end": TIMESTAMP},
    ),
    (
        "SELECT table_name FROM information_schema.tables WHERE "
        + " OR ".join(f"table_name LIKE CONCAT('prefix_{n}', '%')" for n in range(200)),
        {"table_name": STRING},
    ),
    (
        "SELECT * FROM information_schema.tables",
        {"table_schema": STRING, "table_name": STRING, "build_range_end": TIMESTAMP, "seal_at": TIMESTAMP},
    ),
    (
        (
            "SELECT columns.column_name as `column_name`, columns.table_name as `table_name`, columns.table_schema as"
            " `table_schema`, columns.data_type as `data_type` FROM information_schema.columns WHERE"
            " columns.table_schema NOT IN ('pg_catalog', 'information_schema', 'mysql', 'performance_schema',"
            " 'sys', 'INFORMATION_SCHEMA')"
        ),
        {"column_name": STRING, "table_name": STRING, "table_schema": STRING, "data_type": STRING},
    ),
    (
        (
            "SELECT c.column_name, t.table_name FROM information_schema.columns AS c"
            " LEFT JOIN information_schema.tables t ON c.table_name = t.table_name ORDER BY c.column_name LIMIT 5"
        ),
        {"column_name": STRING, "table_name": STRING},
    ),
]


@pytest.mark.parametrize(("sql", "columns"), SCHEMA_QUERIES)
def test_information_schema_has_the_right_columns_and_no_rows(
    execute: Execute, sql: str, columns: dict[str, ColumnType]
) -> None:
    result = execute(sql, *([b"x"] if "?" in sql else []))
    assert dict(zip(result.columns.names, result.columns.types, strict=True)) == columns
    assert list(result.rows) == []


def test_counts_of_information_schema_are_zero(execute: Execute) -> None:
    assert execute("SELECT count(*) FROM information_schema.tables").rows == [(0,)]


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE SCHEMA x",
        "create schema if not exists dev_pre_aggregations",
        "DROP TABLE IF EXISTS x.y",
        "SET x = 1",
        "set names utf8",
        "SET character set utf8",
        "SHOW CHARACTER SET WHERE charset = 'utf8mb4'",
        "USE x",
        "/* trace */ SET autocommit=1",
    ],
)
def test_what_there_is_nothing_to_do_for_succeeds_without_columns(execute: Execute, sql: str) -> None:
    assert execute(sql) == EMPTY_RESULT


@pytest.mark.parametrize(
    ("sql", "names", "row"),
    [
        ("SELECT current_user()", ("current_user()",), (b"root",)),
        ("select CONNECTION_ID()", ("connection_id()",), (b"1",)),
        ("select connection_id() as connectionid;", ("connectionid",), (b"1",)),
        (
            "SHOW SESSION VARIABLES LIKE 'lower_case_table_names'",
            ("Variable_name", "Value"),
            (b"lower_case_table_names", b"2"),
        ),
        ("SHOW SESSION VARIABLES LIKE 'sql_mode'", ("Variable_name", "Value"), (b"sql_mode", b"TRADITIONAL")),
    ],
)
def test_fixed_texts_of_clients_start_up(
    execute: Execute, sql: str, names: tuple[str, ...], row: tuple[bytes, ...]
) -> None:
    result = execute(sql)
    assert result.columns.names == names
    assert result.rows == [row]


@pytest.mark.parametrize("what", ["SCHEMAS", "tables", "CHUNKS", "INDEXES", "PARTITIONS"])
def test_show_lists_nothing(execute: Execute, what: str) -> None:
    result = execute(f"SHOW {what}")
    assert len(result.columns) > 1
    assert list(result.rows) == []


def test_other_shows_are_unknown(execute: Execute) -> None:
    with pytest.raises(UserError, match=r"^Unknown SHOW: foo$"):
        execute("SHOW foo")


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE x.y (a int) LOCATION 'temp://1'",
        "CREATE TABLE x.y (a int) WITH (build_range_end = '2020') UNIQUE KEY (a) LOCATION ?",
        "CREATE INDEX i ON x.y (a)",
        "CREATE SOURCE OR UPDATE `kafka` as 'kafka' VALUES (user = 'x')",
        "INSERT INTO x.y (a) VALUES (1)",
        "DROP TABLE x.y",
        "DROP SCHEMA x",
        "ALTER TABLE x ADD y",
        "EXPLAIN ANALYZE SELECT 1",
        "DUMP SELECT 1",
        "-- a comment\nINSERT INTO x VALUES " + "(1)," * 1_000_000,
    ],
    ids=lambda sql: sql[:20],
)
def test_ddl_is_told_what_this_server_is(execute: Execute, sql: str) -> None:
    with pytest.raises(UserError) as error:
        execute(sql)
    assert "cubequeue keeps Cube's queue and cache only" in error.value.wire_text
    assert "CubeStore" in error.value.wire_text
    assert len(error.value.wire_text) < 400


def test_anything_else_is_unsupported_and_quoted_in_bounds(execute: Execute) -> None:
    with pytest.raises(UserError) as short:
        execute("FOO BAR")
    assert short.value.wire_text == "Unsupported SQL: 'FOO BAR'"
    with pytest.raises(UserError) as long:
        execute("FOO " + "\N{GRINNING FACE}" * 100_000)
    assert len(long.value.wire_text) < 230
    with pytest.raises(UserError, match="Unsupported SQL: ''"):
        execute("")


@pytest.mark.parametrize(
    "text",
    [
        "METASTORE HEALTHCHECK",
        "METASTORE COMPACTION",
        "METASTORE TRUNCATE",
        "DROP CACHE",
        "DROP QUERY CACHE",
        "KILL ALL JOBS",
    ],
)
def test_sys_with_nothing_to_do_succeeds(engine: SqlEngine, text: str) -> None:
    assert engine.execute(SysForeign(text), ANYBODY, None, NOW_MS) == EMPTY_RESULT


@pytest.mark.parametrize("text", ["METASTORE SET_CURRENT 5", "REPARTITION 7", "PANIC WORKER"])
def test_sys_that_cannot_be_done_says_so(engine: SqlEngine, text: str) -> None:
    with pytest.raises(UserError, match=f"SYS {text} is not supported"):
        engine.execute(SysForeign(text), ANYBODY, None, NOW_MS)
