"""Every rule of the grammar and every error text: commands.md §1, §2, §3 and §8."""

from __future__ import annotations

import pytest

from protocol.commands import parse_statement
from protocol.errors import ParserError, StatementSyntaxError
from protocol.position import PREVIEW_CHARS
from storage.vocabulary import (
    Binary,
    CacheClear,
    CacheGet,
    CacheIncr,
    CacheKeys,
    CacheRemove,
    CacheSet,
    CachestoreAction,
    Cell,
    OtherSql,
    QueueAck,
    QueueActive,
    QueueAdd,
    QueueAddAndRetrieve,
    QueueCancel,
    QueueClear,
    QueueGet,
    QueueHeartbeat,
    QueueList,
    QueueMergeExtra,
    QueueOrphaned,
    QueuePending,
    QueueResult,
    QueueResultBlocking,
    QueueRetrieve,
    QueueStalled,
    QueueToCancel,
    Statement,
    SysCachestore,
    SysForeign,
)
from tests.protocol.statements import values


def parse(sql: str, *parameters: Cell) -> Statement:
    return parse_statement(sql.encode(), parameters or None)


def error(sql: str, *parameters: Cell) -> str:
    with pytest.raises(StatementSyntaxError) as caught:
        parse(sql, *parameters)
    return caught.value.wire_text


STATEMENTS: list[tuple[str, Statement]] = [
    ("QUEUE ADD 'p:k' 'v'", QueueAdd(b"p:k", b"v")),
    ("QUEUE ADD PRIORITY 5 'p:k' 'v'", QueueAdd(b"p:k", b"v", 5)),
    ("QUEUE ADD PRIORITY -5 'p:k' 'v'", QueueAdd(b"p:k", b"v", -5)),
    ("QUEUE ADD PRIORITY - /* */ 5 'p:k' 'v'", QueueAdd(b"p:k", b"v", -5)),
    ("QUEUE ADD PRIORITY 9223372036854775807 k v", QueueAdd(b"k", b"v", (1 << 63) - 1)),
    ("QUEUE ADD PRIORITY -9223372036854775808 k v", QueueAdd(b"k", b"v", -(1 << 63))),
    ("QUEUE ADD PRIORITY 0000000000000000000000000000000007 k v", QueueAdd(b"k", b"v", 7)),
    ("QUEUE ADD PRIORITY -0 k v", QueueAdd(b"k", b"v", 0)),
    ("QUEUE ADD ORPHANED 4294967295 k v", QueueAdd(b"k", b"v", orphaned_s=(1 << 32) - 1)),
    ("QUEUE ADD EXCLUSIVE k v", QueueAdd(b"k", b"v", exclusive=True)),
    ("QUEUE ADD EXTERNAL_ID 'e' k v", QueueAdd(b"k", b"v", external_id=b"e")),
    ("QUEUE ADD EXTERNAL_ID '' 'k' 'v'", QueueAdd(b"k", b"v", external_id=b"")),
    ("QUEUE ADD EXTERNAL_ID 'a''b' 'k' 'v'", QueueAdd(b"k", b"v", external_id=b"a'b")),
    ("QUEUE ADD EXCLUSIVE PRIORITY 1 ORPHANED 2 EXTERNAL_ID 'e' 'k' 'v'", QueueAdd(b"k", b"v", 1, 2, True, b"e")),
    ("QUEUE ADD external_id e orphaned 2 priority 1 exclusive k v", QueueAdd(b"k", b"v", 1, 2, True, b"e")),
    ("QUEUE ADD 'EXCLUSIVE' 'v'", QueueAdd(b"EXCLUSIVE", b"v")),
    ('QUEUE ADD "PRIORITY" v', QueueAdd(b"PRIORITY", b"v")),
    ("QUEUE ADD k EXCLUSIVE", QueueAdd(b"k", b"EXCLUSIVE")),
    ("QUEUE ADD priority_1 v", QueueAdd(b"priority_1", b"v")),
    ('QUEUE ADD "p:k" "pay\\nload"', QueueAdd(b"p:k", b"pay\\nload")),
    ("QUEUE ADD `p``k` `v`", QueueAdd(b"p`k", b"v")),
    ("QUEUE ADD NULL 'v'", QueueAdd(b"NULL", b"v")),
    ("QUEUE ADD 'a'''  'it''s'", QueueAdd(b"a'", b"it's")),
    ("QUEUE ADD 'k''' 'v'", QueueAdd(b"k'", b"v")),
    ("QUEUE ADD select from", QueueAdd(b"select", b"from")),
    ("QUEUE ADD $1 été", QueueAdd(b"$1", "été".encode())),
    ("QUEUE ADD 'k'/**/'v'", QueueAdd(b"k", b"v")),
    ("QUEUE ADD 'k''v'x", QueueAdd(b"k'v", b"x")),
    ("QUEUE ADD 'k' X'00fF'", QueueAdd(b"k", Binary(b"\0\xff"))),
    ("QUEUE ADD 'k' x''", QueueAdd(b"k", Binary(b""))),
    ("QUEUE ADD 'k' 0x4142", QueueAdd(b"k", Binary(b"AB"))),
    ("QUEUE ADD x n", QueueAdd(b"x", b"n")),
    ("QUEUE ADD_AND_RETRIEVE 'p:k' 'v' 3", QueueAddAndRetrieve(b"p:k", b"v", 3)),
    (
        "QUEUE ADD_AND_RETRIEVE EXCLUSIVE PRIORITY 1 ORPHANED 2 EXTERNAL_ID 'e' 'k' 'v' 3",
        QueueAddAndRetrieve(b"k", b"v", 3, 1, 2, True, b"e"),
    ),
    ("QUEUE GET 'p:k'", QueueGet(b"p:k")),
    ("QUEUE GET 18446744073709551615", QueueGet((1 << 64) - 1)),
    ("QUEUE GET '5'", QueueGet(b"5")),
    ("QUEUE GET null", QueueGet(b"null")),
    ("QUEUE GET 5abc", QueueGet(5)),
    ("QUEUE LIST 'p'", QueueList(b"p")),
    ("QUEUE LIST ''", QueueList(b"")),
    ("QUEUE LIST WITH_PAYLOAD 'p'", QueueList(b"p", True)),
    ("QUEUE LIST 'WITH_PAYLOAD'", QueueList(b"WITH_PAYLOAD")),
    ("QUEUE LIST with_payloads", QueueList(b"with_payloads")),
    ("QUEUE PENDING p", QueuePending(b"p")),
    ("QUEUE PENDING with_payload p", QueuePending(b"p", True)),
    ("QUEUE ACTIVE p", QueueActive(b"p")),
    ("QUEUE ACTIVE WITH_PAYLOAD p", QueueActive(b"p", True)),
    ("QUEUE CANCEL 'p:k'", QueueCancel(b"p:k")),
    ("QUEUE CANCEL 7", QueueCancel(7)),
    ("QUEUE HEARTBEAT 'p:k'", QueueHeartbeat(b"p:k")),
    ("QUEUE HEARTBEAT 7", QueueHeartbeat(7)),
    ("QUEUE ACK 'p:k' 'r'", QueueAck(b"p:k", b"r")),
    ("QUEUE ACK 7 'r'", QueueAck(7, b"r")),
    ("QUEUE ACK 7 NULL", QueueAck(7, None)),
    ("QUEUE ACK 7 null;", QueueAck(7, None)),
    ("QUEUE ACK 7 'NULL'", QueueAck(7, b"NULL")),
    ('QUEUE ACK 7 "NULL"', QueueAck(7, b"NULL")),
    ("QUEUE ACK 7 nullable", QueueAck(7, b"nullable")),
    ("QUEUE MERGE_EXTRA 'p:k' '{}'", QueueMergeExtra(b"p:k", b"{}")),
    ("QUEUE MERGE_EXTRA 7 '{}'", QueueMergeExtra(7, b"{}")),
    ("QUEUE STALLED 100 'p'", QueueStalled(b"p", 100)),
    ("QUEUE ORPHANED 100 'p'", QueueOrphaned(b"p", 100)),
    ("QUEUE TO_CANCEL 100 200 'p'", QueueToCancel(b"p", 100, 200)),
    ("QUEUE RETRIEVE 'p:k'", QueueRetrieve(b"p:k")),
    ("QUEUE RETRIEVE CONCURRENCY 2 'p:k'", QueueRetrieve(b"p:k", 2)),
    ("QUEUE RETRIEVE EXTENDED 'p:k'", QueueRetrieve(b"p:k", 1, True)),
    ("QUEUE RETRIEVE EXTENDED CONCURRENCY 2 'p:k'", QueueRetrieve(b"p:k", 2, True)),
    ("QUEUE RETRIEVE CONCURRENCY 2 EXTENDED 'p:k'", QueueRetrieve(b"EXTENDED", 2)),
    ("QUEUE RESULT 'p:k'", QueueResult(b"p:k")),
    ("QUEUE RESULT 7", QueueResult(7)),
    ("QUEUE RESULT EXTERNAL_ID 'e' 'p:k'", QueueResult(b"p:k", b"e")),
    ("QUEUE RESULT EXTERNAL_ID e 7", QueueResult(7, b"e")),
    ("QUEUE RESULT_BLOCKING 18446744073709551615 'p:k'", QueueResultBlocking(b"p:k", (1 << 64) - 1)),
    ("QUEUE RESULT_BLOCKING 100 7", QueueResultBlocking(7, 100)),
    ("QUEUE CLEAR", QueueClear()),
    ("QUEUE TRUNCATE", QueueClear()),
    ("CACHE SET 'k' 'v'", CacheSet(b"k", b"v")),
    ("CACHE SET NX 'k' 'v'", CacheSet(b"k", b"v", nx=True)),
    ("CACHE SET TTL 5 'k' 'v'", CacheSet(b"k", b"v", 5)),
    ("CACHE SET NX TTL 5 'k' 'v'", CacheSet(b"k", b"v", 5, True)),
    ("CACHE SET TTL 5 NX 'v'", CacheSet(b"NX", b"v", 5)),
    ("CACHE SET 'nx' 'ttl'", CacheSet(b"nx", b"ttl")),
    ("CACHE GET 'k'", CacheGet(b"k")),
    ("CACHE GET k", CacheGet(b"k")),
    ("CACHE KEYS 'a:'", CacheKeys(b"a:")),
    ("CACHE INCR 'k'", CacheIncr(b"k")),
    ("CACHE REMOVE 'k'", CacheRemove(b"k")),
    ("CACHE CLEAR", CacheClear()),
    ("CACHE TRUNCATE", CacheClear()),
    *((f"SYS CACHESTORE {action.name}", SysCachestore(action)) for action in CachestoreAction),
    ("SYS METASTORE SET_CURRENT 1671235558783", SysForeign("METASTORE SET_CURRENT 1671235558783")),
    (f"SYS METASTORE SET_CURRENT {(1 << 128) - 1}", SysForeign(f"METASTORE SET_CURRENT {(1 << 128) - 1}")),
    ("sys metastore compaction", SysForeign("METASTORE COMPACTION")),
    ("SYS METASTORE HEALTHCHECK", SysForeign("METASTORE HEALTHCHECK")),
    ("SYS METASTORE TRUNCATE", SysForeign("METASTORE TRUNCATE")),
    ("SYS DROP QUERY CACHE", SysForeign("DROP QUERY CACHE")),
    ("SYS DROP cache", SysForeign("DROP CACHE")),
    ("SYS KILL ALL JOBS", SysForeign("KILL ALL JOBS")),
    ("SYS REPARTITION 007", SysForeign("REPARTITION 7")),
    ("SYS PANIC WORKER", SysForeign("PANIC WORKER")),
]


@pytest.mark.parametrize(("sql", "statement"), STATEMENTS)
def test_statement(sql: str, statement: Statement) -> None:
    assert parse(sql) == statement
    assert parse_statement(memoryview(sql.encode()), ()) == statement


@pytest.mark.parametrize(("sql", "statement"), STATEMENTS)
def test_white_space_comments_and_tails_change_nothing(sql: str, statement: Statement) -> None:
    head, command, *rest = sql.split(" ", 2)
    spread = f"\n/* it's */{head}\t--`\n\x0b{command} \r\n{' '.join(rest)}"
    assert parse(spread) == statement
    for tail in (";", " ;", " 'junk';", " -- it's", ' /* " */', "\n\n", "; SELECT 1", " ? ( ) 😀 \\", ' "a" `b`'):
        assert parse(sql + tail) == statement


@pytest.mark.parametrize(("sql", "statement"), [entry for entry in STATEMENTS if "'" not in entry[0]])
def test_words_in_any_case(sql: str, statement: Statement) -> None:
    assert type(parse(sql.lower())) is type(statement)
    assert type(parse(sql.title())) is type(statement)


NATIVE: list[tuple[str, tuple[Cell, ...], Statement]] = [
    ("QUEUE ADD ? ?", (b"k", b"v"), QueueAdd(b"k", b"v")),
    ("QUEUE ADD ?1 ?99", (b"k", b"v"), QueueAdd(b"k", b"v")),
    ("QUEUE ADD ? ?", (b"k", Binary(b"v")), QueueAdd(b"k", Binary(b"v"))),
    (
        "QUEUE ADD EXCLUSIVE PRIORITY ? ORPHANED ? EXTERNAL_ID ? ? ?",
        (-5, 6, b"e", b"k", b"v"),
        QueueAdd(b"k", b"v", -5, 6, True, b"e"),
    ),
    ("QUEUE ADD_AND_RETRIEVE PRIORITY ? ? ? ?", (1, b"k", b"v", 3), QueueAddAndRetrieve(b"k", b"v", 3, 1)),
    ("QUEUE GET ?", (b"5",), QueueGet(b"5")),
    ("QUEUE GET ?", (5,), QueueGet(5)),
    ("QUEUE GET ?", (0,), QueueGet(0)),
    ("QUEUE HEARTBEAT?", (5,), QueueHeartbeat(5)),
    ("QUEUE CANCEL ?;", (b"k",), QueueCancel(b"k")),
    ("QUEUE ACK ? ?", (5, b"r"), QueueAck(5, b"r")),
    ("QUEUE ACK 5 ?", (b"r",), QueueAck(5, b"r")),
    ("QUEUE ACK ? ?", (5, None), QueueAck(5, None)),
    ("QUEUE ACK ? NULL", (5, b"surplus"), QueueAck(5, None)),
    ("QUEUE ACK ? ?", (5, Binary(b"r")), QueueAck(5, Binary(b"r"))),
    ("QUEUE MERGE_EXTRA ? ?", (b"k", b"{}"), QueueMergeExtra(b"k", b"{}")),
    ("QUEUE LIST ?", (b"p",), QueueList(b"p")),
    ("QUEUE PENDING WITH_PAYLOAD ?", (b"p",), QueuePending(b"p", True)),
    ("QUEUE ACTIVE ?", (b"p",), QueueActive(b"p")),
    ("QUEUE STALLED ? ?", (1, b"p"), QueueStalled(b"p", 1)),
    ("QUEUE ORPHANED ? ?", (1, b"p"), QueueOrphaned(b"p", 1)),
    ("QUEUE TO_CANCEL ? ? ?", (1, 2, b"p"), QueueToCancel(b"p", 1, 2)),
    ("QUEUE RETRIEVE EXTENDED CONCURRENCY ? ?", (2, b"k"), QueueRetrieve(b"k", 2, True)),
    ("QUEUE RETRIEVE CONCURRENCY 2 ?", (b"k",), QueueRetrieve(b"k", 2)),
    ("QUEUE RESULT EXTERNAL_ID ? ?", (b"e", 5), QueueResult(5, b"e")),
    ("QUEUE RESULT_BLOCKING ? ?", (100, 5), QueueResultBlocking(5, 100)),
    ("CACHE SET NX TTL ? ? ?", (5, b"k", b"v"), CacheSet(b"k", b"v", 5, True)),
    ("CACHE SET TTL 5 'k' ?", (b"v",), CacheSet(b"k", b"v", 5)),
    ("CACHE SET TTL ? 'k' ?", (5, Binary(b"v")), CacheSet(b"k", Binary(b"v"), 5)),
    ("CACHE GET ?", (b"k", b"surplus", None), CacheGet(b"k")),
    ("CACHE KEYS ?", (b"k",), CacheKeys(b"k")),
    ("CACHE INCR ?", (b"k",), CacheIncr(b"k")),
    ("CACHE REMOVE ?", (b"k",), CacheRemove(b"k")),
    ("SYS REPARTITION ?", (5,), SysForeign("REPARTITION 5")),
    ("QUEUE CLEAR", (5,), QueueClear()),
]


@pytest.mark.parametrize(("sql", "parameters", "statement"), NATIVE)
def test_native_parameters(sql: str, parameters: tuple[Cell, ...], statement: Statement) -> None:
    parsed = parse(sql, *parameters)
    assert parsed == statement
    kinds = [type(value) for value in values(parsed)]
    assert kinds == [type(value) for value in values(statement)]


@pytest.mark.parametrize(
    "sql",
    [
        "",
        " ",
        ";",
        "SELECT 1",
        "select 'it\\'s' from system.queue -- x",
        "SET x = 1",
        "CREATE TABLE queue (a int)",
        "'QUEUE' CLEAR",
        '"QUEUE" CLEAR',
        "QUEUES CLEAR",
        "1 QUEUE",
        "? CLEAR",
        "SELECT 'not closed",
        "x'00' CLEAR",
    ],
)
def test_other_sql_is_passed_on(sql: str) -> None:
    assert parse(sql) == OtherSql(sql.encode())
    assert parse_statement(memoryview(sql.encode()), (1, None)) == OtherSql(sql.encode(), (1, None))


def _internal(kind: str, text: str) -> str:
    return f'Internal: {kind}("{text}")'


CACHE_COMMANDS = "SET|GET|KEYS|INCR|REMOVE|CLEAR"
TOO_LARGE = "number too large to fit in target type"
TOO_SMALL = "number too small to fit in target type"
INVALID = "invalid digit found in string"

PARSER_ERRORS: list[tuple[str, tuple[Cell, ...], str]] = [
    ("QUEUE FOO", (), "Unknown queue command: foo"),
    ("CACHE FOO", (), f"Unknown cache command: foo, available: {CACHE_COMMANDS}"),
    ("CACHE GETX 'a'", (), f"Unknown cache command: getx, available: {CACHE_COMMANDS}"),
    ("CACHE GETX", (), f"Unknown cache command: getx, available: {CACHE_COMMANDS}"),
    ("QUEUE CLEARS", (), "Unknown queue command: clears"),
    ("SYS", (), "Unknown system command"),
    ("SYS FOO", (), "Unknown system command"),
    ("SYS 1", (), "Unknown system command"),
    ("SYS KILL ALL", (), "Unknown system command"),
    ("SYS PANIC", (), "Unknown system command"),
    ("SYS CACHESTORE FOO", (), "Unknown cachestore command"),
    ("SYS CACHESTORE", (), "Unknown cachestore command"),
    ("SYS METASTORE FOO", (), "Unknown metastore command"),
    ("SYS METASTORE 'TRUNCATE'", (), "Unknown metastore command"),
    ("SYS DROP FOO", (), "Unknown drop command"),
    ("SYS DROP QUERY", (), "Unknown drop command"),
    ("QUEUE 1", (), "Invalid token: 1, expected Word (command)"),
    ("CACHE 'SET'", (), "Invalid token: 'SET', expected Word (command)"),
    ("QUEUE", (), "Invalid token: EOF, expected Word (command)"),
    ("QUEUE ?", (b"ADD",), "Invalid token: ?, expected Word (command)"),
    ("QUEUE ADD PRIORITY 1.5 k v", (), f"priority must be a valid integer, error: {INVALID}"),
    ("QUEUE ADD PRIORITY 1e5 k v", (), f"priority must be a valid integer, error: {INVALID}"),
    ("QUEUE ADD PRIORITY .5 k v", (), f"priority must be a valid integer, error: {INVALID}"),
    ("QUEUE ADD PRIORITY -1.5 k v", (), f"priority must be a valid integer, error: {INVALID}"),
    ("QUEUE ADD PRIORITY 5L k v", (), 'priority must be a valid integer, actual: Number(\\"5\\", true)'),
    ("QUEUE ADD PRIORITY 9223372036854775808 k v", (), f"priority must be a valid integer, error: {TOO_LARGE}"),
    ("QUEUE ADD PRIORITY 92233720368547758080.5 k v", (), f"priority must be a valid integer, error: {TOO_LARGE}"),
    ("QUEUE ADD PRIORITY -9223372036854775809 k v", (), f"priority must be a valid integer, error: {TOO_SMALL}"),
    (f"QUEUE ADD PRIORITY {'9' * 5000} k v", (), f"priority must be a valid integer, error: {TOO_LARGE}"),
    ("QUEUE ADD PRIORITY 'x' k v", (), "Expected: literal number, found: 'x' at Line: 1, Column: 20"),
    ("QUEUE ADD PRIORITY NULL k v", (), "Expected: literal number, found: NULL at Line: 1, Column: 20"),
    ("QUEUE ADD PRIORITY 0x10 k v", (), "Expected: literal number, found: X'10' at Line: 1, Column: 20"),
    ("QUEUE ADD PRIORITY - ? k v", (1,), "Expected: literal number, found: ? at Line: 1, Column: 22"),
    ("QUEUE ADD PRIORITY x k v", (), "Expected: a concrete value, found: x at Line: 1, Column: 20"),
    ("QUEUE ADD PRIORITY ; k v", (), "Expected: a value, found: ; at Line: 1, Column: 20"),
    ("QUEUE ADD PRIORITY --5 k v", (), "Expected: a value, found: EOF"),
    ("QUEUE ADD PRIORITY", (), "Expected: a value, found: EOF"),
    ("QUEUE ADD ORPHANED -1 k v", (), "orphaned must be a positive integer, actual: -1"),
    ("QUEUE ADD ORPHANED -  1.5 k v", (), "orphaned must be a positive integer, actual: -1.5"),
    ("QUEUE ADD ORPHANED 4294967296 k v", (), f"orphaned must be a valid integer, error: {TOO_LARGE}"),
    ("QUEUE ADD ORPHANED 4294967296 'k' 'v'", (), f"orphaned must be a valid integer, error: {TOO_LARGE}"),
    ("QUEUE RETRIEVE CONCURRENCY 4294967296 'k'", (), f"concurrency must be a valid integer, error: {TOO_LARGE}"),
    ("CACHE SET TTL 4294967296 'k' 'v'", (), f"ttl must be a valid integer, error: {TOO_LARGE}"),
    ("QUEUE ADD PRIORITY 9223372036854775808 'k' 'v'", (), f"priority must be a valid integer, error: {TOO_LARGE}"),
    ("QUEUE ADD ORPHANED ? k v", (-1,), f"orphaned must be a valid integer, error: {INVALID}"),
    ("QUEUE ADD ORPHANED ? k v", (1 << 32,), f"orphaned must be a valid integer, error: {TOO_LARGE}"),
    ("CACHE SET TTL 99999999999 k v", (), f"ttl must be a valid integer, error: {TOO_LARGE}"),
    ("QUEUE RETRIEVE CONCURRENCY -1 k", (), "concurrency must be a positive integer, actual: -1"),
    ("QUEUE ADD_AND_RETRIEVE k v -1", (), "concurrency must be a positive integer, actual: -1"),
    ("QUEUE RESULT_BLOCKING -1 k", (), "timeout must be a positive integer, actual: -1"),
    ("QUEUE STALLED -1 k", (), "heartbeat timeout must be a positive integer, actual: -1"),
    ("QUEUE ORPHANED -1 k", (), "orphaned timeout must be a positive integer, actual: -1"),
    ("QUEUE TO_CANCEL -1 2 k", (), "heartbeat timeout must be a positive integer, actual: -1"),
    ("QUEUE TO_CANCEL 1 -2 k", (), "orphaned timeout must be a positive integer, actual: -2"),
    ("QUEUE GET -5", (), "id must be a positive integer, actual: -5"),
    ("QUEUE GET 5.5", (), f"id must be a valid integer, error: {INVALID}"),
    ("QUEUE GET 18446744073709551616", (), f"id must be a valid integer, error: {TOO_LARGE}"),
    ("SYS METASTORE SET_CURRENT -1", (), "metastore snapshot id must be a positive integer, actual: -1"),
    (
        f"SYS METASTORE SET_CURRENT {1 << 128}",
        (),
        f"metastore snapshot id must be a valid integer, error: {TOO_LARGE}",
    ),
    ("SYS REPARTITION -1", (), "partition id must be a positive integer, actual: -1"),
    ("CACHE SET k", (), "Expected: literal string, found: EOF"),
    ("QUEUE ADD k", (), "Expected: literal string, found: EOF"),
    ("CACHE SET k NULL", (), "Expected: literal string, found: NULL at Line: 1, Column: 13"),
    ("CACHE SET k 5", (), "Expected: literal string, found: 5 at Line: 1, Column: 13"),
    ("CACHE SET k 05", (), "Expected: literal string, found: 05 at Line: 1, Column: 13"),
    ("CACHE SET k X'4'", (), "Expected: literal string, found: X'4' at Line: 1, Column: 13"),
    ("CACHE SET k x'4 1 '", (), "Expected: literal string, found: X'4 1 ' at Line: 1, Column: 13"),
    ("CACHE SET k 0x123", (), "Expected: literal string, found: X'123' at Line: 1, Column: 13"),
    ("CACHE SET k N'a'", (), "Expected: literal string, found: N'a' at Line: 1, Column: 13"),
    ("QUEUE MERGE_EXTRA 5 X'41'", (), "Expected: literal string, found: X'41' at Line: 1, Column: 21"),
    ("CACHE GET", (), "Expected: identifier, found: EOF"),
    ("CACHE GET -- x", (), "Expected: identifier, found: EOF"),
    ("QUEUE HEARTBEAT", (), "Expected: identifier, found: EOF"),
    ("QUEUE HEARTBEAT ;", (), "Expected: identifier, found: ; at Line: 1, Column: 17"),
    ("CACHE GET 5", (), "Expected: identifier, found: 5 at Line: 1, Column: 11"),
    ("CACHE GET X'41'", (), "Expected: identifier, found: X'41' at Line: 1, Column: 11"),
    ("CACHE GET\n/* é\n */ 😀", (), "Expected: identifier, found: 😀 at Line: 3, Column: 5"),
    ("CACHE SET 'é😀' (", (), "Expected: literal string, found: ( at Line: 1, Column: 16"),
    ("CACHE GET ?", (), "Empty parameters, please send parameters within query"),
    ("CACHE SET ? ?", (b"k",), "Placeholder index is out of bound, actual: 1, parameters length: 1"),
    ("CACHE GET ?", (1,), "Wrong parameters type, actual: int64, expected: string parameter"),
    ("CACHE GET ?", (None,), "Wrong parameters type, actual: null, expected: string parameter"),
    ("CACHE GET ?", (True,), "Wrong parameters type, actual: bool, expected: string parameter"),
    ("CACHE GET ?", (1.5,), "Wrong parameters type, actual: float64, expected: string parameter"),
    ("CACHE GET ?", (Binary(b"k"),), "Wrong parameters type, actual: binary, expected: string parameter"),
    ("CACHE SET TTL ? k v", (b"5",), "Wrong parameters type, actual: string, expected: int64 parameter"),
    ("CACHE SET TTL ? k v", (5.0,), "Wrong parameters type, actual: float64, expected: int64 parameter"),
    ("CACHE SET TTL ? k v", (True,), "Wrong parameters type, actual: bool, expected: int64 parameter"),
    ("QUEUE GET ?", (None,), "Wrong parameters type, actual: null, expected: string or integer parameter"),
    ("QUEUE GET ?", (True,), "Wrong parameters type, actual: bool, expected: string or integer parameter"),
    ("QUEUE GET ?", (Binary(b"k"),), "Wrong parameters type, actual: binary, expected: string or integer parameter"),
    ("CACHE SET k ?", (5,), "Wrong parameters type, actual: int64, expected: string or binary parameter"),
    ("CACHE SET k ?", (None,), "Wrong parameters type, actual: null, expected: string or binary parameter"),
    ("QUEUE ACK k ?", (5,), "Wrong parameters type, actual: int64, expected: string or binary parameter"),
    ("QUEUE MERGE_EXTRA k ?", (Binary(b""),), "Wrong parameters type, actual: binary, expected: string parameter"),
    (
        "QUEUE GET ?",
        (-1,),
        "value must be a valid unsigned integer, error: out of range integral type conversion attempted",
    ),
    ("QUEUE ADD PRIORITY 1 PRIORITY 2 k v", (), "Duplicate option: PRIORITY"),
    ("QUEUE ADD priority 0 priority 0 k v", (), "Duplicate option: PRIORITY"),
    ("QUEUE ADD ORPHANED 1 ORPHANED 1 k v", (), "Duplicate option: ORPHANED"),
    ("QUEUE ADD EXCLUSIVE exclusive k v", (), "Duplicate option: EXCLUSIVE"),
    ("QUEUE ADD EXTERNAL_ID a EXTERNAL_ID '' k v", (), "Duplicate option: EXTERNAL_ID"),
    (
        f"QUEUE ADD EXTERNAL_ID '{'e' * 49}' 'k' 'v'",
        (),
        "external_id exceeds maximum allowed length of 48 characters",
    ),
    (f"QUEUE ADD EXTERNAL_ID '{'é' * 25}' k v", (), "external_id exceeds maximum allowed length of 48 characters"),
    ("QUEUE ADD EXTERNAL_ID ? k v", (b"e" * 49,), "external_id exceeds maximum allowed length of 48 characters"),
    ("QUEUE RESULT EXTERNAL_ID ? k", (b"e" * 49,), "external_id exceeds maximum allowed length of 48 characters"),
]


@pytest.mark.parametrize(("sql", "parameters", "text"), PARSER_ERRORS)
def test_parser_error(sql: str, parameters: tuple[Cell, ...], text: str) -> None:
    assert error(sql, *parameters) == _internal("ParserError", text)


def test_external_id_of_48_bytes() -> None:
    assert parse(f"QUEUE ADD EXTERNAL_ID '{'e' * 48}' 'k' 'v'") == QueueAdd(b"k", b"v", external_id=b"e" * 48)
    assert parse("QUEUE RESULT EXTERNAL_ID ? 5", b"e" * 48) == QueueResult(5, b"e" * 48)


def test_no_parameters_sent_is_not_the_same_as_none_of_them() -> None:
    with pytest.raises(ParserError) as caught:
        parse_statement(b"CACHE GET ?", ())
    assert caught.value.text == "Placeholder index is out of bound, actual: 0, parameters length: 0"


@pytest.mark.parametrize(
    ("sql", "text"),
    [
        ("QUEUE ADD 'k' 'abc", "Unterminated string literal at Line: 1, Column: 15"),
        ("QUEUE ADD 'k' 'abc\\'", "Unterminated string literal at Line: 1, Column: 15"),
        ("CACHE GET 'k' 'x", "Unterminated string literal at Line: 1, Column: 15"),
        ("CACHE GET 'k' N'x", "Unterminated string literal at Line: 1, Column: 16"),
        ("CACHE GET\n 'é😀' '", "Unterminated string literal at Line: 2, Column: 7"),
        ('CACHE GET "k', "Expected close delimiter '\\\"' before EOF. at Line: 1, Column: 11"),
        ("CACHE GET `k", "Expected close delimiter '`' before EOF. at Line: 1, Column: 11"),
        ("CACHE GET 'k' \"x", "Expected close delimiter '\\\"' before EOF. at Line: 1, Column: 15"),
        ("CACHE GET 'k' /*", "Unexpected EOF while in a multi-line comment at Line: 1, Column: 17"),
        ("CACHE /* GET\n 'k'", "Unexpected EOF while in a multi-line comment at Line: 2, Column: 5"),
        ("/* SELECT 1", "Unexpected EOF while in a multi-line comment at Line: 1, Column: 12"),
        ("QUEUE CLEAR /*", "Unexpected EOF while in a multi-line comment at Line: 1, Column: 15"),
        # The text is cut into tokens before it is parsed: this error goes first.
        ("QUEUE FOO 'x", "Unterminated string literal at Line: 1, Column: 11"),
        ("QUEUE 'FOO", "Unterminated string literal at Line: 1, Column: 7"),
        ("CACHE GET ? 'x", "Unterminated string literal at Line: 1, Column: 13"),
        ("CACHE GET 5 'x", "Unterminated string literal at Line: 1, Column: 13"),
        ("QUEUE ADD PRIORITY - x /*", "Unexpected EOF while in a multi-line comment at Line: 1, Column: 26"),
    ],
)
def test_tokenizer_error(sql: str, text: str) -> None:
    assert error(sql) == _internal("TokenizerError", text)


def test_errors_do_not_grow_with_the_statement() -> None:
    long = "x" * 1_000_000
    cut = "x" * PREVIEW_CHARS + "…"
    assert error(f"QUEUE {long}") == _internal("ParserError", f"Unknown queue command: {cut}")
    assert error(f"QUEUE '{long}'") == _internal("ParserError", f"Invalid token: '{cut}', expected Word (command)")
    ones = "1" * 1_000_000
    assert len(error(f"CACHE GET {ones}")) < PREVIEW_CHARS + 100
    assert len(error(f"QUEUE GET -{ones}")) < PREVIEW_CHARS + 100
    assert len(error(f"QUEUE GET {ones}L")) < PREVIEW_CHARS + 100
    assert len(error(f"CACHE SET k N'{long}'")) < PREVIEW_CHARS + 100


def test_debug_string_of_control_characters() -> None:
    assert error("QUEUE '\\n\\0\\\\\\t\\r\x1b\"é'") == _internal(
        "ParserError", "Invalid token: '\\n\\0\\\\\\t\\r\\u{1b}\\\"é', expected Word (command)"
    )
