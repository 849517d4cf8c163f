"""Arrow replies, read by the Arrow project's own library out of what the FlatBuffers runtime finds."""

from __future__ import annotations

import importlib
import os
import tracemalloc
from typing import Any

import pytest
from hypothesis import given

from protocol import arrow, schema
from protocol.arrow import encode_arrow
from protocol.cells import plain_text
from protocol.client_codec import ArrowReply, decode_reply
from protocol.errors import ReplyTooLargeError
from storage import vocabulary
from storage.vocabulary import EMPTY_RESULT, Binary, Cell, Columns, ColumnType, Result
from tests.arrow_types import arrow_types
from tests.protocol import strategies
from tests.protocol.oracle import Reading
from tests.protocol.test_encode import COMMAND_COLUMNS, MIB, sample
from tests.protocol.verifier import verify_reply

pa: Any = importlib.import_module("pyarrow") if "CI" in os.environ else pytest.importorskip("pyarrow")

ARROW_TYPES = {
    ColumnType.STRING: pa.utf8(),
    ColumnType.BOOLEAN: pa.bool_(),
    ColumnType.INT: pa.int64(),
    ColumnType.BYTES: pa.binary(),
    ColumnType.FLOAT: pa.float64(),
    ColumnType.TIMESTAMP: pa.timestamp("us"),
}


def stream_of(message_id: int, reply: bytes) -> bytes:
    """The Arrow stream in a reply, after the verifier has passed it."""
    verify_reply(reply)
    message = Reading(reply)
    assert (message.u32(0), message.u8(1)) == (message_id, schema.COMMAND_QUERY_RESULT)
    result = message.table(2)
    assert result.u8(0) == schema.DATA_ARROW
    data = result.table(1)
    assert data.u8(1) == 1, "is_last"
    stream = data.byte_vector(0)
    assert reply.index(stream) % 8 == 0, "the stream is aligned, so that a reader need not copy it"
    assert decode_reply(reply) == ArrowReply(message_id, stream)
    return stream


def read_stream(stream: bytes) -> Any:
    """The one record batch of a stream that ends where its end marker says."""
    source = pa.BufferReader(stream)
    with pa.ipc.open_stream(source) as reader:
        (batch,) = list(reader)
    assert source.tell() == len(stream)
    assert stream.endswith(b"\xff\xff\xff\xff\0\0\0\0")
    batch.validate(full=True)
    return batch


def arrow_value(type_: ColumnType, value: Cell) -> object:
    """What Arrow's library should give for a cell, timestamps as whole microseconds."""
    if value is None:
        return None
    if type_ is ColumnType.TIMESTAMP:
        assert isinstance(value, int)
        return value * 1000
    if type_ is ColumnType.STRING:
        return plain_text(value).decode()
    return bytes(value) if isinstance(value, bytes) else value


def check_reply(message_id: int, result: Result) -> Any:
    """The record batch of the reply, after it turned out to say what the result says."""
    batch = read_stream(stream_of(message_id, encode_arrow(message_id, result)))
    types = arrow_types(result)
    assert batch.schema == pa.schema(
        [pa.field(name, ARROW_TYPES[type_]) for name, type_ in zip(result.columns.names, types, strict=True)]
    )
    assert batch.num_rows == len(result.rows)
    for index, type_ in enumerate(types):
        column = batch.column(index)
        values = (column.cast(pa.int64()) if type_ is ColumnType.TIMESTAMP else column).to_pylist()
        assert values == [arrow_value(type_, row[index]) for row in result.rows]
        assert column.null_count == values.count(None)
    return batch


@given(strategies.message_ids, strategies.results())
def test_any_result_reads_as_what_it_means(message_id: int, result: Result) -> None:
    if len(result.columns):
        check_reply(message_id, result)


@pytest.mark.parametrize("columns", [each for each in COMMAND_COLUMNS if len(each)], ids=repr)
def test_every_column_set_with_no_row_one_row_nulls_and_many(columns: Columns) -> None:
    full = tuple(sample(type_) for type_ in columns.types)
    nulls = (None,) * len(columns)
    for rows in ([], [full], [nulls], [full, nulls, full] * 3, [nulls, full]):
        check_reply(2**32 - 1, Result(columns, rows))


@given(strategies.results())
def test_one_row_is_written_as_columns_of_one_cell_would_be(result: Result) -> None:
    for row in result.rows:
        if not len(row) or Binary in map(type, row):
            continue
        layout = arrow._layout_of(result.columns)
        columns = [arrow._Column(type_) for type_ in layout.types]
        for column, cell in zip(columns, row, strict=True):
            column.add((cell,))
        of_row, of_columns = arrow._body_of_row(layout, row), arrow._body_of_columns(columns)
        assert (b"".join(of_row.parts), of_row.nodes, of_row.places, of_row.size) == (
            b"".join(of_columns.parts),
            of_columns.nodes,
            of_columns.places,
            of_columns.size,
        )


def test_a_command_without_columns_is_completed() -> None:
    reply = encode_arrow(7, EMPTY_RESULT)
    verify_reply(reply)
    message = Reading(reply)
    assert (message.u32(0), message.u8(1)) == (7, schema.COMMAND_QUERY_RESULT)
    assert message.table(2).u8(0) == schema.DATA_COMPLETED
    assert message.table(2).has(1)
    assert decode_reply(reply) == ArrowReply(7, None)


def test_one_binary_value_makes_the_whole_column_binary() -> None:
    rows = [(b"text", b"a"), (Binary(b"\xff\x00"), b"b"), (None, None)]
    batch = check_reply(1, Result(vocabulary.PAYLOAD_COLUMNS, rows))
    assert batch.column(0).to_pylist() == [b"text", b"\xff\x00", None]
    assert batch.schema.field("extra").type == pa.utf8()
    text_only = check_reply(1, Result(vocabulary.PAYLOAD_COLUMNS, rows[:1]))
    assert text_only.schema.field("payload").type == pa.utf8()


@pytest.mark.parametrize("count", [*range(18), 63, 64, 65, 10_000])
def test_bitmaps_of_any_number_of_rows(count: int) -> None:
    rows = [(b"%d" % id_ if id_ % 3 else None, id_ % 2 == 0 if id_ % 5 else None, id_) for id_ in range(count)]
    check_reply(1, Result(vocabulary.ADD_COLUMNS, rows))


def test_numbers_and_moments_at_their_ends() -> None:
    columns = Columns(("i", ColumnType.INT), ("f", ColumnType.FLOAT), ("t", ColumnType.TIMESTAMP))
    check_reply(
        1, Result(columns, [(2**63 - 1, 1e308, 253_402_300_799_999), (-(2**63), -0.0, -1), (0, float("inf"), 0)])
    )


def test_a_large_value_is_copied_once() -> None:
    value = b"x" * (60 * MIB)
    tracemalloc.start()
    try:
        reply = encode_arrow(1, Result(vocabulary.VALUE_COLUMNS, [(value,)]))
        assert tracemalloc.get_traced_memory()[1] < len(value) + MIB
    finally:
        tracemalloc.stop()
    assert read_stream(stream_of(1, reply)).column(0)[0].as_buffer().to_pybytes() == value


def test_a_result_past_two_gib_is_refused_before_it_takes_memory() -> None:
    value = b"x" * (64 * MIB)
    tracemalloc.start()
    try:
        for rows in ([(value, value)] * 17, [(value, b"")] * 33):
            with pytest.raises(ReplyTooLargeError):
                encode_arrow(1, Result(vocabulary.PAYLOAD_COLUMNS, rows))
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()


def test_columns_made_anew_each_time_do_not_pile_up() -> None:
    for index in range(1_000):
        encode_arrow(1, Result(Columns((f"c{index}", ColumnType.STRING)), [(Binary(b"%d" % index),)]))
    assert len(arrow._layouts) <= arrow._MAX_SCHEMAS
