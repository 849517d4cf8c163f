"""What pages say that the code says too is what the code says now; `make generate` writes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cubequeue_server.arguments import COMMANDS
from cubequeue_server.settings.table import FAMILIES_WITHOUT_EFFECT, TABLE
from docs_site import rooms
from docs_site.generate import GENERATED, page
from docs_site.metrics import text as metrics_text
from tests.docs.blocks import ROOT


def written(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", GENERATED)
def test_a_page_is_what_would_be_generated(name: str) -> None:
    assert page(name, written(name)) == written(name), "make generate"


@pytest.mark.parametrize("text", ["no mark", "<!-- generated: begin -->\n<!-- generated: end -->" * 2])
def test_a_page_has_one_region(text: str) -> None:
    with pytest.raises(ValueError, match="generated regions"):
        page("settings.md", text)


def test_every_setting_is_on_its_page() -> None:
    text = written("settings.md")
    for setting in TABLE:
        names = setting.variables if setting.no_effect is None else setting.cubestore
        assert [name for name in names if f"`{name}`" not in text] == []
        assert setting.no_effect is not None or setting.is_secret or f"`{setting.flag}`" in text
    assert [prefix for prefix in FAMILIES_WITHOUT_EFFECT if f"`{prefix}…`" not in text] == []


def test_every_command_is_on_its_page() -> None:
    text = written("command-line.md")
    assert [name for name in COMMANDS if f"\n## {name}\n" not in text] == []


def test_a_metric_of_no_section_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("docs_site.metrics.SECTIONS", {"Process": ("process",)})
    with pytest.raises(ValueError, match="SECTIONS"):
        metrics_text()


def test_every_module_is_on_the_map() -> None:
    page_text = written("rooms.md")
    listed = [path for paths in rooms.modules().values() for path in paths]
    assert len(listed) > 150
    for path in listed:
        assert f"## `{path.parent.relative_to(rooms.ROOT)}`" in page_text
        assert f"| `{path.name}` |" in page_text


def test_a_module_says_what_it_is_for(tmp_path: Path) -> None:
    (tmp_path / "silent.py").write_text("x = 1\n")
    with pytest.raises(ValueError, match="does not say what it is for"):
        rooms.purpose(tmp_path / "silent.py")
