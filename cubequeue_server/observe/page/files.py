"""The files of the page, read with their first request and kept."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from cubequeue_server.net.http_head import Answer, Head
from cubequeue_server.observe.status import Route

# Nothing but our own files, no inline script or style, no frame around it, no form that goes elsewhere.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}

_FILES: Final = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}


def file_routes() -> dict[str, Route]:
    """The routes of the page's files."""
    return {path: _route(name, content_type) for path, (name, content_type) in _FILES.items()}


def _route(name: str, content_type: str) -> Route:
    def answer(_request: Head) -> Answer:
        return Answer(200, _content(name), content_type, SECURITY_HEADERS)

    return answer


@cache
def _content(name: str) -> bytes:
    return Path(__file__).with_name(name).read_bytes()
