"""Tokens between and behind what the grammar reads: commands.md §1."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlglot.dialects.mysql import MySQL

from protocol.cursor import Cursor
from protocol.errors import TokenizerError
from protocol.lexer import check_tokens, show_token, skip_trivia
from protocol.position import PREVIEW_CHARS, at_position, preview
from tests.protocol.sql_writer import back_ticked, sqlstring
from tests.protocol.statements import HOSTILE


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        (b"", 0),
        (b"x", 0),
        (b" x", 1),
        (b" \t\n\x0b\x0c\r x", 7),
        (b"-- a\nx", 5),
        (b"--a", 3),
        (b"--", 2),
        (b"-x", 0),
        (b"/x", 0),
        (b"/**/x", 4),
        (b"/***/x", 5),
        (b"/*/*/x", 5),
        (b"/* a /* b */x", 12),
        (b"/* * / ** ' */ -- '\n /**/x", 25),
        (b"/*" + b"*a" * 300 + b"*/x", 604),
        ("\u00a0x".encode(), 0),
        ("\u2028x".encode(), 0),
        (b"\x1cx", 0),
    ],
)
def test_white_space_and_comments(text: bytes, offset: int) -> None:
    assert skip_trivia(text, 0) == offset


@pytest.mark.parametrize("text", [b"/*", b"/*/", b"  /* a * /", b"-- a\n/*\n\xc3\xa9", b"/*" + b"*a" * 300])
def test_comment_not_closed(text: bytes) -> None:
    with pytest.raises(TokenizerError) as caught:
        skip_trivia(text, 0)
    position = at_position(text, len(text))
    assert caught.value.text == f"Unexpected EOF while in a multi-line comment{position}"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (b"", "EOF"),
        (b"word1 x", "word1"),
        (b"$1", "$1"),
        ("é\u2028\uffffx😀".encode(), "é\u2028\uffffx"),
        ("😀😀x".encode(), "😀"),
        (b"'it''s \\n'x", "'it's \n'"),
        (b'"a""b"', '"a"b"'),
        (b"`a`", "`a`"),
        (b"n'a'", "N'a'"),
        (b"x'4a'", "X'4a'"),
        (b"0x4aG", "X'4a'"),
        (b"n", "n"),
        (b"1", "1"),
        (b"1.5e-3L2", "1.5e-3L"),
        (b"1.2.3", "1.2"),
        (b".5", ".5"),
        (b"5.", "5."),
        (b"5e", "5"),
        (b".", "."),
        (b"?12x", "?12"),
        (b"-5", "-"),
        (b";", ";"),
        (b"\\'", "\\"),
        (b"\xff", "\ufffd"),
    ],
)
def test_token_shown(text: bytes, shown: str) -> None:
    assert show_token(text, 0) == shown


def test_long_tokens_are_cut() -> None:
    assert show_token("é".encode() * 1_000_000, 0) == "é" * PREVIEW_CHARS + "…"
    assert show_token(b"'" + b"a" * 1_000_000 + b"'", 0) == "'" + "a" * PREVIEW_CHARS + "…'"
    assert preview(b"a" * PREVIEW_CHARS) == "a" * PREVIEW_CHARS
    assert preview("😀".encode() * (PREVIEW_CHARS + 1)) == "😀" * PREVIEW_CHARS + "…"


@given(HOSTILE, st.data())
def test_position_counts_characters(text: str, data: st.DataObject) -> None:
    before = text[: data.draw(st.integers(0, len(text)))]
    line, column = before.count("\n") + 1, len(before.rpartition("\n")[2]) + 1
    assert at_position(text.encode(), len(before.encode())) == f" at Line: {line}, Column: {column}"


def is_closed(text: bytes) -> bool:
    """What `check_tokens` must find, byte by byte."""
    at, inside = 0, ""
    while at < len(text):
        here = text[at : at + 2].decode("latin-1")
        if inside == "" and here in ("--", "/*"):
            inside, at = here, at + 1
        elif inside == "" and here[0] in "'\"`":
            inside = here[0]
        elif inside == "'" and here[0] == "\\":
            at += 1
        elif inside == here[0] and inside in "'\"`":
            inside = ""
        elif (inside == "--" and here[0] == "\n") or (inside == "/*" and here == "*/"):
            at += len(here) - 1 if inside == "/*" else 0
            inside = ""
        at += 1
    return inside in ("", "--")


NOISE = st.lists(
    st.sampled_from(["'", '"', "`", "\\", "--", "/*", "*/", "\n", "a", " ", "/", "-", "*", "''", "😀"]), max_size=25
)


@given(NOISE, st.sampled_from([1, 1, 1, 60, 2500]))
def test_rest_is_tokens_or_not(noise: list[str], times: int) -> None:
    text = ("".join(noise) * times).encode()
    if is_closed(text):
        check_tokens(text, 0)
    else:
        with pytest.raises(TokenizerError):
            check_tokens(text, 0)


@pytest.mark.parametrize(
    ("rest", "is_all_tokens"),
    [
        (rb" ;", True),
        (rb" 'a' 'b'", True),
        (rb" 'a' 'b", False),
        (b" -- '\n'", False),
        (rb" -- ' '", True),
        (rb" -- /*", True),
        (rb" '--' '", False),
        (rb""" '"' " """, False),
        (rb" '\'' '", False),
        (rb" \'a'", True),
        (rb" \'a", False),
        (rb" '/*'", True),
        (rb' "a\"', True),
        (rb" /* ' */", True),
        (rb" */ /", True),
    ],
)
def test_rest(rest: bytes, is_all_tokens: bool) -> None:
    assert is_closed(rest) is is_all_tokens
    if is_all_tokens:
        check_tokens(b"x" + rest, 1)
    else:
        with pytest.raises(TokenizerError):
            check_tokens(b"x" + rest, 1)


def test_many_escapes_in_a_literal_of_the_rest() -> None:
    literal = b"'" + b"\\'" * 5000 + b"'"
    check_tokens(b"x " + literal * 3, 1)
    with pytest.raises(TokenizerError):
        check_tokens(b"x " + literal * 3 + b"'", 1)


COMMON_TEXTS = st.text(alphabet="ab'\\\"é ,;?-/*`😀", max_size=12).map(str.encode)
COMMON_TOKENS = (
    st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True)
    .filter(lambda word: word not in ("n", "x", "b"))
    .map(lambda word: (word.encode(), word))
    | st.integers(0, 10**15).map(lambda number: (b"%d" % number, str(number)))
    | COMMON_TEXTS.map(lambda text: (sqlstring(text), text.decode()))
    | COMMON_TEXTS.filter(bool).map(lambda text: (back_ticked(text), text.decode()))
)
COMMON_GAPS = st.sampled_from([b" ", b"\n", b"\t", b" /* a ' b */ ", b" -- it's\n"])


@given(st.lists(st.tuples(COMMON_TOKENS, COMMON_GAPS), min_size=1, max_size=8))
def test_like_sqlglot_on_the_common_ground(parts: list[tuple[tuple[bytes, str], bytes]]) -> None:
    text = b"".join(token + gap for (token, _), gap in parts)
    cursor = Cursor(text, 0, None)
    ours = []
    while cursor.offset < len(text):
        key = cursor.keyref()
        ours.append(key.decode() if isinstance(key, bytes) else str(key))
    assert ours == [shown for (_, shown), _ in parts]
    assert ours == [token.text for token in MySQL().tokenize(text.decode())]
