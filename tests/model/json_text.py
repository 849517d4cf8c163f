"""MERGE_EXTRA's rules over JSON text, in the plainest words (commands.md §4.8)."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.model.records import JsonTextError

MAX_NESTING = 128
LISTED_TEXT = "expected value at line 1 column 1"
OTHER_TEXT = "not JSON"
STARTS_OF_JSON = b'{["-0123456789tfn \t\r\n'


def merge_extra(stored: bytes | None, new: bytes) -> bytes | None:
    """The five rows of the table of commands.md §4.8, top to bottom."""
    if stored is None:
        return new
    old_value, new_value = parse(stored), parse(new)
    if new_value is None:
        return None
    if isinstance(old_value, dict) and isinstance(new_value, dict):
        return compact(old_value | new_value)
    return compact(new_value)


def parse(text: bytes) -> Any:
    """JSON as RFC 8259 has it: no NaN, at most 128 levels (decisions, "Ids, time, texts")."""
    try:
        value = json.loads(text.decode("utf-8"), parse_constant=_refuse)
        depth = nesting(value)
    except (ValueError, RecursionError) as error:
        raise JsonTextError(OTHER_TEXT if text[:1] in STARTS_OF_JSON else LISTED_TEXT) from error
    if depth > MAX_NESTING:
        raise JsonTextError(OTHER_TEXT)
    return value


def compact(value: Any) -> bytes:
    """Without blanks, and without escapes where text has a form of its own: a lone surrogate has none."""
    try:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


def is_compact(text: bytes) -> bool:
    """No blank stands between two tokens."""
    return re.search(rb"[ \t\r\n]", re.sub(rb'"(?:\\.|[^"\\])*"', b"", text)) is None


def nesting(value: Any) -> int:
    """How many arrays and objects stand in each other."""
    if isinstance(value, dict):
        return 1 + max(map(nesting, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(nesting, value), default=0)
    return 0


def same_json(one: bytes | None, other: bytes | None) -> bool:
    """Equal texts, or compact JSON of the same value: the key order of a merged object is unspecified."""
    if one == other:
        return True
    if one is None or other is None:
        return False
    try:
        one_value, other_value = parse(one), parse(other)
    except JsonTextError:
        return False
    return is_compact(one) and is_compact(other) and bool(one_value == other_value)


def _refuse(constant: str) -> None:
    raise ValueError(constant)
