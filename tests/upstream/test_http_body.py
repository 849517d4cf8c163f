"""Where bodies end, however their bytes are cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubequeue_server.net.http_body import BadBodyError, Body, ChunkedBody, body_of_answer, body_of_request

CHUNKED = ((b"transfer-encoding", b"Chunked"),)


def feed(body: Body, data: bytes, cuts: list[int]) -> int:
    """How many bytes belong to the body when they come cut at these places."""
    taken, places = 0, [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(places):
        taken += body.feed(data[start:end])
    return taken


@given(
    st.lists(st.binary(min_size=1, max_size=50), max_size=6),
    st.lists(st.sampled_from([b"a: b", b"x-y: " + b"z" * 20]), max_size=2),
    st.binary(max_size=30),
    st.lists(st.integers(0, 400), max_size=8),
    st.booleans(),
)
def test_chunks_end_where_they_end(
    chunks: list[bytes], trailers: list[bytes], behind: bytes, cuts: list[int], has_extension: bool
) -> None:
    extension = b' ; a="b"' if has_extension else b""
    body = b"".join(b"%X%b\r\n%b\r\n" % (len(chunk), extension, chunk) for chunk in chunks)
    body += b"0\r\n" + b"".join(trailer + b"\r\n" for trailer in trailers) + b"\r\n"
    reader = ChunkedBody()
    assert feed(reader, body + behind, cuts) == len(body)
    assert reader.is_whole


@given(st.binary(max_size=60), st.integers(0, 80), st.lists(st.integers(0, 80), max_size=4))
def test_a_length_is_a_length(data: bytes, length: int, cuts: list[int]) -> None:
    reader = body_of_request(((b"content-length", b"%d" % length),))
    assert feed(reader, data, cuts) == min(length, len(data))
    assert reader.is_whole == (len(data) >= length)


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=4))
def test_any_bytes_are_chunks_or_an_error(data: bytes, cuts: list[int]) -> None:
    try:
        taken = feed(ChunkedBody(), data, cuts)
    except BadBodyError:
        return
    assert taken <= len(data)


@pytest.mark.parametrize(
    "data",
    [
        b"x\r\n", b"\r\n", b"-1\r\n", b"+1\r\n", b"0x1\r\n", b"1\n", b" 1\r\n", b"1\r\nab\r\n", b"1" * 16 + b"\r\n",
        b"1;" + b"x" * 5_000 + b"\r\n", b"0\r\n" + b"a: b\r\n" * 5_000, b"1;\x00\r\n", b"1\r\na\n",
    ],
)  # fmt: skip
@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_broken_chunks_are_an_error(data: bytes, step: int) -> None:
    with pytest.raises(BadBodyError):
        feed(ChunkedBody(), data, [*range(step, len(data), step)])


@pytest.mark.parametrize(
    ("status", "headers", "taken"),
    [
        (200, (), 5),
        (204, (), 0),
        (304, ((b"content-length", b"3"),), 0),
        (200, ((b"content-length", b"3"),), 3),
        (500, CHUNKED, 5),
    ],
)
def test_bodies_of_answers(status: int, headers: tuple[tuple[bytes, bytes], ...], taken: int) -> None:
    assert body_of_answer(status, headers).feed(b"0\r\n\r\n") == taken
