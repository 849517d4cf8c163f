"""MERGE_EXTRA: one JSON text merged over another (commands.md §4.8).

The merge is shallow, so values are checked but never rebuilt: numbers of any length, floats and escapes come out
as they were written, only without the blanks between tokens.
"""

from __future__ import annotations

import re
from array import array
from itertools import accumulate
from json import JSONDecodeError, JSONDecoder
from json.decoder import scanstring  # type: ignore[attr-defined]  # typeshed does not know it
from typing import NoReturn

from storage.errors import InternalError, UserError
from storage.limits import MIB

# Real extras are a few hundred bytes. The bound keeps one merge from delaying everybody else's statements.
MAX_MERGE_BYTES = MIB
MAX_DEPTH = 128

_NO_VALUE = "expected value at line 1 column 1"
_VALUE_STARTS = '{["-0123456789tfn \t\r\n'

_BLANKS = re.compile(r"[ \t\r\n]*")
_BLANKS_OUTSIDE_STRINGS = re.compile(r'("[^"\\]*(?:\\.[^"\\]*)*")|[ \t\r\n]+', re.DOTALL)
# A string that never ends is taken to the end, so that the search is linear.
_STRING = re.compile(rb'"[^"\\]*(?:\\(?:.|\Z)[^"\\]*)*(?:"|\Z)', re.DOTALL)
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")


def merge_extra(stored: bytes | None, new: bytes) -> bytes | None:
    """The extra after MERGE_EXTRA. O(bytes of both).

    Raises InternalError if there is a stored extra and it or the new one is not JSON, or nests deeper than 128;
    UserError if either is longer than 1 MiB.
    """
    if stored is None:
        return new
    old_text, new_text = _checked_text(stored), _checked_text(new)
    old_members, new_members = _members(old_text), _members(new_text)
    if new_text.strip() == "null":
        return None
    if old_members is None or new_members is None:
        return _compact(new_text).encode()
    return ("{" + ",".join((old_members | new_members).values()) + "}").encode()


def _checked_text(extra: bytes) -> str:
    if len(extra) > MAX_MERGE_BYTES:
        raise UserError(
            f"QUEUE MERGE_EXTRA refused: an extra of {len(extra)} bytes, at most {MAX_MERGE_BYTES} are merged"
        )
    if extra.count(b"[") + extra.count(b"{") > MAX_DEPTH and _depth(extra) > MAX_DEPTH:
        raise InternalError(f"extra nests deeper than {MAX_DEPTH}")
    try:
        return extra.decode()
    except UnicodeDecodeError as error:
        raise InternalError("extra is not UTF-8 text") from error


def _depth(extra: bytes) -> int:
    """How deep brackets nest outside of strings, whether or not they match."""
    steps = _STRING.sub(b"", extra).translate(_STEPS, _NOT_BRACKETS)
    return max(accumulate(array("b", steps)), default=0)


def _refuse_constant(name: str) -> NoReturn:
    raise JSONDecodeError(f"{name} is not JSON", name, 0)


# `str` leaves a number as the text it was: no int of a million digits is made.
_scan = JSONDecoder(parse_int=str, parse_float=str, parse_constant=_refuse_constant).scan_once  # type: ignore[attr-defined]


def _members(text: str) -> dict[str, str] | None:
    """The members of a JSON object, by name, as they were written: `"name":value`. None for any other JSON."""
    if text[:1] not in _VALUE_STARTS or not text:
        raise InternalError(_NO_VALUE if text else "extra is empty, not JSON")
    try:
        if text.lstrip(" \t\r\n").startswith("{"):
            return _object(text)
        _demand_end(text, _scan(text, _skip(text, 0))[1])
        return None
    except StopIteration as stop:
        raise InternalError(f"extra is not JSON: no value at character {stop.value}") from None
    except ValueError as error:
        raise InternalError(f"extra is not JSON: {error}") from None


def _object(text: str) -> dict[str, str]:
    members: dict[str, str] = {}
    at = _skip(text, _skip(text, 0) + 1)
    if text[at : at + 1] == "}":
        _demand_end(text, at + 1)
        return members
    while True:
        name_at = at
        _demand(text, at, '"')
        name, at = scanstring(text, at + 1, True)
        written_name = text[name_at:at]
        at = _skip(text, at)
        _demand(text, at, ":")
        value_at = _skip(text, at + 1)
        _, at = _scan(text, value_at)
        members[name] = f"{written_name}:{_compact(text[value_at:at])}"
        at = _skip(text, at)
        if text[at : at + 1] == "}":
            _demand_end(text, at + 1)
            return members
        _demand(text, at, ",")
        at = _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    match = _BLANKS.match(text, at)
    assert match is not None
    return match.end()


def _demand(text: str, at: int, character: str) -> None:
    if text[at : at + 1] != character:
        raise JSONDecodeError(f"expected {character}", text, at)


def _demand_end(text: str, at: int) -> None:
    if _skip(text, at) != len(text):
        raise JSONDecodeError("trailing characters", text, at)


def _compact(text: str) -> str:
    """JSON without the blanks outside of strings."""
    if not any(blank in text for blank in " \t\r\n"):
        return text
    return _BLANKS_OUTSIDE_STRINGS.sub(r"\1", text)
