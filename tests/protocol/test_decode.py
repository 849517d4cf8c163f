"""Requests decoded: every field, every refusal, and how the two ends of the codec agree with the oracle."""

from __future__ import annotations

import pytest
from flatbuffers import Builder
from hypothesis import given
from hypothesis import strategies as st

from protocol import schema
from protocol.client_codec import QueryEncoder, encode_query
from protocol.decode import decode_request, response_format_refusal
from protocol.errors import DecodeError
from protocol.messages import InlineTable, Request, ResponseFormat
from storage.vocabulary import Binary
from tests.protocol import strategies
from tests.protocol.oracle import build_request, build_table, finish_message

CONNECTION_ID = b"7e9a1f6c-33c1-4a7e-9d3c-2f4b7c0a9d11"
TABLE = InlineTable(b"t", (b"a", b"b"), (b"text", b"decimal(10)"), b"x,1\n,2\n")


def refusal(buffer: bytes) -> DecodeError:
    with pytest.raises(DecodeError) as caught:
        decode_request(buffer)
    return caught.value


def encode(request: Request) -> bytes:
    """The request by our own client codec."""
    return encode_query(
        request.message_id,
        request.query,
        request.parameters,
        connection_id=request.connection_id.decode() if request.connection_id is not None else None,
        response_format=request.response_format,
        trace=request.trace.decode() if request.trace is not None else None,
        inline_tables=request.inline_tables,
    )


@given(strategies.requests, st.booleans())
def test_a_request_of_the_published_builder_reads_as_what_was_built(request: Request, forced_defaults: bool) -> None:
    assert decode_request(build_request(request, forced_defaults=forced_defaults)) == request


@given(strategies.requests)
def test_a_request_of_our_client_reads_as_what_was_encoded(request: Request) -> None:
    assert decode_request(encode(request)) == request


@given(strategies.requests, st.binary(max_size=9))
def test_a_tail_after_the_message_changes_nothing(request: Request, tail: bytes) -> None:
    assert decode_request(build_request(request) + tail) == request


@given(strategies.requests)
def test_every_kind_of_buffer_reads_the_same_and_gives_bytes(request: Request) -> None:
    whole = build_request(request)
    for buffer in (bytearray(whole), memoryview(whole), memoryview(bytearray(whole))):
        decoded = decode_request(buffer)
        assert decoded == request
        assert type(decoded.query) is bytes
    for value in decoded.parameters or ():
        assert not isinstance(value, memoryview)


def test_nothing_of_the_frame_is_kept() -> None:
    frame = bytearray(encode_query(1, b"CACHE SET ? ?", (b"k", Binary(b"v")), connection_id="c"))
    decoded = decode_request(frame)
    frame[:] = bytes(len(frame))
    frame.append(0)  # refused by Python while a view of it lives
    assert decoded == Request(1, b"c", b"CACHE SET ? ?", (b"k", b"v"))
    assert type(decoded.parameters) is tuple
    assert type(decoded.parameters[1]) is Binary


@given(
    strategies.message_ids,
    strategies.texts,
    st.none() | st.just(CONNECTION_ID.decode()),
    st.sampled_from((ResponseFormat.LEGACY, ResponseFormat.ARROW)),
    st.none() | st.sampled_from(("{}", '{"instance":"api-1"}')),
)
def test_the_plain_encoder_writes_what_the_general_one_means(
    message_id: int, query: bytes, connection: str | None, response_format: int, trace: str | None
) -> None:
    plain = QueryEncoder(connection, response_format, trace).encode(message_id, query)
    assert decode_request(plain) == decode_request(
        encode_query(message_id, query, connection_id=connection, response_format=response_format, trace=trace)
    )


@pytest.mark.parametrize(
    ("kind", "text", "closes"),
    [
        (schema.COMMAND_NONE, "Internal: Unexpected command: NONE", True),
        (schema.COMMAND_RESULT_SET, "Unexpected command: HttpResultSet", False),
        (schema.COMMAND_ERROR, "Internal: Unexpected command: HttpError", True),
        (schema.COMMAND_QUERY_RESULT, "Internal: Unexpected command: HttpQueryResult", True),
        (17, "Internal: Unexpected command: 17", True),
    ],
)
def test_another_command_is_refused_by_name(kind: int, text: str, closes: bool) -> None:
    builder = Builder(64)
    error = refusal(finish_message(builder, 42, kind, build_table(builder)))
    assert (error.wire_text, error.message_id, error.closes) == (text, 42, closes)


def parameter_request(*fields: tuple[str, int] | None) -> bytes:
    builder = Builder(64)
    parameter = build_table(builder, *fields)
    return query_request(builder, parameters=[parameter])


def query_request(
    builder: Builder, *, parameters: list[int] | None = None, tables: list[int] | None = None, text: str | None = "q"
) -> bytes:
    vectors: list[tuple[str, int] | None] = []
    for offsets in (tables, parameters):
        if offsets is None:
            vectors.append(None)
            continue
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        vectors.append(("UOffsetTRelative", builder.EndVector()))
    query = ("UOffsetTRelative", builder.CreateString(text)) if text is not None else None
    command = build_table(builder, query, None, *vectors)
    return finish_message(builder, 42, schema.COMMAND_QUERY, command)


@pytest.mark.parametrize(("kind", "name"), [(0, "NONE"), (7, "7"), (255, "255")])
def test_a_parameter_of_an_unknown_type_is_refused_and_closes(kind: int, name: str) -> None:
    builder = Builder(64)
    value = build_table(builder)
    parameter = build_table(builder, ("Uint8", kind), ("UOffsetTRelative", value))
    error = refusal(query_request(builder, parameters=[parameter]))
    assert error.wire_text == f"Internal: Unsupported parameter type: {name}"
    assert (error.message_id, error.closes) == (42, True)


@pytest.mark.parametrize("kind", range(1, 7))
def test_a_parameter_without_its_value_is_malformed(kind: int) -> None:
    error = refusal(parameter_request(("Uint8", kind)))
    assert error.wire_text == "Internal: Undecodable message: the value of a parameter is missing"
    assert (error.message_id, error.closes) == (42, False)


@pytest.mark.parametrize("kind", [schema.VALUE_STRING, schema.VALUE_BINARY])
def test_a_text_or_binary_parameter_without_content_is_malformed(kind: int) -> None:
    builder = Builder(64)
    value = build_table(builder)
    parameter = build_table(builder, ("Uint8", kind), ("UOffsetTRelative", value))
    assert "of a " in refusal(query_request(builder, parameters=[parameter])).wire_text


def test_numbers_left_out_are_zero_and_false() -> None:
    builder = Builder(64)
    values = [(kind, build_table(builder)) for kind in (schema.VALUE_INT64, schema.VALUE_BOOL, schema.VALUE_FLOAT64)]
    parameters = [build_table(builder, ("Uint8", kind), ("UOffsetTRelative", value)) for kind, value in values]
    decoded = decode_request(query_request(builder, parameters=parameters)).parameters
    assert decoded == (0, False, 0.0)
    assert [type(value) for value in decoded] == [int, bool, float]


@pytest.mark.parametrize(
    ("table", "text"),
    [
        (InlineTable(b"t", (b"a",), (b"money",), b""), "Column type 'money' is not supported"),
        (InlineTable(b"t", (b"a",), (), b""), "Internal: Inline table with 1 columns and 0 types"),
    ],
)
def test_a_bad_inline_table_is_refused_and_closes(table: InlineTable, text: str) -> None:
    error = refusal(encode_query(42, "SELECT 1", inline_tables=[table]))
    assert (error.wire_text, error.message_id, error.closes) == (text, 42, True)


@pytest.mark.parametrize(("missing", "part"), [(0, "name"), (1, "columns"), (2, "types"), (3, "rows")])
def test_an_inline_table_without_a_part_is_refused_and_closes(missing: int, part: str) -> None:
    builder = Builder(64)
    empty = builder.CreateString("")
    fields = [None if slot == missing else ("UOffsetTRelative", empty) for slot in range(4)]
    error = refusal(query_request(builder, tables=[build_table(builder, *fields)]))
    assert (error.wire_text, error.closes) == (f"Internal: Inline table without {part}", True)


@pytest.mark.parametrize(
    "type_",
    [
        b"text", b"int", b"int96", b"bigint", b"bytes", b"timestamp", b"float", b"boolean", b"decimal(5)",
        b"decimal(10, 2)", b"decimal96(5)", b"hyperloglog", b"hyperloglogpp", b"hll_postgres",
    ],
)  # fmt: skip
def test_the_column_types_of_inline_tables(type_: bytes) -> None:
    table = InlineTable(b"t", (b"a",), (type_,), b"1\n")
    assert decode_request(encode_query(1, "SELECT 1", inline_tables=[table])).inline_tables == (table,)


def test_a_message_without_query_text_or_without_command_is_malformed() -> None:
    error = refusal(query_request(Builder(64), text=None))
    assert error.wire_text == "Internal: Undecodable message: the query text is missing"
    assert (error.message_id, error.closes) == (42, False)
    error = refusal(finish_message(Builder(64), 42, schema.COMMAND_QUERY, 0))
    assert error.wire_text == "Internal: Undecodable message: the command is missing"


@pytest.mark.parametrize("bad", [b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"ab\xe2\x82", b"\xf4\x90\x80\x80"])
@pytest.mark.parametrize("place", ["query", "connection_id", "trace", "parameter", "column"])
def test_a_text_that_is_not_utf8_makes_the_message_undecodable(bad: bytes, place: str) -> None:
    table = InlineTable(b"t", (bad,), (b"text",), b"")
    request = {
        "query": Request(42, None, bad),
        "connection_id": Request(42, bad, b"q"),
        "trace": Request(42, None, b"q", trace=bad),
        "parameter": Request(42, None, b"q", (bad,)),
        "column": Request(42, None, b"q", inline_tables=(table,)),
    }[place]
    error = refusal(build_request(request))
    assert error.wire_text == "Internal: Undecodable message: a text is not UTF-8"
    assert (error.message_id, error.closes) == (42, False)


@pytest.mark.parametrize("size", [65_535, 65_536, 65_537, 200_000])
def test_utf8_is_checked_across_the_pieces_of_a_long_text(size: int) -> None:
    for character in ("é", "€", "😀"):
        text = (b"a" * size + character.encode() + b"b" * 10).ljust(size + 70_000, b"c")
        assert decode_request(encode_query(1, text)).query == text
        assert refusal(encode_query(1, text.replace(character.encode(), character.encode()[:-1]))).message_id == 1
    assert refusal(encode_query(1, b"a" * size + b"\xe2\x82")).message_id == 1


def test_the_response_format_is_judged_before_the_statement_runs() -> None:
    for known in (0, 1):
        assert response_format_refusal(decode_request(encode_query(1, "q", response_format=known))) is None
    unknown = decode_request(encode_query(1, "q", response_format=2))
    assert response_format_refusal(unknown) == "Unsupported response_format: 2"


def test_a_message_as_the_drivers_send_it() -> None:
    request = Request(
        1, CONNECTION_ID, b"CACHE GET ?", (b"STANDALONE#SQL_QUERY_RESULT:ab",), 1, b'{"instance":"i"}', (TABLE,)
    )
    assert decode_request(build_request(request)) == request
