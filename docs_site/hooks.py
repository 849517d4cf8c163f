"""What MkDocs calls while it builds the site: pages and files from outside docs/, and links to them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # MkDocs loads this file by its path

from mkdocs.structure.files import File

from docs_site.links import FILES, ROOT, ROOT_PAGES, for_the_site, repository_path

if TYPE_CHECKING:
    from mkdocs.structure.files import Files


def on_files(files: Files, *, config: Any) -> Files:
    """Add the pages of the root, the files that any page links to, and what draws the diagrams."""
    for page in ROOT_PAGES:
        files.append(File.generated(config, page, abs_src_path=str(ROOT / page)))
    linked: set[str] = set()
    for file in files.documentation_pages():
        text = (ROOT / repository_path(file.src_uri)).read_text(encoding="utf-8")
        for_the_site(text, file.src_uri, linked.add)
    for path in sorted(linked):
        files.append(File.generated(config, f"{FILES}/{path}", abs_src_path=str(ROOT / path)))
    # The one file of each kind that the configuration names.
    (mermaid,) = (ROOT / ".cache/docs").glob("mermaid-*.min.js")
    files.append(File.generated(config, str(config["extra_javascript"][0]), abs_src_path=str(mermaid)))
    files.append(File.generated(config, str(config["extra_css"][0]), abs_src_path=str(ROOT / "docs_site/site.css")))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: object) -> str:
    """The page with the links of the site."""
    return for_the_site(markdown, page.file.src_uri, lambda _path: None)
