"""A large message read in steps gives what it would give as a whole (`protocol.large`)."""

from __future__ import annotations

import time

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from protocol import large
from protocol.client_codec import encode_query
from protocol.commands import parse_statement
from protocol.errors import DecodeError, ParserError, StatementSyntaxError
from protocol.large import LARGE_BYTES, begin_large, read_large
from protocol.literals import ContentReader, read_quoted
from storage.vocabulary import Binary, CacheSet, Cell, OtherSql, QueueAck, QueueAdd, QueueMergeExtra, Statement
from tests.protocol.sql_writer import QUOTING, ansi, sqlstring

ANY = st.text(st.sampled_from("ab'\"`\\\n\0ä😀 ?-/*0nZ"), max_size=60).map(str.encode)


def read(query: bytes, parameters: tuple[Cell, ...] | None = None) -> Statement:
    return read_message(encode_query(1, query, parameters, connection_id="c"))


def read_message(message: bytes) -> Statement:
    steps = read_large(begin_large(memoryview(message)))
    joined: bytes | None = None
    while True:
        try:
            pieces = steps.send(joined)
        except StopIteration as end:
            statement: Statement = end.value
            return statement
        joined = None if pieces is None else b"".join(pieces)


@pytest.fixture
def small_steps_and_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "_STEP_BYTES", 24)
    monkeypatch.setattr(large, "_AROUND_BYTES", 200)


small_steps = pytest.mark.usefixtures("small_steps_and_heads")
any_number = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(body=ANY, times=st.integers(1, 20), quote=st.sampled_from([b"'", b'"', b"`"]), size=st.integers(1, 40))
@example(body=rb"\'", times=9, quote=b"'", size=1)
@example(body=b"''", times=9, quote=b"'", size=3)
def test_windows_of_any_size_read_what_the_whole_text_has(body: bytes, times: int, quote: bytes, size: int) -> None:
    text = quote + body * times + quote + b" rest"
    try:
        content, end = read_quoted(text, 0)
    except StatementSyntaxError:
        content, end = b"", -1
    reader = ContentReader(quote)
    at = 1
    while at < len(text) and not reader.is_closed:
        reader.feed(text[at : at + size], is_last=at + size >= len(text))
        at += size
    assert reader.is_closed == (end >= 0)
    if reader.is_closed:
        assert b"".join(reader.pieces) == content
        assert min(at, len(text)) - len(reader.rest) == end


@small_steps
@any_number
@given(key=ANY, value=ANY, times=st.integers(1, 40), quoting=st.sampled_from(QUOTING), options=st.booleans())
def test_a_large_literal(key: bytes, value: bytes, times: int, quoting: object, options: bool) -> None:
    assert callable(quoting)
    quoting(value * times)
    head = (b"QUEUE ADD PRIORITY 3 " if options else b"CACHE SET TTL 7 ") + sqlstring(key) + b" "
    query = head + quoting(value * times)
    is_large = len(head) <= 200 < len(query)
    try:
        expected: Statement | None = parse_statement(query, None)
    except StatementSyntaxError:
        expected = None
    try:
        found: Statement | None = read(query + b" " * 100)
    except StatementSyntaxError:
        found = None
    assert found == expected or (found is None and not is_large)


@small_steps
@any_number
@given(
    values=st.lists(
        ANY.map(lambda text: text * 3) | st.binary(min_size=20, max_size=90).map(Binary) | st.integers(0, 9), max_size=3
    )
)
def test_large_parameters(values: list[Cell]) -> None:
    for query in (b"QUEUE ACK ? ?", b"QUEUE ADD ? ?", b"CACHE SET ? ?", b"QUEUE MERGE_EXTRA ? ?"):
        try:
            expected: object = parse_statement(query, tuple(values))
        except StatementSyntaxError as error:
            expected = error.text
        message = encode_query(1, query, tuple(values), connection_id="c")
        try:
            found: object = read_message(message)
        except StatementSyntaxError as error:
            found = error.text
        assert found == expected
        if isinstance(found, QueueAck) and isinstance(expected, QueueAck):
            assert type(found.value) is type(expected.value)


LONG = b"it's \\ \xc3\xa4 " * 200_000


@pytest.mark.parametrize(
    ("query", "parameters", "statement"),
    [
        (b"QUEUE ACK 'q:1' " + sqlstring(LONG), None, QueueAck(b"q:1", LONG)),
        (b"QUEUE ACK 7 " + sqlstring(LONG) + b"  ", None, QueueAck(7, LONG)),
        (b"queue /* ? ' */ ack 'q?' " + ansi(LONG) + b" -- '", None, QueueAck(b"q?", LONG)),
        (b"QUEUE ACK ? " + sqlstring(LONG), (b"q:1",), QueueAck(b"q:1", LONG)),
        (b"QUEUE ACK ? ?", (b"q:1", LONG), QueueAck(b"q:1", LONG)),
        (b"QUEUE ACK ? ?", (5, Binary(LONG)), QueueAck(5, Binary(LONG))),
        (b"QUEUE ADD PRIORITY -1 'q:1' " + sqlstring(LONG), None, QueueAdd(b"q:1", LONG, -1)),
        (b"QUEUE MERGE_EXTRA 'q:1' " + sqlstring(LONG), None, QueueMergeExtra(b"q:1", LONG)),
        (b"CACHE SET TTL 60 'a' X'" + LONG.hex().encode() + b"'", None, CacheSet(b"a", Binary(LONG), 60)),
        (b"SELECT " + sqlstring(LONG), None, OtherSql(b"SELECT " + sqlstring(LONG), ())),
        (b"INSERT INTO t VALUES (?), ('a')" + b", (1)" * 500_000, (3,), None),
    ],
    ids=lambda value: value[:24].decode(errors="replace") if isinstance(value, bytes) else None,
)
def test_statements(query: bytes, parameters: tuple[Cell, ...] | None, statement: Statement | None) -> None:
    found = read(query, parameters)
    assert found == (statement or OtherSql(query, parameters or ()))
    if isinstance(found, QueueAck):
        assert type(found.value) is type(statement.value)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("query", "text"),
    [
        (b"QUEUE ACK 'a' '" + b"b" * 2_000_000, "Unterminated string literal"),
        (b'QUEUE ACK "' + b"x" * 2_000_000, "Expected close delimiter"),
        (b"QUEUE ACK 'a' N" + sqlstring(LONG), "Expected: literal string, found: N'"),
        (b"CACHE SET 'a' X'" + b"0g" * 1_000_000 + b"'", "Expected: literal string, found: X'"),
        (b"CACHE SET 'a' X'" + b"0" * 1_000_001 + b"'", "Expected: literal string, found: X'"),
        (b"CACHE SET 'a' 'b'" + b" " * 2_000_000, "without a value of nearly that size"),
        (b"QUEUE ACK 'a' '" + b"b" * 2_000_000 + b"'" + b" " * 2_000_000, "behind the value"),
        (b"QUEUE ACK 'a' /*" + b"b" * 2_000_000 + b"*/ 'c'", "without a value of nearly that size"),
        (b"QUEUE ACK ? '" + b"b" * 2_000_000 + b"'", "out of bound"),
        (b"QUEUE FOO 'a' '" + b"b" * 2_000_000 + b"'", "Unknown queue command: foo"),
        (b"CACHE SET 'a' 'b' '" + b"b" * 2_000_000, "Unterminated string literal"),
        (b"CACHE SET keyX'" + b"61" * 1_000_000 + b"'", None),
    ],
    ids=lambda value: value[:24].decode(errors="replace") if isinstance(value, bytes) else None,
)
def test_refused(query: bytes, text: str | None) -> None:
    if text is None:
        assert read(query) == parse_statement(query, None)
        return
    with pytest.raises(StatementSyntaxError) as caught:
        read(query)
    assert text in caught.value.text
    assert len(caught.value.text) < 300


@pytest.mark.parametrize("at", [0, 131_071, 131_072, 1_500_000, -1])
@pytest.mark.parametrize("is_parameter", [False, True])
def test_what_is_not_utf8_is_refused_wherever_it_stands(at: int, is_parameter: bool) -> None:
    value = bytearray(b"x" * 2_000_000)
    value[at] = 0xC3
    query, parameters = (b"QUEUE ACK 1 ?", (bytes(value),)) if is_parameter else (b"QUEUE ACK 1 '" + value + b"'", None)
    with pytest.raises(DecodeError, match="not UTF-8"):
        read(bytes(query), parameters)


@pytest.mark.parametrize("size", [300_000, 2_000_000])
@pytest.mark.parametrize(
    ("before", "passes"),
    [
        (b"SELECT '", True),
        (b"-- a comment\n /* another */ insert into t values ('", True),
        (b"nonsense '", True),
        (b"'", True),
        (b"SELECT '\xc3", True),
        (b"QUEUE ACK 1 '", False),
        (b" /* a comment */ cache set 'k' '", False),
        (b"SYS CACHESTORE '", False),
        (b"SYS KILL '", False),
        (b"CACHE '", False),
        (b"/* a comment that does not end", False),
        (b" " * 10_000, False),
    ],
)
def test_of_a_statement_that_passes_only_the_head_is_read(before: bytes, passes: bool, size: int) -> None:
    message = encode_query(7, before + b"x" * size + b"'", (b"a",), connection_id="c", response_format=1)
    request = begin_large(memoryview(message), passes_on=True)
    assert request.passes_on == passes
    assert (request.message_id, request.connection_id, request.response_format) == (7, b"c", 1)
    if passes:
        assert request.query == (before + b"x" * size)[: len(request.query)]
        assert len(request.query) <= 4096
        assert request.parameters is None
    else:
        is_read = size < LARGE_BYTES
        assert request.query == (before + b"x" * size + b"'" if is_read else b"")
        assert request.parameters == (b"a",)


def test_texts_that_share_their_bytes_cannot_multiply_memory() -> None:
    message = bytearray(encode_query(1, b"QUEUE ACK ? ?", (b"a" * 2_000_000, b"b" * 2_000_000), connection_id="c"))
    begin_large(memoryview(message))
    with pytest.raises(DecodeError):
        begin_large(memoryview(message[:-2_000_000]))


def test_a_step_takes_less_than_two_milliseconds() -> None:
    literal = sqlstring(b'{"a":"b\\"c\xc3\xa4"}' * 400_000)
    message = memoryview(encode_query(1, b"QUEUE ACK 'q:1' " + literal, None, connection_id="c"))
    started = time.process_time()
    request = begin_large(message)
    costs = [time.process_time() - started]
    steps = read_large(request)
    joined: bytes | None = None
    while True:
        started = time.process_time()
        try:
            pieces = steps.send(joined)
        except StopIteration:
            costs.append(time.process_time() - started)
            break
        costs.append(time.process_time() - started)
        joined = None if pieces is None else b"".join(pieces)
    costs.sort()
    assert len(costs) > len(literal) // (128 << 10)
    assert costs[len(costs) // 2] < 0.002
    assert costs[-1] < 0.008  # one that an interrupt hit


def test_a_parser_error_is_one() -> None:
    with pytest.raises(ParserError):
        read(b"QUEUE ADD 'a' 'b' " + b"?" * 2_000_000)
