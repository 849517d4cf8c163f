"""MERGE_EXTRA (commands.md §4.8)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import InternalError
from storage.queue.merge import MAX_DEPTH, MAX_MERGE_BYTES, merge_extra

BIG = b"9" * 10_000


@pytest.mark.parametrize(
    ("stored", "new", "merged"),
    [
        (None, b'{"a" : 1}', b'{"a" : 1}'),
        (None, b"not JSON", b"not JSON"),
        (None, b"null", b"null"),
        (None, b"\xff", b"\xff"),
        (b"{}", b"{}", b"{}"),
        (b'{"a":1}', b"{}", b'{"a":1}'),
        (b'{"a":1}', b'{"b":2}', b'{"a":1,"b":2}'),
        (b'{"a":1,"b":2}', b'{"a":{"c":3}}', b'{"a":{"c":3},"b":2}'),
        (b'{"a":{"x":1}}', b'{"a":{"y":2}}', b'{"a":{"y":2}}'),
        (b'{"a":1,"a":2}', b'{"b":3,"b":4}', b'{"a":2,"b":4}'),
        (b'{"\\u0061":1}', b'{"a":2}', b'{"a":2}'),
        (b'{"a":1}', b"null", None),
        (b"5", b" null\n", None),
        (b'{"a":1}', b"[1, 2]", b"[1,2]"),
        (b"[1]", b'{"a": 1}', b'{"a":1}'),
        (b'"text"', b"true", b"true"),
        (b' { "a" : [ 1 , "b  c" ] } ', b'\t{"d":\r\n"  "}', b'{"a":[1,"b  c"],"d":"  "}'),
        (b'{"a":"\\" "}', b'{ "b":"{\\\\"}', b'{"a":"\\" ","b":"{\\\\"}'),
        (b'{"n":1e2}', b'{"m":0.10}', b'{"n":1e2,"m":0.10}'),
        (b'{"n":' + BIG + b"}", b"{}", b'{"n":' + BIG + b"}"),
        (b"{}", b'{"n":-' + BIG + b".5}", b'{"n":-' + BIG + b".5}"),
        ('{"é":"😀"}'.encode(), b'{"\\ud800":"\\ud800"}', '{"é":"😀","\\ud800":"\\ud800"}'.encode()),
        (b'{"":0}', b'{"":1}', b'{"":1}'),
    ],
)
def test_merged(stored: bytes | None, new: bytes, merged: bytes | None) -> None:
    assert merge_extra(stored, new) == merged


LISTED = "Internal: expected value at line 1 column 1"
OTHER = "Internal: extra "


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        (b"x", LISTED),
        (b"NaN", LISTED),
        (b"Infinity", LISTED),
        (b"}", LISTED),
        (b"", OTHER),
        (b" ", OTHER),
        (b" x", OTHER),
        (b"nul", OTHER),
        (b"-Infinity", OTHER),
        (b'{"a":NaN}', OTHER),
        (b'{"a":[Infinity]}', OTHER),
        (b"{", OTHER),
        (b'{"a"}', OTHER),
        (b'{"a":1,}', OTHER),
        (b"{'a':1}", OTHER),
        (b'{"a":1}}', OTHER),
        (b"1 2", OTHER),
        (b'{"a":"\n"}', OTHER),
        (b'{"a":"', OTHER),
        (b"01", OTHER),
        (b"\xff", OTHER),
        (b'"\xff"', OTHER),
        (b'{"a":' * 500_000, OTHER),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), OTHER),
        (b"[" * 100_000, OTHER),
        (b'{"a":' * 10_000, OTHER),
        (b'"' + b" " * MAX_MERGE_BYTES + b'"', OTHER),
    ],
    ids=range(27),
)
def test_refused_on_either_side(text: bytes, refusal: str) -> None:
    for stored, new in ((b"{}", text), (text, b"{}")):
        with pytest.raises(InternalError) as caught:
            merge_extra(stored, new)
        assert caught.value.wire_text == refusal if refusal is LISTED else caught.value.wire_text.startswith(refusal)


@pytest.mark.parametrize(
    "text",
    [
        b"[" * MAX_DEPTH + b"]" * MAX_DEPTH,
        b'{"a":' * MAX_DEPTH + b"1" + b"}" * MAX_DEPTH,
        b'{"a":"' + b"[" * 1_000 + b'\\""}',
        b"[" + b"[]," * 1_000 + b"[]]",
    ],
    ids=["arrays", "objects", "in a string", "side by side"],
)
def test_not_too_deep(text: bytes) -> None:
    assert merge_extra(b"{}", text) == text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(max_size=3), JSON, max_size=4)
INDENTS = st.sampled_from([None, 1, "\t"])


@given(OBJECTS | JSON, OBJECTS | JSON, INDENTS, st.booleans())
def test_against_json(stored: Any, new: Any, indent: int | str | None, ensure_ascii: bool) -> None:
    def dump(value: Any) -> bytes:
        return json.dumps(value, indent=indent, ensure_ascii=ensure_ascii).encode("utf-8", "surrogatepass")

    merged = merge_extra(dump(stored), dump(new))
    if new is None:
        assert merged is None
        return
    expected = stored | new if isinstance(stored, dict) and isinstance(new, dict) else new
    assert merged is not None
    assert json.loads(merged) == expected
    assert len(merged) == len(json.dumps(json.loads(merged), separators=(",", ":"), ensure_ascii=ensure_ascii).encode())


def refuse(constant: str) -> None:
    raise ValueError(constant)


@given(st.binary(max_size=40) | st.text(alphabet='{}[]",:\\ntu01e-+. ', max_size=40).map(str.encode))
def test_any_bytes_are_merged_or_refused(text: bytes) -> None:
    try:
        merged = merge_extra(b"{}", text)
    except InternalError:
        with pytest.raises(ValueError):  # noqa: PT011  # what json and the decoder raise has no other name in common
            json.loads(text.decode(), parse_constant=refuse)
        return
    assert merged is None or json.loads(merged) == json.loads(text)
