"""Legacy replies: texts of every type, and whole messages as the published runtime and the verifier read them."""

from __future__ import annotations

import tracemalloc
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import encode
from protocol.cells import cell_text, float_text, timestamp_text
from protocol.client_codec import ErrorReply, Rows, decode_reply
from protocol.encode import encode_error, encode_result
from protocol.errors import ProtocolError, ReplyTooLargeError
from storage import vocabulary
from storage.vocabulary import EMPTY_RESULT, Binary, Cell, Columns, ColumnType, Result
from tests.protocol import strategies
from tests.protocol.oracle import read_error, read_result_set
from tests.protocol.verifier import verify_reply

COMMAND_COLUMNS = sorted(
    (value for value in vars(vocabulary).values() if isinstance(value, Columns)), key=lambda columns: columns.names
)
MIB = 1 << 20


def expected_rows(result: Result) -> list[list[bytes | None]]:
    return [
        [
            cell_text(ColumnType.BYTES if isinstance(value, Binary) else type_, value)
            for type_, value in zip(result.columns.types, row, strict=True)
        ]
        for row in result.rows
    ]


def check_reply(message_id: int, result: Result) -> bytes:
    """The reply, after the verifier, the published runtime and our own client read from it what was meant."""
    reply = encode_result(message_id, result)
    verify_reply(reply)
    expected = expected_rows(result)
    assert read_result_set(reply) == (message_id, list(result.columns.names), expected)
    assert decode_reply(reply) == Rows(message_id, result.columns.names, [tuple(row) for row in expected])
    return reply


def sample(type_: ColumnType) -> Cell:
    samples: dict[ColumnType, Cell] = {ColumnType.STRING: b"text", ColumnType.BOOLEAN: True, ColumnType.INT: 5}
    return samples[type_]


@given(strategies.message_ids, strategies.results())
def test_any_result_reads_as_what_it_means(message_id: int, result: Result) -> None:
    check_reply(message_id, result)


@pytest.mark.parametrize("columns", COMMAND_COLUMNS, ids=repr)
def test_every_column_set_with_no_row_one_row_nulls_and_many(columns: Columns) -> None:
    check_reply(1, Result(columns, ()))
    if not len(columns):
        return
    full = tuple(sample(type_) for type_ in columns.types)
    nulls = (None,) * len(columns)
    for rows in ([full], [nulls], [full, nulls, full], [nulls, full]):
        check_reply(2**32 - 1, Result(columns, rows))


@pytest.mark.parametrize("value", [True, False, None, 0, 1, 1023, 1024, -1, 2**63 - 1, -(2**63), b"", b"1", 1.0])
@pytest.mark.parametrize("type_", [ColumnType.STRING, ColumnType.BOOLEAN, ColumnType.INT, ColumnType.FLOAT])
def test_a_single_cell_of_any_kind(type_: ColumnType, value: Cell) -> None:
    check_reply(9, Result(Columns(("c", type_)), [(value,)]))


def test_a_constant_reply_differs_in_its_id_only() -> None:
    first, second = encode_result(1, EMPTY_RESULT), encode_result(2**32 - 1, EMPTY_RESULT)
    assert len(first) == len(second)
    differing = [index for index in range(len(first)) if first[index] != second[index]]
    at = first.index(b"\1\0\0\0", differing[0])
    assert differing == list(range(at, at + 4))


@pytest.mark.parametrize("length", [*range(9), 511, 512, 513, 65_535, 65_536])
def test_texts_of_every_length_are_padded_right(length: int) -> None:
    check_reply(3, Result(vocabulary.PAYLOAD_COLUMNS, [(b"x" * length, b"y" * length), (b"z", b"x" * length)]))


def test_ten_thousand_rows() -> None:
    rows = [(b"path:%d" % id_, b"%d" % id_, b"pending", None) for id_ in range(10_000)]
    check_reply(4, Result(vocabulary.LIST_COLUMNS, rows))


def test_a_binary_value_is_written_in_digits_and_the_texts_of_its_column_as_they_are() -> None:
    rows = [(b"text", b"a"), (Binary(b"\xff\x00"), b"b"), (None, None)]
    reply = encode_result(5, Result(vocabulary.PAYLOAD_COLUMNS, rows))
    verify_reply(reply)
    assert read_result_set(reply)[2] == [[b"text", b"a"], [b"0xFF00", b"b"], [None, None]]


@given(st.binary(max_size=30).map(Binary))
def test_a_binary_value_never_leaves_as_it_is(value: Binary) -> None:
    reply = encode_result(5, Result(vocabulary.VALUE_COLUMNS, [(value,)]))
    verify_reply(reply)
    assert read_result_set(reply)[2] == [[b"0x" + value.hex().upper().encode()]]


@given(strategies.message_ids, st.text(st.characters(), max_size=30))
def test_an_error_text_arrives_and_lone_surrogates_do_not(message_id: int, text: str) -> None:
    reply = encode_error(message_id, text)
    verify_reply(reply)
    expected = text.encode(errors="replace").decode()
    assert read_error(reply) == (message_id, expected)
    assert decode_reply(reply) == ErrorReply(message_id, expected)


def test_a_lone_surrogate_in_an_error_text_is_replaced() -> None:
    assert read_error(encode_error(1, "a\ud800b")) == (1, "a?b")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, b"0"), (-0.0, b"-0"), (1.0, b"1"), (178.0, b"178"), (0.1, b"0.1"), (-2.5, b"-2.5"),
        (1e15, b"1000000000000000"),
        (1e16, b"10000000000000000"), (1.5e16, b"15000000000000000"), (1e-7, b"0.0000001"), (1.25e-7, b"0.000000125"),
        (-1.5e-10, b"-0.00000000015"), (1e23, b"1" + b"0" * 23), (5e-324, b"0." + b"0" * 323 + b"5"),
        (float("nan"), b"NaN"), (float("inf"), b"inf"), (float("-inf"), b"-inf"),
    ],
)  # fmt: skip
def test_the_text_of_a_float(value: float, text: bytes) -> None:
    assert float_text(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_the_text_of_a_float_reads_back_as_the_same_number(value: float) -> None:
    text = float_text(value)
    assert float(text) == value
    assert b"e" not in text


@pytest.mark.parametrize(
    ("epoch_ms", "text"),
    [
        (0, b"1970-01-01T00:00:00.000Z"),
        (-1, b"1969-12-31T23:59:59.999Z"),
        (1_577_836_800_000, b"2020-01-01T00:00:00.000Z"),
        (1_582_934_400_123, b"2020-02-29T00:00:00.123Z"),
        (951_782_399_999, b"2000-02-28T23:59:59.999Z"),
        (253_402_300_799_999, b"9999-12-31T23:59:59.999Z"),
    ],
)
def test_the_text_of_a_timestamp(epoch_ms: int, text: bytes) -> None:
    assert timestamp_text(epoch_ms) == text


@given(st.datetimes())
def test_the_text_of_a_timestamp_is_the_calendar_s(moment: object) -> None:
    from datetime import datetime, timedelta  # noqa: PLC0415 - the calendar is the oracle here only

    assert isinstance(moment, datetime)
    epoch_ms = (moment - datetime(1970, 1, 1)) // timedelta(milliseconds=1)  # noqa: DTZ001 - both without a zone
    assert timestamp_text(epoch_ms).decode() == moment.isoformat(timespec="milliseconds") + "Z"


def test_a_result_past_two_gib_is_refused_before_it_takes_memory() -> None:
    value = b"x" * (64 * MIB)
    for rows in ([(value, value)] * 17, [(value, b"")] * 33):
        tracemalloc.start()
        try:
            with pytest.raises(ReplyTooLargeError) as caught:
                encode_result(1, Result(vocabulary.PAYLOAD_COLUMNS, rows))
            assert tracemalloc.get_traced_memory()[1] < MIB
        finally:
            tracemalloc.stop()
        assert caught.value.wire_text == f"The result of {caught.value.size_bytes} bytes is too large for one reply"


def test_a_large_value_is_copied_once() -> None:
    value = b"x" * (60 * MIB)
    tracemalloc.start()
    try:
        reply = encode_result(1, Result(vocabulary.VALUE_COLUMNS, [(value,)]))
        assert tracemalloc.get_traced_memory()[1] < len(value) + MIB
    finally:
        tracemalloc.stop()
    assert read_result_set(reply)[2] == [[value]]


def test_columns_made_anew_each_time_do_not_pile_up() -> None:
    for index in range(1_000):
        check_reply(1, Result(Columns((f"c{index}", ColumnType.INT)), [(index,)]))
    assert len(encode._layouts) <= encode._MAX_LAYOUTS


@given(st.binary(max_size=120))
def test_bytes_that_are_no_reply_are_refused_by_the_client(buffer: bytes) -> None:
    with suppress(ProtocolError):
        decode_reply(buffer)


def test_every_truncation_of_a_reply_is_refused_or_read_by_the_client() -> None:
    reply = encode_result(1, Result(vocabulary.PAYLOAD_COLUMNS, [(b"payload", None), (b"x", b"y")]))
    for size in range(len(reply) - 8):
        with pytest.raises(ProtocolError):
            decode_reply(reply[:size])
