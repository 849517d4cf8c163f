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

from storage.errors import InternalError

# Real extras are a few hundred bytes. The bound keeps one merge from delaying everybody else's statements.
MAX_MERGE_BYTES = 256 << 10
MAX_DEPTH = 128

_NO_VALUE = "expected value at line 1 column 1"
_VALUE_STARTS = '{["-0123456789tfn \t\r\n'
_BLANKS = " \t\r\n"

_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[^ \t\r\n"]+', re.DOTALL)
# A string that never ends reaches to the end of the text, so that the search is linear for any text.
_STRING = re.compile(rb'"[^"\\]*(?:\\(?:.|\Z)[^"\\]*)*(?:"|\Z)', re.DOTALL)
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")


def merge_extra(stored: bytes | None, new: bytes) -> bytes | None:
    """The extra after MERGE_EXTRA. O(bytes of both).

    Raises InternalError if there is a stored extra, and it or the new one is not JSON, nests deeper than 128, or is
    longer than 256 KiB.
    """
    if stored is None:
        return new
    old_json, new_json = _compact(stored), _compact(new)
    if new_json == "null":
        return None
    if not (old_json.startswith("{") and new_json.startswith("{")):
        return new_json.encode()
    return ("{" + ",".join((_members(old_json) | _members(new_json)).values()) + "}").encode()


def _compact(extra: bytes) -> str:
    """A JSON text without the blanks between its tokens."""
    if len(extra) > MAX_MERGE_BYTES:
        raise InternalError(f"extra of {len(extra)} bytes, at most {MAX_MERGE_BYTES} are merged")
    if extra.count(b"[") + extra.count(b"{") > MAX_DEPTH and _depth(extra) > MAX_DEPTH:
        raise InternalError(f"extra nests deeper than {MAX_DEPTH}")
    try:
        text = extra.decode()
        _demand_json(text)
    except UnicodeDecodeError:
        raise InternalError("extra is not UTF-8 text") from None
    except StopIteration as stop:
        raise InternalError(f"extra is not JSON: no value (character {stop.value})") from None
    except JSONDecodeError as error:
        raise InternalError(f"extra is not JSON: {error.msg} (character {error.pos})") from None
    if any(blank in text for blank in _BLANKS):
        return "".join(_TOKEN.findall(text))
    return text


def _depth(extra: bytes) -> int:
    """How deep brackets nest outside of strings, whether or not they match."""
    steps = _STRING.sub(b"", extra).translate(_STEPS, _NOT_BRACKETS)
    return max(accumulate(array("b", steps)), default=0)


def _refuse_constant(name: str) -> NoReturn:
    raise JSONDecodeError(f"{name} is no value", name, 0)


# `str` leaves a number as the text it was: no int of a million digits is made.
_scan = JSONDecoder(parse_int=str, parse_float=str, parse_constant=_refuse_constant).scan_once  # type: ignore[attr-defined]


def _demand_json(text: str) -> None:
    """Raise unless the text is one JSON value; the text is at most 128 deep."""
    if text and text[0] not in _VALUE_STARTS:
        raise InternalError(_NO_VALUE)
    start = len(text) - len(text.lstrip(_BLANKS))
    _, end = _scan(text, start)
    if text[end:].strip(_BLANKS):
        raise JSONDecodeError("more after the value", text, end)


def _members(json: str) -> dict[str, str]:
    """The members of a compact JSON object by their names, each as it was written: `"name":value`."""
    members: dict[str, str] = {}
    name_at = 1
    while name_at < len(json) - 1:
        name, colon = scanstring(json, name_at + 1)
        _, end = _scan(json, colon + 1)
        members[name] = json[name_at:end]
        name_at = end + 1
    return members
