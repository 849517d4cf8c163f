"""Lists for people: the parameters of a request, and one page of a longer list as JSON."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

from cubequeue_server.client_names import ClientNames
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
    """A whole number of at most 16 digits, as ids have, None when it is not given. Raises BadRequestError."""
    text = request.parameters.get(name)
    if text is None or not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 16):
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


def bounds(request: Head) -> tuple[int, int]:
    """The first row that is asked for, and the one behind the last, by `offset` and `limit`. Raises BadRequestError."""
    offset = min(number(request, "offset") or 0, _MAX_OFFSET)
    given = number(request, "limit")
    return offset, offset + (_DEFAULT_ROWS if given is None else max(1, min(given, _MAX_ROWS)))


def place(offset: int, end: int, total: int) -> dict[str, Any]:
    """The fields that tell which rows of how many these are."""
    return {"offset": offset, "next": end if end < total else None, "total": total}


def page(request: Head, found: Sequence[T]) -> tuple[Sequence[T], dict[str, Any]]:
    """The rows of a request, and the fields that tell where they are. Raises BadRequestError."""
    offset, end = bounds(request)
    return found[offset:end], place(offset, end, len(found))


def encoded(path: Path) -> str | None:
    """A path for the query of a URL; None when it is too long for one."""
    return urlsafe_b64encode(path).decode() if len(path) <= _MAX_ID_BYTES else None


def path_of(request: Head, name: str) -> Path | None:
    """The path that a parameter names by its id, None when it is not given. Raises BadRequestError."""
    text = request.parameters.get(name)
    if text is None:
        return None
    try:
        return urlsafe_b64decode(text.encode("ascii"))
    except ValueError:
        raise BadRequestError(f"{name} is no id") from None


def needed_path(request: Head, name: str) -> Path:
    """The same of a parameter that has to be given. Raises BadRequestError."""
    path = path_of(request, name)
    if path is None:
        raise BadRequestError(f"{name} is missing: an id")
    return path


def owner(process_id: object, peer: object, names: ClientNames, user: object = None) -> dict[str, str | None] | None:
    """A client that did something; None for nobody."""
    if process_id is None and peer is None and user is None:
        return None
    process = process_id if isinstance(process_id, bytes) else None
    address = peer.decode(errors="replace") if isinstance(peer, bytes) else ""
    return {
        "process": shown(process),
        "peer": address or None,
        "name": names.name_of(process, address),
        "user": shown(user),
    }


def shown(value: object) -> str | None:
    """A cell as a text of bounded length."""
    return label(value) if isinstance(value, bytes) else None


def answer(content: Mapping[str, Any], status: int = 200) -> Answer:
    """An answer in JSON."""
    return Answer(status, json.dumps(content).encode(), "application/json", HEADERS)
