"""Any bytes at all: a request or a DecodeError, in bounded time and memory."""

from __future__ import annotations

import struct
import time
import tracemalloc
from collections.abc import Callable

import pytest
from flatbuffers import Builder
from hypothesis import example, given
from hypothesis import strategies as st

from protocol import schema
from protocol.client_codec import encode_query
from protocol.decode import MAX_INLINE_COLUMNS, MAX_INLINE_TABLES, MAX_PARAMETERS, decode_request
from protocol.errors import DecodeError
from protocol.messages import InlineTable, Request
from storage.vocabulary import Binary
from tests.protocol import strategies
from tests.protocol.oracle import build_request, build_table, finish_message

MIB = 1 << 20
FULL = Request(
    7,
    b"7e9a1f6c-33c1-4a7e-9d3c-2f4b7c0a9d11",
    "CACHE SET TTL ? ? ? é".encode(),
    (60, b"key", Binary(b"\xff\xfe"), 1.5, True, None),
    1,
    b"{}",
    (InlineTable(b"t", (b"a", b"b"), (b"text", b"int"), b"x,1\n"),),
)


def attempt(buffer: bytes) -> Request | DecodeError:
    """Decode; anything but a request or a DecodeError fails the test."""
    try:
        return decode_request(buffer)
    except DecodeError as error:
        outcome = error
    assert outcome.message_id is None or 0 <= outcome.message_id < 2**32
    assert outcome.message_id is not None or not outcome.closes
    outcome.wire_text.encode()
    return outcome


@pytest.mark.parametrize("build", [build_request, lambda request: encode_query(7, request.query, request.parameters)])
def test_every_truncation_is_refused_or_read(build: Callable[[Request], bytes]) -> None:
    whole = build(FULL)
    outcomes = [attempt(whole[:size]) for size in range(len(whole))]
    assert all(isinstance(outcome, DecodeError) for outcome in outcomes[: len(whole) // 2])
    assert outcomes[0].args == ("Internal: Undecodable message: an offset points past the message",)  # type: ignore[union-attr]
    assert isinstance(attempt(whole), Request)


def test_every_flipped_bit_is_refused_or_read() -> None:
    whole = bytearray(build_request(FULL))
    for position in range(len(whole)):
        for bit in range(8):
            whole[position] ^= 1 << bit
            attempt(bytes(whole))
            whole[position] ^= 1 << bit


def test_every_word_replaced_by_an_extreme_is_refused_or_read() -> None:
    whole = build_request(FULL)
    for position in range(len(whole) - 3):
        for word in (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, len(whole), len(whole) - position):
            attempt(whole[:position] + struct.pack("<I", word) + whole[position + 4 :])


@given(st.binary(max_size=200))
@example(b"")
@example(b"\0\0\0\0")
@example(b"\x04\0\0\0" + b"\0" * 8)
@example(b"\x04\0\0\0\xff\xff\xff\x7f\0\0\0\0")
def test_arbitrary_bytes_are_refused_or_read(buffer: bytes) -> None:
    first = attempt(buffer)
    second = attempt(memoryview(buffer))  # type: ignore[arg-type]
    assert repr(first) == repr(second), "a frame is judged alike, whatever it comes in"


@given(strategies.requests, st.data())
def test_arbitrary_damage_to_a_request_is_refused_or_read(request: Request, data: st.DataObject) -> None:
    whole = bytearray(build_request(request))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    attempt(bytes(whole))


@given(strategies.requests, st.integers(1, 8))
def test_a_request_reads_the_same_on_any_alignment(request: Request, shift: int) -> None:
    shifted = bytes(shift) + build_request(request)
    assert decode_request(memoryview(shifted)[shift:]) == request


def test_without_a_message_id_there_is_nobody_to_answer() -> None:
    for buffer in (b"", b"\x04", b"\xff\xff\xff\xff", bytes(3)):
        outcome = attempt(buffer)
        assert isinstance(outcome, DecodeError)
        assert (outcome.message_id, outcome.closes) == (None, False)


def shared_vector(builder: Builder, element: int, count: int) -> int:
    """A vector whose elements are all the same."""
    builder.StartVector(4, count, 4)
    for _ in range(count):
        builder.PrependUOffsetTRelative(element)
    vector: int = builder.EndVector()
    return vector


def query_with(builder: Builder, *, tables: int = 0, parameters: int = 0) -> bytes:
    text = builder.CreateString("q")
    fields = [("UOffsetTRelative", offset) if offset else None for offset in (text, 0, tables, parameters)]
    return finish_message(builder, 1, schema.COMMAND_QUERY, build_table(builder, *fields))


def shared_parameters(count: int, text: str) -> bytes:
    """Many parameters that are all the same one."""
    builder = Builder(1024)
    value = build_table(builder, ("UOffsetTRelative", builder.CreateString(text)))
    parameter = build_table(builder, ("Uint8", schema.VALUE_STRING), ("UOffsetTRelative", value))
    return query_with(builder, parameters=shared_vector(builder, parameter, count))


def shared_columns(tables: int, columns: int) -> bytes:
    """Many inline tables that are all the same one, of many columns that are all the same one."""
    builder = Builder(1024)
    text = ("UOffsetTRelative", builder.CreateString("int"))
    names = ("UOffsetTRelative", shared_vector(builder, text[1], columns))
    table = build_table(builder, text, names, names, text)
    return query_with(builder, tables=shared_vector(builder, table, tables))


def overlapping_strings(count: int) -> bytes:
    """Parameters whose strings begin one word after the other and all reach to the end of the message."""
    body = bytearray(build_request(Request(1, None, b"q", (b"x" * (8 * count),))))
    start = body.index(b"x" * 64)
    words = struct.pack(f"<{count}I", *(8 * count - 4 * index for index in range(count)))
    body[start : start + len(words)] = words
    head = encode_query(1, b"q", [b""] * count)
    return bytes(head) + bytes(body)


def test_as_many_parameters_as_allowed_and_one_more() -> None:
    parameters = (None,) * MAX_PARAMETERS
    assert decode_request(encode_query(1, b"q", parameters)).parameters == parameters
    outcome = attempt(encode_query(1, b"q", (*parameters, None)))
    assert isinstance(outcome, DecodeError)
    assert outcome.text == "Internal: Undecodable message: a vector of 65536 elements, at most 65535 are accepted"


def test_a_vector_longer_than_the_message_takes_no_memory() -> None:
    whole = bytearray(shared_parameters(3, "x"))
    at = whole.index(struct.pack("<I", 3))
    whole[at : at + 4] = b"\xff\xff\xff\xff"
    peak, outcome = peak_bytes(bytes(whole))
    assert isinstance(outcome, DecodeError)
    assert peak < 100_000


def peak_bytes(buffer: bytes) -> tuple[int, Request | DecodeError]:
    tracemalloc.start()
    try:
        outcome = attempt(buffer)
        return tracemalloc.get_traced_memory()[1], outcome
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "buffer",
    [
        pytest.param(shared_parameters(60_000, "x" * MIB), id="parameters that share a long text"),
        pytest.param(shared_parameters(60_000, "x"), id="parameters that share a short text"),
        pytest.param(shared_columns(MAX_INLINE_TABLES, 60_000), id="tables that share columns"),
        pytest.param(overlapping_strings(20_000), id="strings that overlap"),
    ],
)
def test_shared_content_multiplies_neither_memory_nor_time(buffer: bytes) -> None:
    started = time.process_time()
    attempt(buffer)
    assert time.process_time() - started < 2
    peak, _ = peak_bytes(buffer)
    assert peak < 8 * len(buffer) + MIB


def test_a_shared_text_is_read_when_it_stays_small() -> None:
    assert decode_request(shared_parameters(500, "ab")).parameters == (b"ab",) * 500
    outcome = attempt(shared_parameters(500, "a" * 10_000))
    assert isinstance(outcome, DecodeError)
    assert "longer than the message" in outcome.text


def test_more_inline_tables_or_columns_than_allowed_are_refused() -> None:
    for buffer in (shared_columns(MAX_INLINE_TABLES + 1, 0), shared_columns(1, MAX_INLINE_COLUMNS + 1)):
        outcome = attempt(buffer)
        assert isinstance(outcome, DecodeError)
        assert "are accepted" in outcome.text


@pytest.mark.parametrize("text", [b"a" * (32 * MIB), "é".encode() * (16 * MIB)], ids=["ASCII", "two bytes"])
def test_a_long_text_is_copied_once(text: bytes) -> None:
    frame = memoryview(encode_query(1, text))
    peak, outcome = peak_bytes(frame)  # type: ignore[arg-type]
    assert isinstance(outcome, Request)
    assert outcome.query == text
    assert peak < len(text) + MIB


def test_time_is_linear_in_the_message() -> None:
    def cost(count: int) -> float:
        buffer = encode_query(1, b"q", [b"text", 1, None] * count)
        started = time.process_time()
        for _ in range(3):
            decode_request(buffer)
        return time.process_time() - started

    cost(1000)
    assert cost(16_000) < 16 * cost(1_000) * 3 + 0.05
