"""Whether a built site asks for nothing from elsewhere, and has what its pages point at.

python -m docs_site.check dist/docs
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

# Attributes whose address a browser fetches by itself, when it shows the page.
_FETCHED: Final = {
    ("audio", "src"), ("embed", "src"), ("iframe", "src"), ("img", "src"), ("img", "srcset"), ("input", "src"),
    ("link", "href"), ("object", "data"), ("script", "src"), ("source", "src"), ("source", "srcset"), ("video", "src"),
}  # fmt: skip
_IN_CSS: Final = re.compile(r"(?:url\(|@import\s)\s*[\"']?([^\"')\s]+)")


class _Addresses(HTMLParser):
    """The addresses of a page: those that are fetched with it, and those of its links."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and (tag, name) in _FETCHED:
                self.fetched.append(value)
            elif value and (tag, name) == ("a", "href"):
                self.links.append(value)


def complaints(site: Path) -> Iterator[str]:
    """What is wrong with a site, a line each."""
    pages = sorted(site.rglob("*.html"))
    if not pages:
        yield f"{site} has no pages"
    for page in pages:
        found = _Addresses()
        found.feed(page.read_text(encoding="utf-8"))
        name = page.relative_to(site)
        yield from (f"{name} fetches {each}" for each in found.fetched if _is_elsewhere(each))
        for address in (*found.fetched, *found.links):
            if not _is_elsewhere(address) and not _exists(address, page, site):
                yield f"{name} points at {address}, which is not there"
    for sheet in sorted(site.rglob("*.css")):
        addresses = _IN_CSS.findall(sheet.read_text(encoding="utf-8"))
        yield from (f"{sheet.relative_to(site)} fetches {each}" for each in addresses if _is_elsewhere(each))


def _is_elsewhere(address: str) -> bool:
    parts = urlsplit(address)
    return bool(parts.netloc) or parts.scheme in {"http", "https"}


def _exists(address: str, page: Path, site: Path) -> bool:
    parts = urlsplit(address)
    if parts.scheme or not parts.path:
        return True
    path = unquote(parts.path)
    target = site / path.lstrip("/") if path.startswith("/") else page.parent / path
    return target.is_file() or (target / "index.html").is_file()


def main(arguments: list[str]) -> int:
    """Print the complaints; the exit code is 1 if there are any."""
    found = [line for folder in arguments for line in complaints(Path(folder))]
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
