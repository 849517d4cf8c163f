"""Texts cut into statements."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubequeue_server.commands.statements import split, statements_of


@pytest.mark.parametrize(
    ("text", "statements", "rest"),
    [
        ("", [], ""),
        (" ; ;\n", [], ""),
        ("A; B\nC;", ["A", "B", "C"], ""),
        ("A 'x;y' \"p\nq\" `r;s`; B", ["A 'x;y' \"p\nq\" `r;s`", "B"], ""),
        (r"A 'it\'s; one'; B", [r"A 'it\'s; one'", "B"], ""),
        ("A 'it''s; one'; B", ["A 'it''s; one'", "B"], ""),
        ("A -- no; end\nB /* c; d\n */ E", ["A", "B  E"], ""),
        ("-- only a comment\n/* and one */", [], ""),
        ("A; B 'open; C", ["A"], " B 'open; C"),
        ("A /* open; C", [], "A /* open; C"),
        ("A - 1 / 2; B", ["A - 1 / 2", "B"], ""),
    ],
)
def test_split(text: str, statements: list[str], rest: str) -> None:
    assert split(text) == (statements, rest)


def test_an_argument_may_have_lines() -> None:
    assert split("SELECT 1\nFROM t; B", frozenset(";")) == (["SELECT 1\nFROM t", "B"], "")


def test_lines_are_read_as_they_come_and_a_quote_goes_on() -> None:
    lines = ["A;\n", "B 'x\n", "y; z\n", "'; C\n", "D 'never closed"]
    assert list(statements_of(lines)) == ["A", "B 'x\ny; z\n'", "C", "D 'never closed"]


@given(st.text("a'\"`;-/*\\\n ", max_size=60))
def test_any_text_is_cut_without_an_error_and_nothing_is_invented(text: str) -> None:
    statements, rest = split(text)
    assert all(statement.strip() == statement and statement for statement in statements)
    assert text.endswith(rest)
    assert sum(map(len, statements)) + len(rest) <= len(text)


def test_a_long_text_is_cut_in_linear_time() -> None:
    """A pattern that goes back and tries again would take hours."""
    for text in ("'" + "a\\" * 200_000, "/*" * 200_000, "-" * 400_000, "'a' " * 100_000):
        split(text)
