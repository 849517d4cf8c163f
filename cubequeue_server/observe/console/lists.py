"""Lists for people: the parameters of a request, and one page of a longer list as JSON."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

from cubequeue_server.net.http_head import Answer, Head
from cubequeue_server.observe.metrics.sources import label
from storage.vocabulary import Path

_MAX_ID_BYTES: Final = 2_048
_DEFAULT_ROWS: Final = 50
_MAX_ROWS: Final = 100
_MAX_OFFSET: Final = 1_000_000
_MAX_TEXT: Final = 200

HEADERS: Final[Mapping[str, str]] = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}

T = TypeVar("T")


class BadRequestError(Exception):
    """A parameter that cannot be used; the text says which."""


def number(request: Head, name: str) -> int | None:
    """A whole number of at most 15 digits, None when it is not given. Raises BadRequestError."""
    text = request.parameters.get(name)
    if text is None or not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise BadRequestError(f"{name} is not a whole number")
    return int(text)


def choice(request: Head, name: str, allowed: Sequence[str], default: str) -> str:
    """One of some words. Raises BadRequestError."""
    text = request.parameters.get(name) or default
    if text not in allowed:
        raise BadRequestError(f"{name} is none of {', '.join(allowed)}")
    return text


def wanted_text(request: Head, name: str) -> str:
    """A text to search for, in lower case and of bounded length."""
    return request.parameters.get(name, "")[:_MAX_TEXT].lower()


def page(request: Head, found: Sequence[T]) -> tuple[Sequence[T], dict[str, Any]]:
    """The rows of a request, by `offset` and `limit`, and the fields that tell where they are."""
    offset = min(number(request, "offset") or 0, _MAX_OFFSET)
    given = number(request, "limit")
    limit = _DEFAULT_ROWS if given is None else max(1, min(given, _MAX_ROWS))
    end = offset + limit
    return found[offset:end], {"offset": offset, "next": end if end < len(found) else None, "total": len(found)}


def encoded(path: Path) -> str | None:
    """A path for the query of a URL; None when it is too long for one."""
    return urlsafe_b64encode(path).decode() if len(path) <= _MAX_ID_BYTES else None


def queue_of(request: Head) -> Path | None:
    """The queue of a request, None when it names none. Raises BadRequestError."""
    text = request.parameters.get("queue")
    if text is None:
        return None
    try:
        return urlsafe_b64decode(text.encode("ascii"))
    except ValueError:
        raise BadRequestError("queue is no id of a queue") from None


def shown(value: object) -> str | None:
    """A cell as a text of bounded length."""
    return label(value) if isinstance(value, bytes) else None


def answer(content: Mapping[str, Any], status: int = 200) -> Answer:
    """An answer in JSON."""
    return Answer(status, json.dumps(content).encode(), "application/json", HEADERS)
