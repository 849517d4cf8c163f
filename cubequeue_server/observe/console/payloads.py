"""Payloads for people, of bounded length."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from msgspec import Raw, Struct, field
from msgspec.json import Decoder

from storage.vocabulary import Path

# Bounds for about a millisecond: objects of Python cost up to 0.4 µs a byte, to skip what is not wanted costs 2 ns.
_MAX_SKIMMED_BYTES: Final = 256 * 1024
_MAX_PARSED_BYTES: Final = 8 * 1024
_MAX_SHOWN: Final = 8_192  # characters
_MAX_DEPTH: Final = 4
_MAX_PARAMETERS: Final = 2_048
_LINES: Final = json.JSONEncoder(indent=2, ensure_ascii=False)


class _Object(Struct):
    inner: Raw = field(default=Raw(), name="query")


class _Array(Struct, array_like=True):
    inner: Raw = Raw()
    parameters: Raw = Raw()


_CONTAINERS: Final[Mapping[bytes, Decoder[_Object] | Decoder[_Array]]] = {
    b"{": Decoder(_Object),
    b"[": Decoder(_Array),
}


def readable(value: object) -> dict[str, Any] | None:
    """A payload for people: the SQL if Cube wrote it, else JSON in lines if it is short, else text; with its full size.

    Costs a millisecond or two, whatever the value.
    """
    if not isinstance(value, bytes):
        return None
    kind, text, parameters = "text", value[: 4 * _MAX_SHOWN].decode(errors="replace"), b""
    query = _query_of(value) if len(value) <= _MAX_SKIMMED_BYTES else None
    if query is not None:
        kind = "sql"
        text, parameters = query
    elif len(value) <= _MAX_PARSED_BYTES:
        content = _parsed(value)
        if isinstance(content, dict | list):
            kind, text = "json", _in_lines(content)
    return {
        "kind": kind,
        "text": text[:_MAX_SHOWN].encode(errors="replace").decode(),  # without lone surrogates, which JSON may contain
        "bytes": len(value),
        "is_cut": len(text) > _MAX_SHOWN or (kind == "text" and len(value) > 4 * _MAX_SHOWN),
        "parameters": parameters[:_MAX_PARAMETERS].decode(errors="replace") or None,
    }


def raw(value: bytes) -> dict[str, Any]:
    """A payload as it is: JSON in lines if it is short, else its beginning as text. At most a millisecond."""
    content = _parsed(value) if len(value) <= _MAX_PARSED_BYTES else None
    text = _in_lines(content) if isinstance(content, dict | list) else value[: 4 * _MAX_SHOWN].decode(errors="replace")
    shown = text[:_MAX_SHOWN].encode(errors="replace").decode()
    return {"text": shown, "is_cut": len(text) > _MAX_SHOWN or len(value) > 4 * _MAX_SHOWN}


def _in_lines(content: Any) -> str:
    """JSON with indentation, made no further than it is shown: of nested lists it may be a thousand times as long."""
    parts, size = [], 0
    for part in _LINES.iterencode(content):
        parts.append(part)
        size += len(part)
        if size > _MAX_SHOWN:
            break
    return "".join(parts)


def _parsed(value: bytes) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None


def _query_of(value: bytes) -> tuple[str, bytes] | None:
    """SQL and parameters. Cube nests its query: `{"query": {"query": ["SELECT …", [parameters], …]}}`."""
    inner, parameters = value.lstrip(), b""
    for _ in range(_MAX_DEPTH):
        decoder = _CONTAINERS.get(inner[:1])
        if decoder is None:
            break
        try:
            found = decoder.decode(inner)
        except (ValueError, RecursionError):
            return None
        inner = bytes(found.inner)
        parameters = bytes(found.parameters) if isinstance(found, _Array) else b""
    content = _parsed(inner) if inner[:1] == b'"' else None
    return (content, parameters) if isinstance(content, str) else None


def path_of(prefix: object, key: object) -> Path:
    """The path of a row, from its columns `prefix` and `key`."""
    assert isinstance(key, bytes)
    return b"%b:%b" % (prefix, key) if isinstance(prefix, bytes) else key
