"""What is written is read back, whatever the style; any text is answered or refused by the package's own errors."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocol import commands
from protocol.commands import parse_statement
from protocol.errors import StatementSyntaxError
from storage.vocabulary import Cell, Statement
from tests.protocol.sql_writer import write
from tests.protocol.statements import STATEMENTS, WRITTEN, values

CELLS = st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | st.floats() | st.binary(max_size=60)
PARAMETERS = st.none() | st.lists(CELLS, max_size=4).map(tuple)
TAILS = st.sampled_from(
    [b"", b";", b" ", b"\n;", b" 'x' \"y\" `z` ? 1.5", b" -- it's", b"/* ' */", b" ; SELECT 'a\\'b'"]
)


def outcome(text: bytes, parameters: tuple[Cell, ...] | None) -> tuple[Statement | None, str]:
    try:
        return parse_statement(text, parameters), ""
    except StatementSyntaxError as error:
        return None, error.wire_text


def rules_only_outcome(text: bytes, parameters: tuple[Cell, ...] | None) -> tuple[Statement | None, str]:
    """The same without the shortcuts for what clients usually write."""
    try:
        return commands._parse_by_rule(text, -1, parameters), ""
    except StatementSyntaxError as error:
        return None, error.wire_text


@given(STATEMENTS, TAILS)
def test_what_the_js_client_writes_is_read(statement: Statement, tail: bytes) -> None:
    assert parse_statement(write(statement) + tail, None) == statement


@given(WRITTEN, TAILS)
def test_any_style_is_read(written: tuple[Statement, tuple[bytes, tuple[Cell, ...] | None]], tail: bytes) -> None:
    statement, (text, parameters) = written
    parsed = parse_statement(text + tail, parameters)
    assert parsed == statement
    assert list(map(type, values(parsed))) == list(map(type, values(statement)))  # a Binary equals its bytes
    assert parse_statement(memoryview(text), parameters) == statement


PIECES = st.sampled_from(
    b"QUEUE ;CACHE ;SYS ;ADD ;RETRIEVE ;SET ;GET ;ACK ;RESULT ;HEARTBEAT ;PRIORITY ;ORPHANED ;EXCLUSIVE ;EXTERNAL_ID ;"
    b"CONCURRENCY ;EXTENDED ;NX ;TTL ;NULL ;?;?1; ;5 ;-;-5 ;1.5;99999999999999999999;'k' ;'k';'v\\'';'';\";`;x'41' ;"
    b"0x41;4294967296 ;9223372036854775808 ;n'a';--;\n;/*;*/;\\;\0;\xc3\xa9;\xf0\x9f\x98\x80;'it''s' ;12 '".split(b";")
)
TEXTS = st.lists(PIECES, max_size=14).map(b"".join)
HEADS = st.sampled_from(
    [
        b"",
        b"QUEUE ADD ",
        b"QUEUE ADD_AND_RETRIEVE ",
        b"QUEUE RETRIEVE ",
        b"CACHE SET ",
        b"QUEUE ACK ",
        b"SYS METASTORE ",
    ]
)


@given(HEADS, TEXTS, PARAMETERS)
def test_shortcuts_change_nothing(head: bytes, text: bytes, parameters: tuple[Cell, ...] | None) -> None:
    assert outcome(head + text, parameters) == rules_only_outcome(head + text, parameters)


@given(STATEMENTS.map(write), st.data())
def test_shortcuts_change_nothing_one_slip_from_a_statement(text: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(text)))
    slip = text[:at] + data.draw(PIECES) + text[at + data.draw(st.integers(0, 2)) :]
    assert outcome(slip, None) == rules_only_outcome(slip, None)


@given(HEADS, st.binary(max_size=60), PARAMETERS)
def test_any_bytes_are_answered_or_refused(head: bytes, text: bytes, parameters: tuple[Cell, ...] | None) -> None:
    outcome(head + text, parameters)


@given(HEADS, st.text(max_size=60), PARAMETERS)
def test_any_text_is_answered_or_refused(head: bytes, text: str, parameters: tuple[Cell, ...] | None) -> None:
    outcome(head + text.encode(), parameters)
