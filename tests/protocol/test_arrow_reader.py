"""The reader of Arrow replies: it reads what the encoder writes, and refuses everything else by its one error."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.arrow import encode_arrow
from protocol.arrow_reader import Value, read_stream
from protocol.cells import plain_text
from protocol.client_codec import ArrowReply, decode_reply
from protocol.errors import ProtocolError
from storage.vocabulary import Binary, Cell, Columns, ColumnType, Result
from tests.protocol import strategies


def stream_of(result: Result) -> bytes:
    reply = decode_reply(encode_arrow(1, result))
    assert isinstance(reply, ArrowReply)
    assert reply.stream is not None
    return reply.stream


def expected(type_: ColumnType, cell: Cell, *, is_binary: bool) -> Value:
    if cell is None:
        return None
    if is_binary:
        return "0x" + (cell if isinstance(cell, bytes) else plain_text(cell)).hex()
    if type_ in {ColumnType.STRING, ColumnType.BYTES} or isinstance(cell, bytes):
        return (cell if isinstance(cell, bytes) else plain_text(cell)).decode(errors="replace")
    return cell


@given(strategies.results())
def test_it_reads_what_is_written(result: Result) -> None:
    if not len(result.columns):
        return
    names, rows = read_stream(stream_of(result))
    assert names == result.columns.names
    binary = [
        type_ is ColumnType.BYTES or any(isinstance(row[index], Binary) for row in result.rows)
        for index, type_ in enumerate(result.columns.types)
    ]
    assert rows == [
        tuple(
            expected(type_, cell, is_binary=is_binary)
            for type_, cell, is_binary in zip(result.columns.types, row, binary, strict=True)
        )
        for row in result.rows
    ]


SAMPLE = stream_of(
    Result(
        Columns(
            ("a", ColumnType.STRING), ("b", ColumnType.INT), ("c", ColumnType.BOOLEAN), ("d", ColumnType.TIMESTAMP)
        ),
        [(b"x", 1, True, 5), (None, None, None, None), (b"yy", -(1 << 63), False, 1 << 40)],
    )
)


def test_a_sample() -> None:
    assert read_stream(SAMPLE) == (
        ("a", "b", "c", "d"),
        [("x", 1, True, 5), (None, None, None, None), ("yy", -(1 << 63), False, 1 << 40)],
    )


@given(st.data())
def test_damaged_streams_are_rows_or_the_one_error(data: st.DataObject) -> None:
    damaged = bytearray(SAMPLE)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    for stream in (bytes(damaged), bytes(damaged[:cut])):
        with contextlib.suppress(ProtocolError):
            read_stream(stream)


@given(st.binary(max_size=64))
def test_other_bytes_are_the_one_error(stream: bytes) -> None:
    if stream:
        with pytest.raises(ProtocolError):
            read_stream(stream)
