"""Payloads and results as people can read them, of bounded length."""

from __future__ import annotations

import json
from typing import Any, Final

_MAX_PARSED_BYTES: Final = 256 * 1024  # a millisecond's work
_MAX_SHOWN: Final = 8_192  # characters
_MAX_DEPTH: Final = 8


def readable(value: bytes | None) -> dict[str, Any] | None:
    """The SQL of a payload if Cube wrote it, else its JSON in lines, else what it is; and how long it really is.

    Costs at most about a millisecond, whatever the value.
    """
    if value is None:
        return None
    kind, text = "text", value[: 4 * _MAX_SHOWN].decode(errors="replace")
    if len(value) <= _MAX_PARSED_BYTES:
        content = _parsed(value)
        sql = _sql_of(content)
        if sql is not None:
            kind, text = "sql", sql
        elif isinstance(content, dict | list):
            kind, text = "json", json.dumps(content, indent=2, ensure_ascii=False)
    return {
        "kind": kind,
        "text": _encodable(text[:_MAX_SHOWN]),
        "bytes": len(value),
        "is_cut": len(text) > _MAX_SHOWN or (kind == "text" and len(value) > 4 * _MAX_SHOWN),
    }


def _parsed(value: bytes) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None


def _sql_of(content: Any) -> str | None:
    """Cube nests its query: `{"query": {"query": ["SELECT …", [parameters], …]}}`."""
    for _ in range(_MAX_DEPTH):
        if isinstance(content, dict):
            content = content.get("query")
        elif isinstance(content, list) and content:
            content = content[0]
        else:
            break
    return content if isinstance(content, str) else None


def _encodable(text: str) -> str:
    """Without lone surrogates, which JSON can name and UTF-8 cannot."""
    return text.encode(errors="replace").decode()
