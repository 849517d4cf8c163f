"""Writes the pages that say what the code says: settings, command line, tables of the metrics, map of the code.

    python -m docs_site.generate        (make generate)

A test holds the files to what this would write (tests/docs/test_generated.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from docs_site import command_line, metrics, rooms, settings

DOCS: Final = Path(__file__).resolve().parents[1] / "docs"
_REGION: Final = re.compile(r"(<!-- generated: begin -->\n).*?(<!-- generated: end -->)", re.DOTALL)

# Of each page the text between its two marks.
GENERATED: Final[Mapping[str, Callable[[], str]]] = {
    "command-line.md": command_line.text,
    "metrics.md": metrics.text,
    "rooms.md": rooms.text,
    "settings.md": settings.text,
}


def page(name: str, old: str) -> str:
    """The page with the text between its marks made anew."""
    made = GENERATED[name]()
    text, count = _REGION.subn(lambda found: f"{found[1]}\n{made}\n{found[2]}", old)
    if count != 1:
        raise ValueError(f"{name} has {count} generated regions, not one")
    return text


def main() -> None:
    """Write each page whose text has changed."""
    for name in GENERATED:
        path = DOCS / name
        old = path.read_text(encoding="utf-8")
        new = page(name, old)
        if new != old:
            path.write_text(new, encoding="utf-8")
            print(f"docs/{name} written")


if __name__ == "__main__":
    main()
