"""The usual spellings find what the rules find, or leave the text to them; and the clients' statements are usual."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import commands
from protocol.commands import COMMANDS, parse_statement
from protocol.errors import StatementSyntaxError
from storage.vocabulary import Binary, Cell, Statement
from tests.protocol.sql_writer import write
from tests.protocol.statements import GAPS, STATEMENTS, WRITTEN, values

Parameters = tuple[Cell, ...] | None

HEADS = [command.head + b" " for command in COMMANDS]
USUAL = {command.head: command.usual for command in COMMANDS if command.usual is not None}

CELLS = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.integers(-1, 1 << 32)
    | st.floats()
    | st.binary(max_size=60)
    | st.binary(max_size=60).map(Binary)
)
PARAMETERS = st.none() | st.lists(CELLS, max_size=4).map(tuple)
PIECES = st.sampled_from(
    b"EXCLUSIVE ;PRIORITY ;ORPHANED ;EXTERNAL_ID ;CONCURRENCY ;EXTENDED ;WITH_PAYLOAD ;NX ;TTL ;NULL ;?;? ;?1; ;  ;5 ;"
    b"-;-5 ;007 ;1.5 ;999999999 ;4294967295 ;4294967296 ;999999999999999999 ;9223372036854775808 ;'k';'k' ;'k' ;'v\\'';"
    b"'';'';'\\\\';\\';\\\\;\\;\";`;x'41' ;n'a';--;\n;/*;*/;\0;\xc3\xa9;\xff;'it''s' ;'".split(b";")
)
TEXTS = st.lists(PIECES, max_size=10).map(b"".join)
LONG = st.sampled_from([b"x", b"\\'", b"\\\\", b"\\n", b'\\"', b"''", b"\\Z", "é".encode()])


def usually(text: bytes, parameters: Parameters) -> Statement | None:
    """What the usual reader of the text's command finds, and nothing else."""
    for head, read in USUAL.items():
        if text.startswith(head + b" "):
            return read(text, len(head) + 1, parameters)
    return None


def by_rule(text: bytes, parameters: Parameters) -> object:
    """What the rules find, from the first word on: a statement with the types of its values, or an error's text."""
    try:
        return shown(commands._parse_by_rule(text, -1, parameters))
    except StatementSyntaxError as error:
        return error.wire_text


def shown(statement: Statement) -> tuple[type[Statement], list[tuple[type, Cell]]]:
    """Values with their types: a `Binary` equals its bytes, and True equals 1."""
    return type(statement), [(type(value), value) for value in values(statement)]


def parsed(text: bytes, parameters: Parameters) -> object:
    try:
        return shown(parse_statement(text, parameters))
    except StatementSyntaxError as error:
        return error.wire_text


def check(text: bytes, parameters: Parameters) -> Statement | None:
    """The usual reader must agree with the rule; returns what it found."""
    statement = usually(text, parameters)
    expected = by_rule(text, parameters)
    if statement is not None:
        assert shown(statement) == expected
    assert parsed(text, parameters) == expected
    return statement


@given(WRITTEN)
def test_in_any_style(written: tuple[Statement, tuple[bytes, Parameters]]) -> None:
    check(*written[1])


@given(STATEMENTS)
def test_as_the_js_client_writes(statement: Statement) -> None:
    check(write(statement), None)


@given(STATEMENTS.map(write), PARAMETERS, st.data())
def test_a_few_slips_from_a_statement(text: bytes, parameters: Parameters, data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        text = text[:at] + data.draw(PIECES | GAPS) + text[at + data.draw(st.integers(0, 2)) :]
    check(text, parameters)


@given(WRITTEN, TEXTS)
def test_with_anything_behind(written: tuple[Statement, tuple[bytes, Parameters]], tail: bytes) -> None:
    text, parameters = written[1]
    check(text + tail, parameters)


@given(st.sampled_from(HEADS), TEXTS, PARAMETERS)
def test_any_words_of_the_grammar(head: bytes, text: bytes, parameters: Parameters) -> None:
    check(head + text, parameters)


@given(st.sampled_from(HEADS), st.binary(max_size=60), PARAMETERS)
def test_any_bytes(head: bytes, text: bytes, parameters: Parameters) -> None:
    check(head + text, parameters)


@given(
    st.sampled_from([b"QUEUE ADD 'k' ", b"QUEUE ACK 'k' ", b"QUEUE ACK 5 ", b"CACHE SET TTL 5 'k' "]),
    st.lists(st.tuples(LONG, st.integers(0, 9_000)), max_size=4),
    TEXTS,
)
def test_long_values(head: bytes, parts: list[tuple[bytes, int]], tail: bytes) -> None:
    """Below and above the length to which escaped quotes are looked for at once."""
    content = b"".join(text * times for text, times in parts)
    check(head + b"'" + content + b"'", None)
    check(head + b"'" + content + b"'" + tail, None)


@pytest.mark.parametrize(
    "tail", [b" 'open", b"  'open", b" /*", b"\t'", b' "', b"\n`x", b"? 'open", b";", b"  ", b"\t", b" -- x"]
)
@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        (b"QUEUE ACK ? ?", (5, b"r")),
        (b"QUEUE ACK 5 'r'", None),
        (b"QUEUE ADD 'k' 'v'", None),
        (b"QUEUE HEARTBEAT 5", None),
        (b"CACHE GET ?", (b"k",)),
        (b"CACHE GET 'k'", None),
        (b"CACHE SET TTL ? ? ?", (5, b"k", b"v")),
        (b"CACHE SET TTL 5 'k' ?", (b"v",)),
    ],
)
def test_a_quote_or_comment_behind_that_is_never_closed_is_an_error(
    text: bytes, parameters: Parameters, tail: bytes
) -> None:
    check(text + tail, parameters)


PATH = "SQL_QUERY_STANDALONE_default:0cc175b9c0f1b6a831c399e269772661"
JSON = r"{\"query\":\"SELECT \\\"orders\\\".status FROM orders WHERE x = \'new\'\\n\"}"

# As the drivers write them (clients.md §2, §4).
OF_CLIENTS: list[tuple[str, Parameters]] = [
    (f"QUEUE ADD PRIORITY 10 '{PATH}' '{JSON}'", None),
    (f"QUEUE ADD PRIORITY -10000 ORPHANED 600 '{PATH}' '{JSON}'", None),
    (f"QUEUE ADD EXCLUSIVE PRIORITY 0 EXTERNAL_ID '0b7c1a52-6f0e-4a55-9a43-3a1a6a6fd0e1' '{PATH}' '{JSON}'", None),
    (f"QUEUE GET '{PATH}'", None),
    ("QUEUE GET 1825000000123", None),
    ("QUEUE LIST 'SQL_QUERY_STANDALONE_default'", None),
    ("QUEUE LIST WITH_PAYLOAD 'SQL_QUERY_STANDALONE_default'", None),
    ("QUEUE PENDING 'SQL_QUERY_STANDALONE_default'", None),
    ("QUEUE ACTIVE 'SQL_QUERY_STANDALONE_default'", None),
    (f"QUEUE CANCEL '{PATH}'", None),
    ("QUEUE CANCEL 1825000000123", None),
    (f"QUEUE HEARTBEAT '{PATH}'", None),
    ("QUEUE HEARTBEAT 1825000000123", None),
    (f"QUEUE ACK 1825000000123 '{JSON}'", None),
    (f"QUEUE ACK '{PATH}' '{JSON}'", None),
    (f"QUEUE ACK '{PATH}' '{JSON}' ", None),
    ("QUEUE ACK ? ?", (1825000000123, JSON.encode())),
    ("QUEUE ACK ? ?", (PATH.encode(), JSON.encode())),
    ("QUEUE ACK ? ? ", (PATH.encode(), JSON.encode())),
    (r"QUEUE MERGE_EXTRA 1825000000123 '{\"startQueryTime\":1700000000000}'", None),
    (rf"QUEUE MERGE_EXTRA '{PATH}' '{{\"startQueryTime\":1700000000000}}'", None),
    ("QUEUE TO_CANCEL 120000 120000 'SQL_QUERY_STANDALONE_default'", None),
    (f"QUEUE RETRIEVE CONCURRENCY 2 '{PATH}'", None),
    (f"QUEUE RETRIEVE EXTENDED CONCURRENCY 2 '{PATH}'", None),
    (f"QUEUE RESULT '{PATH}'", None),
    ("QUEUE RESULT_BLOCKING 10000 1825000000123", None),
    (f"QUEUE RESULT_BLOCKING 10000 '{PATH}'", None),
    (f"CACHE SET NX TTL 60 'lock:{PATH}' '1'", None),
    (f"CACHE SET TTL 600 '{PATH}' '{JSON}'", None),
    (f"CACHE SET TTL 600 '{PATH}' ?", (JSON.encode(),)),
    ("CACHE SET TTL ? ? ?", (600, PATH.encode(), JSON.encode())),
    ("CACHE SET TTL ? ? ?", (600, PATH.encode(), Binary(b"\0"))),
    (f"CACHE GET '{PATH}'", None),
    ("CACHE GET ?", (PATH.encode(),)),
    (f"CACHE REMOVE '{PATH}'", None),
    ("CACHE REMOVE ?", (PATH.encode(),)),
    ("CACHE KEYS 'app#SQL_PRE_AGGREGATIONS_TABLES:'", None),
    (f"CACHE INCR '{PATH}:PROCESSING_COUNTER'", None),
]


@pytest.mark.parametrize(("text", "parameters"), OF_CLIENTS)
def test_what_clients_send_is_usual(text: str, parameters: Parameters) -> None:
    assert check(text.encode(), parameters) is not None


def test_each_usual_spelling_is_one_of_a_client() -> None:
    assert {head for head in USUAL if any(text.startswith(head.decode() + " ") for text, _ in OF_CLIENTS)} == set(USUAL)


def test_a_value_of_a_megabyte_without_escaped_quotes_is_usual() -> None:
    """Cube's payloads are JSON: escapes by the thousand, of double quotes."""
    text = b"QUEUE ADD PRIORITY 10 'k' '" + rb"{\"a\":\"b\\n\"}," * 100_000 + b"'"
    assert check(text, None) is not None
