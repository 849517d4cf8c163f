"""The documentation as a site: links, what it fetches, and that a browser shows it without asking anybody else."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

import pytest

from docs_site.check import complaints
from docs_site.links import ROOT_PAGES, for_the_site
from tests.docs.blocks import ROOT
from tests.needed import require
from tests.page.browser import Tab, running_browser

SITE: Final = ROOT / "dist/docs"


@pytest.mark.parametrize(
    ("page", "link", "expected", "served"),
    [
        ("alerts.md", "[a](away.md)", "[a](away.md)", []),
        ("alerts.md", "[a](runbooks/slots.md#x)", "[a](runbooks/slots.md#x)", []),
        ("runbooks/slots.md", "[a](../durability.md)", "[a](../durability.md)", []),
        ("runbooks/slots.md", "[a](slow.md)", "[a](slow.md)", []),
        ("deployment.md", "[a](../README.md#docker)", "[a](README.md#docker)", []),
        ("spec/wire.md", "[a](../../CHANGELOG.md)", "[a](../CHANGELOG.md)", []),
        ("README.md", "[a](docs/metrics.md)", "[a](metrics.md)", []),
        ("README.md", "[a](docs/spec/README.md)", "[a](spec/README.md)", []),
        ("README.md", "[a](CONTRIBUTING.md)", "[a](CONTRIBUTING.md)", []),
        ("README.md", "[`a`](Makefile)", "[`a`](repository/Makefile)", ["Makefile"]),
        ("helm.md", "[a](../Dockerfile)", "[a](repository/Dockerfile)", ["Dockerfile"]),
        ("runbooks/slots.md", "[a](../../Dockerfile)", "[a](../repository/Dockerfile)", ["Dockerfile"]),
        ("helm.md", "see [the chart](../deploy/helm/) here", "see the chart here", []),
        ("helm.md", "[a](https://example.com/x)", "[a](https://example.com/x)", []),
        ("helm.md", "[a](#anchor)", "[a](#anchor)", []),
        ("helm.md", "```sh\n[a](../Dockerfile)\n```\n", "```sh\n[a](../Dockerfile)\n```\n", []),
        ("helm.md", "![a](performance.svg)", "![a](performance.svg)", []),
        ("README.md", "![a](docs/page.png)", "![a](page.png)", []),
        ("helm.md", "[a](gone.md)", "[a](gone.md)", []),  # MkDocs tells of it
    ],
)
def test_a_link_of_the_repository_on_the_site(page: str, link: str, expected: str, served: list[str]) -> None:
    told: list[str] = []
    assert for_the_site(link, page, told.append) == expected
    assert told == served


@pytest.mark.parametrize(
    "page", [*ROOT_PAGES, *(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/**/*.md"))]
)
def test_links_between_files_work_in_the_repository(page: str) -> None:
    """The same targets as those that the site is made with, looked up where they stand."""
    targets: list[str] = []
    name = page.removeprefix("docs/")
    made = for_the_site((ROOT / page).read_text(encoding="utf-8"), name, targets.append)
    assert [target for target in targets if not (ROOT / target).is_file()] == []
    assert "](../docs/" not in made


@pytest.mark.parametrize(
    ("html", "complaint"),
    [
        ('<script src="https://cdn.example.com/x.js"></script>', "index.html fetches https://cdn.example.com/x.js"),
        ('<link rel="stylesheet" href="//fonts.example.com/x">', "index.html fetches //fonts.example.com/x"),
        ('<a href="gone/">x</a>', "index.html points at gone/, which is not there"),
        ('<img src="gone.png">', "index.html points at gone.png, which is not there"),
        ('<a href="https://example.com/">x</a><a href="#x">x</a><a href="page/#x">x</a>', None),
    ],
)
def test_a_check_of_a_site(html: str, complaint: str | None, tmp_path: Path) -> None:
    (tmp_path / "page").mkdir()
    (tmp_path / "page/index.html").write_text('<a href="..">up</a>')
    (tmp_path / "index.html").write_text(html)
    (tmp_path / "site.css").write_text("a { background: url(data:image/png;base64,AA) }")
    assert list(complaints(tmp_path)) == ([] if complaint is None else [complaint])
    (tmp_path / "site.css").write_text('@import "https://fonts.example.com/x";')
    assert "site.css fetches https://fonts.example.com/x" in list(complaints(tmp_path))


def test_an_empty_folder_is_no_site(tmp_path: Path) -> None:
    assert list(complaints(tmp_path)) == [f"{tmp_path} has no pages"]


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing: a test prints no requests."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The built site on a port of its own."""
    require((SITE / "index.html").is_file(), "the site: make docs")
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(SITE))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def tab() -> Iterator[Tab]:
    with running_browser() as browser, browser.tab() as made:
        yield made


def open_page(tab: Tab, address: str) -> None:
    """Open a page and wait until it is there and laid out."""
    tab.open(address)
    is_there = f"location.href == '{address}' && document.readyState == 'complete'"
    tab.until(f"{is_there} && document.documentElement.clientWidth > 0")


def test_a_browser_asks_nobody_else_and_draws_the_diagrams(address: str, tab: Tab) -> None:
    for page, ready in (
        ("", "document.querySelector('h1').innerText.includes('cubequeue')"),
        # Material puts the drawing into a closed shadow root of a `div` in the place of the `pre`.
        ("architecture/", "document.querySelector('div.mermaid')?.offsetHeight > 100"),
        ("protocol/", "document.querySelectorAll('div.mermaid').length == 4"),
    ):
        open_page(tab, address + page)
        tab.until(ready)
        tab.screenshot(f"docs-{page.strip('/') or 'home'}")
    assert {each for each in tab.requested() if not each.startswith((address, "data:", "blob:"))} == set()
    assert tab.complaints() == []


def test_the_search_finds_a_setting(address: str, tab: Tab) -> None:
    open_page(tab, address)
    # The theme loads its index when the field has the focus, and looks at its text when a key goes up.
    ask = "query.focus(); query.value = 'CUBEQUEUE_SLOW_STATEMENT'; query.dispatchEvent(new Event('keyup'));"
    found = "[...document.querySelectorAll('.md-search-result__link')].some(each => each.href.includes('settings/'))"
    field = "document.querySelector('[data-md-component=search-query]')"
    tab.until(f"(query => {{ {ask} return {found} }})({field})")
