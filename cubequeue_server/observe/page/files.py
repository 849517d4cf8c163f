"""The files of the console's page: HTML, modules of JavaScript, style, and uPlot for charts (MIT, vendor/)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path as FilePath
from typing import Final

from cubequeue_server.net.http_head import Answer, Head
from cubequeue_server.observe.status import Route

_FOLDER: Final = FilePath(__file__).parent
_TYPES: Final[Mapping[str, str]] = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
# Only files of this server, no inline script or style, no frame around the page, no form to another site.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


def files() -> dict[str, Route]:
    """Routes of GET: the page at `/`, and each other file under its name."""
    found = sorted(path for path in _FOLDER.rglob("*") if path.suffix in _TYPES)
    names = {f"/{path.relative_to(_FOLDER).as_posix()}": path for path in found if path.name != "page.html"}
    return {path: partial(_file, file) for path, file in {"/": _FOLDER / "page.html", **names}.items()}


def _file(path: FilePath, _request: Head) -> Answer:
    return Answer(200, _content(path), _TYPES[path.suffix], _HEADERS)


@cache
def _content(path: FilePath) -> bytes:
    return path.read_bytes()
