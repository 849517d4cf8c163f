"""Long replies: made step by step they are the same bytes, and what is large in them is not copied."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import pieces
from protocol.arrow import arrow_message, arrow_steps, encode_arrow
from protocol.encode import encode_result, result_message, result_steps
from protocol.pieces import JOINED_BYTES, LARGE_BYTES, STEP_BYTES, STEP_ROWS, Message, Pieces, Steps, finish
from storage import vocabulary
from storage.vocabulary import Binary, Cell, Columns, ColumnType, Result
from tests.protocol import strategies

ENCODINGS: list[
    tuple[Callable[[int, Result], bytes], Callable[[int, Result], Message], Callable[[int, Result], Steps]]
] = [(encode_result, result_message, result_steps), (encode_arrow, arrow_message, arrow_steps)]


@pytest.mark.parametrize("encode_at", range(len(ENCODINGS)))
@given(strategies.results(), st.integers(1, 8))
def test_steps_make_the_same_bytes(encode_at: int, result: Result, times: int) -> None:
    encode, _, steps = ENCODINGS[encode_at]
    many = Result(result.columns, list(result.rows) * times)
    if not many.rows:
        return
    assert len(many.rows) <= STEP_ROWS, "more would not be encoded in one go"
    with mock.patch.object(pieces, "STEP_ROWS", 8):
        made = finish(steps(7, many))
    assert bytes(made) == encode(7, many)
    assert len(made) == len(bytes(made))


@pytest.mark.parametrize(("encode", "_message", "steps"), ENCODINGS)
@pytest.mark.parametrize("count", [STEP_ROWS + 1, 8 * STEP_ROWS, 1_000])
def test_many_rows_are_many_steps(
    encode: Callable[..., bytes], _message: object, steps: Callable[..., Steps], count: int
) -> None:
    columns = Columns(("text", ColumnType.STRING), ("flag", ColumnType.BOOLEAN), ("moment", ColumnType.TIMESTAMP))
    rows: list[tuple[Cell, ...]] = [(b"%d" % at if at % 7 else None, at % 3 == 0, 1_000 * at) for at in range(count)]
    rows[-1] = (Binary(b"\xff"), None, None)
    taken = list(iter_steps(steps(1, Result(columns, rows))))
    assert len(taken) >= count // STEP_ROWS
    with mock.patch.object(pieces, "STEP_ROWS", 1 << 20):
        assert encode(1, Result(columns, rows)) == bytes(finish(steps(1, Result(columns, rows))))


def iter_steps(steps: Steps) -> Iterator[None]:
    yield from steps


@pytest.mark.parametrize(("encode", "message", "_steps"), ENCODINGS)
def test_a_large_value_stays_the_object_that_it_is(
    encode: Callable[..., bytes], message: Callable[..., Message], _steps: object
) -> None:
    value = b"v" * (JOINED_BYTES + 1)
    for columns, rows in (
        (vocabulary.VALUE_COLUMNS, [(value,)]),
        (vocabulary.RESULT_COLUMNS, [(value, b"success", b"1", None)]),
        (vocabulary.PAYLOAD_COLUMNS, [(value, None), (b"small", value)]),
        (vocabulary.PAYLOAD_COLUMNS, [(value, None)] * (STEP_ROWS + 1)),
    ):
        made = message(3, Result(columns, rows))
        assert isinstance(made, Pieces)
        assert sum(piece is value for piece in made.pieces) == sum(cell is value for row in rows for cell in row)
        assert bytes(made) == encode(3, Result(columns, rows))


@pytest.mark.parametrize(("_encode", "message", "_steps"), ENCODINGS)
def test_a_small_reply_is_joined(_encode: object, message: Callable[..., Message], _steps: object) -> None:
    assert type(message(3, Result(vocabulary.VALUE_COLUMNS, [(b"v",)]))) is bytes
    assert type(message(3, Result(vocabulary.PAYLOAD_COLUMNS, [(b"v", None)] * 3))) is bytes


def test_a_step_of_long_rows_ends_by_their_bytes() -> None:
    rows = [(b"v" * (LARGE_BYTES - 100), None)] * STEP_ROWS
    count = len(list(iter_steps(result_steps(1, Result(vocabulary.PAYLOAD_COLUMNS, rows)))))
    assert count >= STEP_ROWS * LARGE_BYTES // STEP_BYTES - 1
