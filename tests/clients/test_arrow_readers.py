"""Arrow replies mean the same to both readers that the Arrow project publishes for our clients' languages, and the
same as the legacy replies: pyarrow, and npm's apache-arrow in the version that the newest client's tests have.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import subprocess
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from protocol.arrow import encode_arrow
from protocol.client_codec import ArrowReply, ErrorReply, Rows, decode_reply
from protocol.commands import parse_statement
from protocol.encode import encode_result
from protocol.messages import ResponseFormat
from storage import vocabulary
from storage.asking import ANYBODY
from storage.vocabulary import (
    Binary,
    CacheStatement,
    Cell,
    Columns,
    ColumnType,
    OtherSql,
    QueueStatement,
    Result,
    Statement,
    SysCachestore,
)
from tests.arrow_types import arrow_types
from tests.clients.processes import JS, package_folder
from tests.docs.transcript import Conversation
from tests.protocol.test_arrow import check_reply, pa
from tests.protocol.test_encode import COMMAND_COLUMNS, MIB, sample
from tests.sql.running import at_once

pytestmark = pytest.mark.node

NOW_MS = 1_700_000_001_234
JS_TYPES = {
    ColumnType.STRING: "Utf8",
    ColumnType.BOOLEAN: "Bool",
    ColumnType.INT: "Int64",
    ColumnType.BYTES: "Binary",
    ColumnType.FLOAT: "Float64",
    ColumnType.TIMESTAMP: "Timestamp<MICROSECOND>",
}

# Each command, with what it answers once there is something to answer.
STATEMENTS = [
    "QUEUE ADD PRIORITY 1 'p:a' 'payload a'",
    "QUEUE ADD 'p:a' 'again'",
    "QUEUE ADD EXTERNAL_ID 'e' 'p:b' 'payload b'",
    "QUEUE ADD_AND_RETRIEVE 'q:a' 'claimed ä😀' 1",
    "QUEUE ADD_AND_RETRIEVE 'q:b' 'not claimed' 1",
    "QUEUE GET 'p:a'",
    "QUEUE GET 'p:none'",
    "QUEUE LIST 'p'",
    "QUEUE LIST WITH_PAYLOAD 'p'",
    "QUEUE PENDING 'p'",
    "QUEUE ACTIVE 'p'",
    "QUEUE ACTIVE WITH_PAYLOAD 'q'",
    "QUEUE STALLED 0 'p'",
    "QUEUE ORPHANED 0 'p'",
    "QUEUE TO_CANCEL 0 0 'p'",
    "QUEUE RETRIEVE CONCURRENCY 5 'p:a'",
    "QUEUE RETRIEVE EXTENDED CONCURRENCY 1 'p:b'",
    "QUEUE RETRIEVE 'p:b'",
    "QUEUE MERGE_EXTRA 'p:a' '{\"startQueryTime\":1}'",
    "QUEUE HEARTBEAT 'p:a'",
    "QUEUE LIST WITH_PAYLOAD 'p'",
    "QUEUE ACK 'p:a' 'result a'",
    "QUEUE ACK 'p:b' 'result b'",
    "QUEUE ACK 'p:none' 'nothing'",
    "QUEUE RESULT EXTERNAL_ID 'e' 'p:b'",
    "QUEUE RESULT_BLOCKING 1 'p:a'",
    "QUEUE RESULT 'p:b'",
    "QUEUE RESULT 'p:none'",
    "QUEUE CANCEL 'q:a'",
    "QUEUE CANCEL 'q:none'",
    "QUEUE ADD 'x:binary' X'00FF'",
    "QUEUE LIST WITH_PAYLOAD 'x'",
    "QUEUE ADD 'y:text' 'text'",
    "QUEUE LIST WITH_PAYLOAD 'y'",
    "QUEUE CLEAR",
    "CACHE SET TTL 60 'c:a' 'value'",
    "CACHE SET NX 'c:a' 'other'",
    "CACHE GET 'c:a'",
    "CACHE GET 'c:none'",
    "CACHE SET 'c:b' X''",
    "CACHE GET 'c:b'",
    "CACHE KEYS 'c:'",
    "CACHE INCR 'c:n'",
    "CACHE REMOVE 'c:a'",
    "CACHE CLEAR",
    "SYS CACHESTORE INFO",
    "SYS CACHESTORE EVICTION",
    "SYS CACHESTORE COMPACTION",
]
SELECTS = [
    "SELECT 1",
    "SELECT FLOOR((UNIX_TIMESTAMP()) / 10) AS refresh_key",
    "SELECT 1.5 AS f, 'ä😀' AS s, NULL AS n, TRUE AS b, -9223372036854775807 AS i",
    "SELECT NOW() AS t, DATE_ADD(NOW(), INTERVAL 1 DAY) AS u",
    "SELECT schema_name FROM information_schema.schemata WHERE schema_name = 'x'",
    "SELECT table_name, build_range_end FROM information_schema.tables WHERE table_schema = 'x'",
    "SELECT 1 AS a UNION ALL SELECT NULL UNION ALL SELECT 3",
]


@pytest.fixture(scope="module")
def read_by_apache_arrow(tmp_path_factory: pytest.TempPathFactory) -> Callable[[dict[str, bytes]], dict[str, Any]]:
    packages = package_folder("clients", "1.7.43")

    def read(streams: dict[str, bytes]) -> dict[str, Any]:
        folder = tmp_path_factory.mktemp("streams")
        for name, stream in streams.items():
            (folder / name).write_bytes(stream)
        done = subprocess.run(
            ["node", "read-arrow.js", str(folder)],
            cwd=JS,
            env={**os.environ, "CLIENT_FOLDER": str(packages)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    return read


def stream_of(result: Result) -> bytes:
    """The Arrow stream of a result, after pyarrow read from it what the result says."""
    check_reply(1, result)
    reply = decode_reply(encode_arrow(1, result))
    assert isinstance(reply, ArrowReply)
    assert reply.stream is not None
    return reply.stream


def meaning_of(type_: ColumnType, cell: Cell) -> bytes:
    """A cell as read-arrow.js digests it."""
    if cell is None:
        return b"null;"
    if type_ is ColumnType.BYTES:
        assert isinstance(cell, bytes)
        text = cell.hex().encode()
    elif isinstance(cell, bytes):
        text = cell
    elif isinstance(cell, bool):
        text = b"true" if cell else b"false"
    elif isinstance(cell, float):
        text = struct.pack(">d", cell).hex().encode()
    else:
        text = b"%d" % cell
    return b"%d:%b;" % (len(text), text)


def read_as(result: Result) -> dict[str, Any]:
    """What read-arrow.js is to print of the stream of a result."""
    types = arrow_types(result)
    columns = []
    for index, type_ in enumerate(types):
        cells = [row[index] for row in result.rows]
        digest = hashlib.sha256()
        for cell in cells:
            digest.update(meaning_of(type_, cell))
        columns.append({"nulls": cells.count(None), "digest": digest.hexdigest()})
    fields = [[name, JS_TYPES[type_], True] for name, type_ in zip(result.columns.names, types, strict=True)]
    return {"fields": fields, "rows": len(result.rows), "columns": columns}


def cases() -> dict[str, Result]:
    """Every set of columns of a command in every filling, and values of every type at their ends."""
    found = {}
    for number, columns in enumerate(each for each in COMMAND_COLUMNS if len(each)):
        full = tuple(sample(type_) for type_ in columns.types)
        nulls = (None,) * len(columns)
        fillings: dict[str, list[tuple[Cell, ...]]] = {
            "empty": [],
            "one": [full],
            "null": [nulls],
            "some": [full, nulls, full],
            "many": [full, nulls] * 5_000,
        }
        for filling, rows in fillings.items():
            found[f"{number:02}-{filling}"] = Result(columns, rows)
    ends = Columns(("i", ColumnType.INT), ("f", ColumnType.FLOAT), ("t", ColumnType.TIMESTAMP), ("b", ColumnType.BYTES))
    found["ends"] = Result(
        ends,
        [
            (2**63 - 1, 1e308, 253_402_300_799_999, Binary(bytes(range(256)))),
            (-(2**63), -0.0, 0, Binary(b"")),
            (0, float("inf"), 1_700_000_000_123, b"text"),
            (None, None, None, None),
        ],
    )
    found["binary"] = Result(vocabulary.PAYLOAD_COLUMNS, [(b"text", b"a"), (Binary(b"\xff\x00"), None), (None, b"c")])
    found["large-text"] = Result(vocabulary.VALUE_COLUMNS, [("ä".encode() * (30 * MIB),)])
    found["large-binary"] = Result(vocabulary.VALUE_COLUMNS, [(Binary(b"\xff\x00" * (30 * MIB)),)])
    return found | {f"select-{number}": result for number, result in enumerate(selected())}


def selected() -> list[Result]:
    """What the SELECTs answer."""
    return [at_once().execute(OtherSql(sql.encode()), ANYBODY, None, NOW_MS) for sql in SELECTS]


def test_both_readers_read_what_is_meant(read_by_apache_arrow: Callable[[dict[str, bytes]], dict[str, Any]]) -> None:
    results = cases()
    read = read_by_apache_arrow({name: stream_of(result) for name, result in results.items()})
    assert read == {name: read_as(result) for name, result in results.items()}


def legacy_text(type_: Any, value: object) -> bytes | None:
    """What a legacy reply says where Arrow has this value."""
    if value is None:
        return None
    if pa.types.is_binary(type_):
        assert isinstance(value, bytes)
        return b"0x" + value.hex().upper().encode()
    if pa.types.is_boolean(type_):
        return b"true" if value else b"false"
    return str(value).encode()


def said_by(stream: bytes | None) -> tuple[list[str], list[tuple[bytes | None, ...]]]:
    if stream is None:
        return [], []
    with pa.ipc.open_stream(stream) as reader:
        table = reader.read_all()
    columns = [
        [legacy_text(field.type, value) for value in table.column(index).to_pylist()]
        for index, field in enumerate(table.schema)
    ]
    return table.schema.names, list(zip(*columns, strict=True))


def test_every_statement_says_the_same_in_both_forms(
    read_by_apache_arrow: Callable[[dict[str, bytes]], dict[str, Any]],
) -> None:
    legacy, arrow = Conversation(), Conversation()
    streams = {}
    for number, statement in enumerate(STATEMENTS):
        for_legacy = legacy.ask(statement).reply
        for_arrow = arrow.ask(statement, response_format=ResponseFormat.ARROW).reply
        assert for_legacy is not None
        assert for_arrow is not None
        expected, answer = decode_reply(for_legacy), decode_reply(for_arrow)
        assert not isinstance(expected, ErrorReply), (statement, expected)
        assert isinstance(expected, Rows)
        assert isinstance(answer, ArrowReply), statement
        assert said_by(answer.stream) == (list(expected.columns), expected.rows), statement
        if answer.stream is not None:
            streams[f"{number:02}"] = answer.stream
    read = read_by_apache_arrow(streams)
    for name, stream in streams.items():
        names, rows = said_by(stream)
        assert [field[0] for field in read[name]["fields"]] == names
        assert (read[name]["rows"], len(read[name]["columns"])) == (len(rows), len(names))
        assert [column["nulls"] for column in read[name]["columns"]] == [
            sum(row[index] is None for row in rows) for index in range(len(names))
        ]


def test_every_command_is_among_the_statements() -> None:
    asked = {type(parse_statement(statement.encode(), None)) for statement in STATEMENTS}
    assert asked == {*_below(QueueStatement), *_below(CacheStatement), SysCachestore}


def _below(base: type[Statement]) -> Iterable[type[Statement]]:
    return base.__subclasses__()


def test_the_legacy_form_of_a_select_is_the_same_but_for_moments() -> None:
    for sql, result in zip(SELECTS, selected(), strict=True):
        if ColumnType.TIMESTAMP in result.columns.types and result.rows:
            continue
        legacy, arrow = decode_reply(encode_result(1, result)), decode_reply(encode_arrow(1, result))
        assert isinstance(legacy, Rows)
        assert isinstance(arrow, ArrowReply)
        assert said_by(arrow.stream) == (list(legacy.columns), legacy.rows), sql
