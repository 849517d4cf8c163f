"""The decoder of a connection answers as `decode_request` does, whatever it has seen before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocol.client_codec import QueryEncoder, encode_query
from protocol.decode import decode_request
from protocol.errors import DecodeError
from protocol.messages import Request
from protocol.request_decoder import RequestDecoder
from tests.protocol import strategies
from tests.protocol.oracle import build_request

CONNECTION_ID = b"7e9a1f6c-33c1-4a7e-9d3c-2f4b7c0a9d11"

plain_requests = st.builds(
    Request,
    message_id=strategies.message_ids,
    connection_id=st.sampled_from([None, b"", CONNECTION_ID]),
    query=strategies.texts,
    parameters=st.none() | st.just((1, b"x")),
    response_format=st.integers(0, 2),
)
encoders = st.sampled_from(
    [build_request, lambda request: encode_query(request.message_id, request.query), lambda request: request.query]
)


def outcome(decode: object, buffer: bytes | bytearray | memoryview) -> object:
    assert callable(decode)
    try:
        return decode(buffer)
    except DecodeError as error:
        return error.text, error.message_id, error.closes


@given(st.lists(st.tuples(plain_requests, encoders), max_size=12))
def test_any_row_of_messages_reads_as_each_would_alone(messages: list[tuple[Request, object]]) -> None:
    decoder = RequestDecoder()
    for request, encode in messages:
        assert callable(encode)
        buffer = encode(request)
        expected = outcome(decode_request, buffer)
        for kind in (bytes, memoryview, bytearray):
            assert outcome(decoder.decode, kind(buffer)) == expected


@given(plain_requests, st.lists(st.tuples(st.integers(0, 250), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_message_after_a_sound_one_reads_as_it_would_alone(
    request: Request, damage: list[tuple[int, int]]
) -> None:
    decoder = RequestDecoder()
    sound = build_request(request)
    decoder.decode(sound)
    damaged = bytearray(sound)
    for position, value in damage:
        damaged[position % len(damaged)] = value
    for buffer in (bytes(damaged), sound, bytes(damaged[:-5]), sound + b"tail"):
        assert outcome(decoder.decode, buffer) == outcome(decode_request, buffer)


def test_every_bit_of_a_learned_message_and_of_the_next() -> None:
    """A shape learned from any damaged message must not misread the next one of the same head."""
    first = build_request(Request(0x01020304, CONNECTION_ID, b"QUEUE GET 'a'"))
    other_id, other_text = Request(0x0A0B0C0D, CONNECTION_ID, b"QUEUE GET 'a'"), Request(1, CONNECTION_ID, b"SELECT 1")
    seconds = [bytearray(build_request(request)) for request in (other_id, other_text)]
    for position in range(len(first) - 16):
        for bit in range(8):
            decoder = RequestDecoder()
            damaged = bytearray(first)
            damaged[position] ^= 1 << bit
            outcome(decoder.decode, bytes(damaged))
            for second in seconds:
                second[position] ^= 1 << bit
                assert outcome(decoder.decode, bytes(second)) == outcome(decode_request, bytes(second))
                second[position] ^= 1 << bit


def test_the_shape_of_plain_messages_is_learned_from_the_first() -> None:
    for encode in (
        lambda id_, text: build_request(Request(id_, CONNECTION_ID, text)),
        lambda id_, text: build_request(Request(id_, None, text)),
        QueryEncoder(CONNECTION_ID.decode()).encode,
        QueryEncoder().encode,
    ):
        decoder = RequestDecoder()
        decoder.decode(encode(1, b"SELECT 1"))
        assert decoder._text_at > 0, "not learned"
        learned = decoder._lessons_left
        for id_, text in ((2, b"QUEUE LIST 'p'"), (3, b""), (2**32 - 1, b"x" * 100_000), (4, "é".encode())):
            assert decoder.decode(encode(id_, text)).query == text
        assert decoder._lessons_left == learned


def test_a_client_that_changes_its_shape_all_the_time_is_not_learned_from_for_ever() -> None:
    decoder = RequestDecoder()
    for index in range(100):
        request = Request(1, b"c" * index, b"SELECT 1")
        assert decoder.decode(build_request(request)) == request
    assert decoder._lessons_left == 0
