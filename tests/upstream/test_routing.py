"""What goes where: the statements of whole deployments, the table of the drivers' texts, and texts made to mislead."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubequeue_server.engines.sql.engine import SqlEngine
from cubequeue_server.engines.upstream.routing import MAX_READ_BYTES, UpstreamSql, is_for_our_tables
from cubequeue_server.engines.upstream.target import Target
from cubequeue_server.requests.ask import RELAYED, Ask
from cubequeue_server.settings.values import UpstreamAddress
from protocol.commands import parse_statement
from protocol.errors import StatementSyntaxError
from protocol.table_names import named_tables, visible
from storage.asking import ANYBODY, Later
from storage.errors import UserError
from storage.vocabulary import OtherSql, Result, Statement, SysForeign
from tests.recorded.files import deployment_statements
from tests.server.harness import WatchedStore

NOW_MS = 1_700_000_000_000


class _There:
    """The upstream of a routing engine: a CubeStore that need not be there, or is away."""

    target = Target(UpstreamAddress(False, "cubestore", 3030))
    absence: str | None = None


class _Sql(SqlEngine):
    """Evaluates nothing: what would be evaluated is noted."""

    def _begin(self, statement: OtherSql, now_ms: int) -> Later:
        return Ask(None)


def engine(absence: str | None = None) -> UpstreamSql:
    there = _There()
    there.absence = absence
    return UpstreamSql(_Sql(Ask, WatchedStore()), there)  # type: ignore[arg-type]  # what it asks of one


def route(text: str, parameters: tuple[bytes, ...] | None = None) -> str:
    try:
        statement: Statement = parse_statement(text.encode(), parameters)
    except StatementSyntaxError:
        return "here"  # an error of ours
    if not isinstance(statement, OtherSql | SysForeign):
        return "here"
    return "up" if engine().execute(statement, ANYBODY, None, NOW_MS) is RELAYED else "here"


@pytest.mark.parametrize("run", sorted({each.run for each in deployment_statements()}))
def test_every_statement_of_deployments_goes_where_it_should(run: str) -> None:
    of_run = [each for each in deployment_statements() if each.run == run]
    wrong = [(each.route, each.sql[:200]) for each in of_run if route(each.sql) != each.route]
    assert of_run
    assert wrong == []


# The numbers are those of docs/upstream.md.
UP = [
    (
        "SELECT CASE\n    WHEN NOW() < CAST('2026-08-31T23:59:59.999Z' as TIMESTAMP) + interval '7 day'"
        " THEN FLOOR((UNIX_TIMESTAMP()) / 60) END as refresh_key"
    ),  # 2b
    (
        "SELECT CASE\n    WHEN NOW() < DATE_ADD(CAST('2026-08-31T23:59:59.999Z' as TIMESTAMP), INTERVAL 7 day)"
        " THEN FLOOR((UNIX_TIMESTAMP()) / 60) END as refresh_key"
    ),
    "SELECT table_name, build_range_end FROM information_schema.tables WHERE table_schema = 'x'",  # 3
    (
        "SELECT table_name, build_range_end FROM information_schema.tables WHERE table_schema = 'x' AND"
        " (table_name LIKE CONCAT('a', '%') OR table_name LIKE CONCAT('b', '%'))"
    ),  # 4
    (
        "SELECT column_name as `column_name`,\n            table_name as `table_name`\n FROM information_schema.columns"
        " WHERE table_name = 'a' AND table_schema = 'system'"
    ),  # 5
    (
        "\n      SELECT columns.column_name as `column_name` FROM information_schema.columns\n"
        "      WHERE columns.table_schema NOT IN ('information_schema', 'system')"
    ),  # 6
    "SELECT schema_name FROM information_schema.schemata WHERE schema_name = 'x'",  # 7
    "CREATE SCHEMA IF NOT EXISTS x",
    (
        "CREATE TABLE s.t (`a` int) WITH (build_range_end = '2026-01-01') UNIQUE KEY (`a`) INDEX s.i (a)"
        " LOCATION 'temp://s.t-0.csv.gz'"
    ),  # 8
    "CREATE TABLE s.t (`a` int) LOCATION 'stream://ks/t', 's3://bucket/a.csv.gz'",
    "INSERT INTO t\n        (cols)\n        VALUES (1)",  # 9
    "DROP TABLE t",  # 10
    "CREATE SOURCE OR UPDATE `n` as 'ksql' VALUES (user = 'u', password = 'p')",  # 11
    "select count(*) `total_count` from (\nSELECT `a` FROM s.t\n) `t`",  # 13
    "SELECT * FROM s.t UNION ALL SELECT * FROM lambda_t",
    "SELECT max(updated_at) FROM prod.orders",  # 14
    "SELECT FLOOR((UNIX_TIMESTAMP()) / 10) as other_name",
    "SELECT FLOOR((UNIX_TIMESTAMP()) / 0) as refresh_key",
    "SELECT FLOOR((UNIX_TIMESTAMP()) / 10) as refresh_key FROM s.t",
    "SELECT * FROM t LIMIT 1000",  # 15
    (
        "CREATE TABLE s.t (`a` int) WITH (select_statement = 'SELECT * FROM system.queue',"
        " source_table = 'CREATE TABLE x') LOCATION 'stream://a'"
    ),
    "EXPLAIN ANALYZE SELECT * FROM system.queue",
    "DUMP SELECT * FROM system.queue",
    "SYS METASTORE HEALTHCHECK",
    "SYS DROP QUERY CACHE",
    "SYS KILL ALL JOBS",
    "SHOW TABLES",
    "SHOW SCHEMAS",
    "SET NAMES latin1",
    "SELECT * FROM system.tables",
    "SELECT * FROM system.queries",
    "SELECT 2",
    "SELECT 1, 2",
    "SELECT 1 FROM s.t",
    "SELECT @@version",
    "nonsense that nobody can read",
    "",
    "'",
    "DESCRIBE information_schema.tables",
    "WITH a AS (SELECT 1) SELECT * FROM a",
    "INSERT INTO system.queue VALUES (1)",
    "DROP TABLE system.cache",
    "SHOW PROCESSLIST FROM t",
    "SELECT 'SHOW PROCESSLIST'",
    "SELECT * FROM system.historys",
]
HERE = [
    "SELECT 1",  # 1
    "select 1;",
    "SELECT FLOOR((UNIX_TIMESTAMP()) / 10) as refresh_key",  # 2
    "SELECT FLOOR((-18000 + UNIX_TIMESTAMP() - 28800) / 86400) as refresh_key",
    "CACHE SET NX TTL 300 'lock:drop-orphaned-tables-external' '1'",  # 16
    "CACHE KEYS 'STANDALONE#SQL_PRE_AGGREGATIONS_TABLES_USED:'",
    "QUEUE FOO",
    "/* a comment that does not end",
    "CACHE",
    "SYS FOO",
    "SYS CACHESTORE INFO",
    "SYS CACHESTORE FOO",
    "select current_user()",
    "SELECT CONNECTION_ID()",
    "set names utf8",
    "SHOW SESSION VARIABLES LIKE 'sql_mode'",
    "DESCRIBE system.queue",
    "SHOW COLUMNS FROM `system`.`cache`",
    "DESCRIBE system.history",
    "SHOW PROCESSLIST",
    " show  full processlist ; ",
]
OURS = [
    "SELECT * FROM system.queue",
    "select count(*) from SYSTEM.Queue_Results where id > 5",
    'SELECT * FROM "system"."cache"',
    "SELECT * FROM `system` . `cache` AS c",
    "SELECT * FROM system.cache c JOIN system.queue q ON c.id = q.id",
    "SELECT * FROM (SELECT prefix, count(*) n FROM system.queue GROUP BY prefix) x WHERE n > 1",
    "WITH q AS (SELECT * FROM system.queue) SELECT count(*) FROM q",
    "(SELECT id FROM system.queue) UNION ALL (SELECT path FROM system.queue_results)",
    "SELECT 1 UNION SELECT count(*) FROM system /* x */ . -- y\n queue",
    "SELECT EXTRACT(EPOCH FROM q.created) FROM system.queue q",
    "SELECT * FROM system.queue a, system.cache b",
    "SELECT * FROM (system.queue a JOIN system.cache b ON a.id = b.id)",
    "-- a comment\nSELECT * FROM system.cache",
    "SELECT 'it''s \\' FROM prod.t -- ' FROM system.cache",
    "SELECT * FROM system.cache WHERE value = 'FROM prod.orders'",
    "SELECT * FROM system.cache WHERE prefix = 'a' AND id > 'b' ORDER BY id LIMIT 1000",
    "SELECT * FROM system.history h JOIN system.queue_minutes m ON h.prefix = m.prefix",
    "SELECT * FROM `system`.connections c, system.queue q",
]
MISLEADING = [
    "SELECT * FROM prod.t WHERE a = 'x\\' FROM system.cache -- '",
    "SELECT 'system.queue' FROM prod.t",
    "SELECT * FROM prod.t -- FROM system.queue",
    "SELECT * FROM prod.t /* , system.queue */",
    "SELECT system.queue FROM prod.t AS system",
    "SELECT * FROM prod.t AS system WHERE system.cache = 1 ORDER BY system.queue",
    "SELECT a, system.cache FROM prod.t system GROUP BY 1, system.queue",
    "SELECT * FROM system.queue_main20261101_a_b_c",
    "SELECT * FROM system.cache2",
    "SELECT * FROM my_system.queue",
    "SELECT * FROM a.system.queue",
    "SELECT `system__queue` FROM system.system_q2_ob5katst",
    "SELECT * FROM prod.t WHERE `from` = system.queue",
    "SELECT * FROM prod.t JOIN prod.u AS system ON t.id = system.cache",
    "SELECT * FROM `system.queue`",
    "SELECT 1 IS DISTINCT FROM system.queue FROM prod.t AS system",
    "SELECT * FROM prod.t WHERE a = N'system.queue'",
]
BOTH = [
    "SELECT * FROM system.queue, prod.orders",
    "SELECT * FROM system.queue q JOIN information_schema.tables t ON q.id = t.table_name",
    "SELECT * FROM prod.t WHERE id IN (SELECT id FROM system.cache)",
    "SELECT * FROM system.queue UNION ALL SELECT * FROM prod.t",
    "SELECT * FROM system.queue q, system.tables t",
]


@pytest.mark.parametrize("text", [*UP, *MISLEADING])
def test_goes_up(text: str) -> None:
    assert route(text) == "up"


@pytest.mark.parametrize("text", [*HERE, *OURS])
def test_stays_here(text: str) -> None:
    assert route(text) == "here"


@pytest.mark.parametrize("text", OURS)
def test_reads_our_tables(text: str) -> None:
    assert is_for_our_tables(text.encode())


@pytest.mark.parametrize("text", BOTH)
def test_tables_of_both_sides_are_an_error_that_says_so(text: str) -> None:
    with pytest.raises(UserError, match=r"both sides: system\.(queue|cache) is in cubequeue, \w+\.\w+ in CubeStore"):
        is_for_our_tables(text.encode())


def test_a_text_above_the_limit_passes_unread() -> None:
    ours = b"SELECT * FROM system.cache WHERE value = '%b'"
    at_limit = ours % (b"x" * (MAX_READ_BYTES - len(ours) + 2))
    assert len(at_limit) == MAX_READ_BYTES
    assert is_for_our_tables(at_limit)
    assert not is_for_our_tables(at_limit + b" ")


def test_many_tables_are_not_listed() -> None:
    """A visible text of more than 32 KiB that reads one of our tables is ours, whatever else it reads."""
    text = "SELECT * FROM system.cache WHERE id IN (" + ", ".join(map(str, range(10_000))) + ")"
    assert is_for_our_tables(text.encode())


def test_select_1_fails_where_a_cubestore_has_to_be_there() -> None:
    with pytest.raises(UserError, match="it is away"):
        engine("it is away").execute(OtherSql(b"SELECT 1"), ANYBODY, None, NOW_MS)
    key = engine("it is away").execute(
        OtherSql(b"SELECT FLOOR((UNIX_TIMESTAMP()) / 10) as refresh_key"), ANYBODY, None, NOW_MS
    )
    assert isinstance(key, Result)


HOSTILE = [
    b"SELECT system.queue " + b"'" * 200_000,
    b"SELECT system.queue " + b"\\'" * 100_000,
    b"SELECT system.queue '" + b"\\'" * 100_000,
    b"SELECT system.queue " + b"/*" * 100_000,
    b"SELECT system.queue " + b"/*/" * 70_000,
    b"SELECT system.queue " + b"--" * 100_000,
    b"SELECT system.queue " + b"`" * 200_001,
    b"SELECT system.queue " + b'"a' * 100_000,
    b"SELECT " + b"system." * 30_000,
    b"SELECT " + b"system.queue," * 17_000,
    b"SELECT * FROM " + b"(" * 200_000 + b"system.queue",
    b"SELECT * FROM " + b"system.queue, " * 2_000,
    b"(" * 200_000 + b"SELECT * FROM system.queue",
    b" " * 200_000 + b"SELECT * FROM system.queue",
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_no_text_takes_long(text: bytes) -> None:
    began = time.process_time()
    is_for_our_tables(text)
    assert time.process_time() - began < 0.25  # seconds; a quadratic reading takes minutes


@given(
    st.binary(max_size=200)
    | st.text(alphabet="system.queue'\"`-/*\\ ,()FROMJOINSELECT\n", max_size=200).map(str.encode)
)
def test_any_bytes_have_a_route(data: bytes) -> None:
    text = b"SELECT system " + data
    named_tables(visible(text))
    with suppress(UserError):
        is_for_our_tables(text)


@given(st.text(max_size=30))
def test_whatever_a_literal_holds_it_names_no_table(content: str) -> None:
    for quoted in (content.replace("\\", "\\\\").replace("'", "\\'"), content.replace("\\", "\\\\").replace("'", "''")):
        text = f"SELECT * FROM prod.t WHERE a = '{quoted} FROM system.queue -- ' AND b = 1".encode()
        assert not is_for_our_tables(text)
