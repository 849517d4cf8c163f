"""The page in a real browser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cli.running import Running, serving
from tests.page.browser import Browser, Tab, running_browser
from tests.page.filling import AUTHORIZATION, HOSTILE, PASSWORD, USER, fill, run


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as running:
        yield running


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serving("--durability", "memory") as running:
        fill(running)
        yield running


@pytest.fixture
def tab(browser: Browser, server: Running) -> Iterator[Tab]:
    with browser.tab() as opened:
        opened.resize(1280, 900)
        show(opened, server)
        yield opened


def show(tab: Tab, server: Running) -> None:
    tab.open(f"http://{server.status[0]}:{server.status[1]}/")
    tab.until("document.getElementById('state')?.textContent === 'live'")


def row_of(name: str) -> str:
    return f"[...document.querySelectorAll('#queue-table tbody tr')].find(row => row.textContent.startsWith('{name}'))"


def open_queue(tab: Tab, name: str) -> None:
    tab.evaluate(f"{row_of(name)}.querySelector('button').click()")
    tab.until("document.querySelectorAll('#rows > li').length > 0")


def test_queues_and_cache_are_live(tab: Tab, server: Running) -> None:
    pending = f"{row_of('SQL_QUERY')}.querySelector('td[data-name=Pending] .number').textContent"
    before = int(tab.evaluate(pending))
    run(server, [("QUEUE ADD PRIORITY 1 ? 'x'", [f"SQL_QUERY:new{before}".encode()])])
    tab.until(f"{pending} === '{before + 1}'")
    tab.until(f"{row_of('SQL_QUERY')}.querySelector('polyline').getAttribute('points').split(' ').length >= 3")
    assert "now" in tab.evaluate(f"{row_of('SQL_QUERY')}.querySelector('svg').getAttribute('aria-label')")
    tab.until("document.querySelector('#cache-table tbody').textContent.includes('50.0 %')")
    assert tab.complaints() == []
    tab.screenshot("overview-light")


def test_items_payloads_and_results_can_be_read(tab: Tab) -> None:
    open_queue(tab, "SQL_QUERY")
    assert tab.evaluate("document.activeElement.id") == "queue-name"
    assert tab.evaluate("document.querySelectorAll('#rows > li').length") == 25
    assert "Claimed from127.0.0.1:" in tab.evaluate("document.querySelector('#rows > li').textContent")
    assert tab.evaluate("document.querySelector('#rows details').open") is False
    tab.evaluate("document.querySelector('#rows summary').click()")
    assert tab.evaluate("document.querySelector('#rows pre').textContent") == "SELECT 1 FROM orders"
    assert not tab.evaluate("document.querySelectorAll('#rows button').length")  # nobody may cancel here
    tab.screenshot("items")
    tab.evaluate("document.getElementById('next').click()")
    tab.until("document.getElementById('range').textContent.startsWith('26 to 50')")
    tab.evaluate("view.value = 'results', view.dispatchEvent(new Event('change'))")
    tab.until("document.getElementById('rows').textContent.includes('SQL_QUERY:k00')")
    assert tab.complaints() == []


def test_hostile_names_and_payloads_are_text(tab: Tab) -> None:
    open_queue(tab, "hostile")
    tab.evaluate("document.querySelectorAll('#rows details').forEach(each => each.open = true)")
    assert HOSTILE in tab.evaluate("document.getElementById('rows').textContent")
    open_queue(tab, HOSTILE[:9])
    tab.until("document.getElementById('queue-name').textContent.startsWith('</script>')")
    assert tab.evaluate("document.title") == "cubequeue"
    assert tab.evaluate("document.querySelectorAll('main img, main script').length") == 0
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert tab.complaints() == []


def test_the_policy_holds_and_nothing_comes_from_elsewhere(tab: Tab, server: Running) -> None:
    tab.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: 'document.title = 1'}))")
    assert tab.evaluate("document.title") == "cubequeue"
    assert any("Content Security Policy" in text for text in tab.complaints())
    start = f"http://{server.status[0]}:{server.status[1]}/"
    assert all(url.startswith(start) for url in tab.requested() if not url.startswith("about:"))


def test_dark_and_small(tab: Tab) -> None:
    colour = "getComputedStyle(document.body).backgroundColor"
    light = tab.evaluate(colour)
    tab.prefer("dark")
    assert tab.evaluate(colour) != light
    tab.screenshot("overview-dark")
    tab.resize(360, 740)
    assert tab.evaluate("document.documentElement.scrollWidth <= 360")
    open_queue(tab, "SQL_QUERY")
    assert tab.evaluate("document.documentElement.scrollWidth <= 360")
    tab.screenshot("small-dark")


def test_by_keyboard_alone(tab: Tab) -> None:
    reached = []
    for _ in range(6):
        tab.press("Tab", 9)
        reached.append(tab.evaluate("document.activeElement.className || document.activeElement.id"))
        if reached[-1] == "name":
            break
    assert reached == ["skip", "pause", "filter", "name"]
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert tab.evaluate(outline) == "solid"
    tab.press("Enter", 13)
    tab.until("document.querySelectorAll('#rows > li').length > 0")
    assert tab.evaluate("document.activeElement.id") == "queue-name"
    tab.press("Tab", 9)
    assert tab.evaluate("document.activeElement.id") == "view"


def test_a_server_that_goes_away_is_told(browser: Browser) -> None:
    with browser.tab() as tab, serving("--durability", "memory") as server:
        show(tab, server)
        server.process.kill()
        tab.until("document.getElementById('state').textContent.startsWith('no answer')")
        assert tab.evaluate("document.getElementById('state').className") == "lost"


def test_an_item_is_cancelled_after_a_question(browser: Browser) -> None:
    variables = {"CUBEQUEUE_USER": USER, "CUBEQUEUE_PASSWORD": PASSWORD}
    with (
        serving("--durability", "memory", "--status-cancel", "true", **variables) as server,
        browser.tab(Authorization=AUTHORIZATION) as tab,
    ):
        run(server, [(f"QUEUE ADD PRIORITY 1 'q:{key}' 'x'", None) for key in "ab"], AUTHORIZATION)
        show(tab, server)
        open_queue(tab, "q")
        tab.evaluate("document.querySelector('#rows button').click()")
        assert tab.evaluate("document.activeElement.id") == "confirm-no"
        tab.press("Escape", 27)
        assert tab.evaluate("document.getElementById('confirm').open") is False
        tab.evaluate("document.querySelector('#rows button').click()")
        tab.screenshot("cancel")
        tab.evaluate("document.getElementById('confirm-yes').click()")
        tab.until("document.querySelectorAll('#rows > li').length === 1")
        assert "b" in tab.evaluate("document.getElementById('rows').textContent")
        assert tab.complaints() == []


@pytest.mark.parametrize(
    ("width", "height"), [(320, 640), (600, 900), (740, 900), (768, 1024), (1024, 768), (1440, 900)]
)
def test_many_queues_with_long_names_fit_any_screen(browser: Browser, width: int, height: int) -> None:
    with serving("--durability", "memory") as crowded, browser.tab() as tab:
        tenants = [
            f"SQL_PRE_AGGREGATIONS_tenant_{number:03}" + "_of_a_long_name" * (number % 4) for number in range(30)
        ]
        run(crowded, [(f"QUEUE ADD PRIORITY 1 '{tenant}:a' 'x'", None) for tenant in tenants])
        run(crowded, [(f"CACHE SET TTL 600 '{tenant * 3}:a' ?", [b"x" * 97_000]) for tenant in tenants])
        tab.resize(width, height)
        show(tab, crowded)
        tab.until("document.querySelectorAll('#cache-table tbody tr').length === 30")
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        # A name of thirty letters needs no more than two lines, a number one.
        assert tab.evaluate(f"{row_of(tenants[4])}.querySelector('button').offsetHeight") < 60
        lines = "(range => (range.selectNodeContents(each), range.getClientRects().length))(document.createRange())"
        sizes = "[...document.querySelectorAll('#cache-table td[data-name=Size]')]"
        assert tab.evaluate(f"{sizes}.every(each => {lines} === 1)")
