"""The map of all modules: what each is for, as the first sentence of its docstring says."""

from __future__ import annotations

import ast
from pathlib import Path

from docs_site.tables import code, table

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ("cubequeue_server", "protocol", "storage")


def modules() -> dict[str, list[Path]]:
    """The modules of each package, by its folder. A package without a docstring of its own is not a module."""
    found: dict[str, list[Path]] = {}
    for layer in LAYERS:
        for path in sorted((ROOT / layer).rglob("*.py")):
            if path.stat().st_size:
                found.setdefault(str(path.parent.relative_to(ROOT)), []).append(path)
    return found


def purpose(path: Path) -> str:
    """The first sentence of the docstring. Raises ValueError without one."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    if not text:
        raise ValueError(f"{path} does not say what it is for")
    return " ".join(text.split("\n\n")[0].split())


def text() -> str:
    """One table a folder."""
    parts = []
    for folder, paths in modules().items():
        rows = [(code(path.name), purpose(path)) for path in paths]
        parts.append(f"## {code(folder)}\n\n{table(('module', 'what it is for'), rows)}")
    return "\n\n".join(parts)
