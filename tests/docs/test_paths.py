"""Files that the documents name exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT

DOCUMENTS = sorted(
    path
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"))
    if path.name != "CHANGELOG.md" and "spec" not in path.parts
)
_NAMED = re.compile(r"`((?:[a-z_]+/)+[a-z_]+\.py)`")
# Where a path of the documents may begin.
_ROOTS = (ROOT, ROOT / "cubequeue_server", ROOT / "storage")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_named_files_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    missing = [name for name in _NAMED.findall(text) if not any((root / name).exists() for root in _ROOTS)]
    assert not missing
