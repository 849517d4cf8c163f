"""The fenced blocks of a Markdown document."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PROTOCOL = (ROOT / "docs/protocol.md").read_text(encoding="utf-8")

_FENCED = re.compile(r"^```(?P<language>[\w-]*)\n(?P<body>.*?)^```$", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    """The lines between two fences; `line` is that of the first one in the document."""

    line: int
    lines: list[str]

    def __str__(self) -> str:
        return f"line-{self.line}"


def blocks(document: str, language: str) -> list[Block]:
    """All blocks of a language, in order."""
    return [
        Block(document.count("\n", 0, found.start("body")) + 1, found["body"].splitlines())
        for found in _FENCED.finditer(document)
        if found["language"] == language
    ]
