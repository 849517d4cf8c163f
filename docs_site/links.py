"""Links between files of the repository, as they are on the site.

In the repository a link is relative to its file, so that it works there. On the site the files of docs/ are at the top,
with some pages of the repository's root beside them. Other files that a page links to are served as they are, below
`repository/`; a folder has no page, so its link becomes plain text.
"""

from __future__ import annotations

import os.path
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
ROOT_PAGES: Final = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
FILES: Final = "repository"

_FENCE: Final = re.compile(r"^(```|~~~).*?^\1[ \t]*$", re.DOTALL | re.MULTILINE)
_LINK: Final = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")


def repository_path(page: str) -> str:
    """The path in the repository of a page of the site."""
    return page if page in ROOT_PAGES else f"docs/{page}"


def for_the_site(text: str, page: str, serve: Callable[[str], None]) -> str:
    """The text of a page with the links of the site; `serve` is told of each file that the site has to have."""

    def link(found: re.Match[str]) -> str:  # or a picture
        mark_of_picture, label, target = found.groups()
        if re.match(r"[a-z]+:|#", target):
            return found[0]
        path, mark, anchor = target.partition("#")
        place = os.path.normpath(PurePosixPath(repository_path(page)).parent / path)
        if (ROOT / place).is_dir():
            return label
        return f"{mark_of_picture}[{label}]({_relative(_on_site(place, serve), page)}{mark}{anchor})"

    parts, end = [], 0
    for fence in _FENCE.finditer(text):
        parts += [_LINK.sub(link, text[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, _LINK.sub(link, text[end:])])


def _on_site(place: str, serve: Callable[[str], None]) -> str:
    """Where the site has a file of the repository; one that does not exist keeps its place, and MkDocs tells of it."""
    if place in ROOT_PAGES:
        return place
    if place.startswith("docs/"):
        return place.removeprefix("docs/")
    if (ROOT / place).is_file():
        serve(place)
        return f"{FILES}/{place}"
    return place


def _relative(place: str, page: str) -> str:
    return os.path.relpath(place, PurePosixPath(page).parent)
