"""Queues, rows and payloads as the JSON that the live page shows, of bounded length."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Any, Final

from msgspec import Raw, Struct, field
from msgspec.json import Decoder

from cubequeue_server.observe.metrics.sources import OTHER, label
from storage.stats import QueueFigures, QueueStats
from storage.vocabulary import Path, Row

_MAX_ID_BYTES: Final = 2_048
# Bounds for about a millisecond: objects of Python cost up to 0.4 µs a byte, to skip what is not wanted costs 2 ns.
_MAX_SKIMMED_BYTES: Final = 256 * 1024
_MAX_PARSED_BYTES: Final = 8 * 1024
_MAX_SHOWN: Final = 8_192  # characters
_MAX_DEPTH: Final = 4
_LINES: Final = json.JSONEncoder(indent=2, ensure_ascii=False)


class _Object(Struct):
    inner: Raw = field(default=Raw(), name="query")


class _Array(Struct, array_like=True):
    inner: Raw = Raw()


_CONTAINERS: Final[Mapping[bytes, Decoder[_Object] | Decoder[_Array]]] = {
    b"{": Decoder(_Object),
    b"[": Decoder(_Array),
}


def queue_json(name: str, figures: QueueFigures | None, totals: QueueStats | None, waiters: int) -> dict[str, Any]:
    """A queue of the overview; `name` is its label. Queues without totals of their own have null there."""
    # Their events are counted under `other` (docs/metrics.md, "Labels").
    counted: dict[str, int | None] = dict.fromkeys(("claimed", "added", "ended"))
    if totals is not None:
        counted.update(claimed=totals.claimed, added=totals.added, ended=totals.ended)
    return {
        "name": name,
        "id": None if figures is None or name == OTHER else encoded(figures.prefix),
        "pending": 0 if figures is None else figures.pending,
        "active": 0 if figures is None else figures.active,
        "waiting": waiters,
        "oldest_ms": None if figures is None else figures.oldest_pending_ms,
        "heartbeat_ms": None if figures is None else figures.oldest_heartbeat_ms,
        **counted,
    }


def item_json(row: Row) -> dict[str, Any]:
    """A row of system.queue. At most two milliseconds, whatever its payload."""
    key, prefix, created_ms, status, priority, heartbeat_ms, orphaned_ms, value, extra, *rest = row
    owner, exclusive, external, claimed_by, claimed_peer = rest
    return {
        "item": encoded(path_of(prefix, key)),
        "key": _text(key),
        "state": _text(status),
        "priority": priority,
        "created_ms": created_ms,
        "heartbeat_ms": heartbeat_ms,
        "orphaned_ms": orphaned_ms,
        "owner": _text(owner),
        "claimed_by": _text(claimed_by),
        "claimed_peer": _text(claimed_peer),
        "is_exclusive": exclusive,
        "external_id": _text(external),
        "payload": readable(value),
        "extra": readable(extra),
    }


def result_json(row: Row) -> dict[str, Any]:
    """A row of system.queue_results. At most a millisecond, whatever its value."""
    id_, path, expire_ms, is_taken, value, external = row
    return {
        "id": id_,
        "key": _text(path),
        "expire_ms": expire_ms,
        "is_taken": is_taken,
        "external_id": _text(external),
        "value": readable(value),
    }


def readable(value: object) -> dict[str, Any] | None:
    """A payload for people: the SQL if Cube wrote it, else JSON in lines if it is short, else text; with its full size.

    Costs a millisecond or two, whatever the value.
    """
    if not isinstance(value, bytes):
        return None
    kind, text = "text", value[: 4 * _MAX_SHOWN].decode(errors="replace")
    sql = _sql_of(value) if len(value) <= _MAX_SKIMMED_BYTES else None
    if sql is not None:
        kind, text = "sql", sql
    elif len(value) <= _MAX_PARSED_BYTES:
        content = _parsed(value)
        if isinstance(content, dict | list):
            kind, text = "json", _in_lines(content)
    return {
        "kind": kind,
        "text": text[:_MAX_SHOWN].encode(errors="replace").decode(),  # without lone surrogates, which JSON may contain
        "bytes": len(value),
        "is_cut": len(text) > _MAX_SHOWN or (kind == "text" and len(value) > 4 * _MAX_SHOWN),
    }


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


def _sql_of(value: bytes) -> str | None:
    """Cube nests its query: `{"query": {"query": ["SELECT …", [parameters], …]}}`."""
    inner = value.lstrip()
    for _ in range(_MAX_DEPTH):
        decoder = _CONTAINERS.get(inner[:1])
        if decoder is None:
            break
        try:
            inner = bytes(decoder.decode(inner).inner)
        except (ValueError, RecursionError):
            return None
    content = _parsed(inner) if inner[:1] == b'"' else None
    return content if isinstance(content, str) else None


def path_of(prefix: object, key: object) -> Path:
    """The path of a row, from its columns `prefix` and `key`."""
    assert isinstance(key, bytes)
    return b"%b:%b" % (prefix, key) if isinstance(prefix, bytes) else key


def encoded(path: Path) -> str | None:
    """A path for the query of a URL; None when it is too long for one."""
    return urlsafe_b64encode(path).decode() if len(path) <= _MAX_ID_BYTES else None


def decoded(text: str) -> Path | None:
    """The path that `encoded` encoded; None when the text is none."""
    try:
        return urlsafe_b64decode(text.encode("ascii"))
    except ValueError:
        return None


def _text(value: object) -> str | None:
    return label(value) if isinstance(value, bytes) else None
