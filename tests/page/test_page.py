"""The console in a real browser: its views, addresses, keys, and what it changes."""

from __future__ import annotations

import signal
from base64 import urlsafe_b64encode
from collections.abc import Iterator

import pytest

from tests.cli.running import Running, serving
from tests.page.browser import Browser, Tab, running_browser
from tests.page.filling import AUTHORIZATION, HOSTILE, PASSWORD, USER, fill, run
from tests.page.looking import TEXT, cell, link, row, show


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as running:
        yield running


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serving("--durability", "memory", "--client-names", "127.0.0.1=here") as running:
        fill(running)
        yield running


@pytest.fixture
def tab(browser: Browser, server: Running) -> Iterator[Tab]:
    with browser.tab() as opened:
        opened.resize(1280, 900)
        show(opened, server)
        yield opened


def encoded(path: str) -> str:
    return urlsafe_b64encode(path.encode()).decode()


def test_queues_are_live_and_sorted_by_a_click(tab: Tab, server: Running) -> None:
    pending = cell("SQL_QUERY", "Pending")
    before = int(tab.evaluate(pending))
    run(server, [("QUEUE ADD PRIORITY 1 ? 'x'", [f"SQL_QUERY:new{before}".encode()])])
    tab.until(f"{pending} === '{before + 1}'")
    names = "[...document.querySelectorAll('tbody td.name')].map(each => each.textContent).join('|')"
    assert tab.evaluate(names).endswith("|SQL_QUERY|hostile")
    tab.evaluate("[...document.querySelectorAll('th button')].find(each => each.textContent === 'Pending').click()")
    tab.until(f"{names}.startsWith('SQL_QUERY|hostile')")
    assert tab.evaluate("location.hash") == "#/queues?sort=pending&order=desc"
    assert tab.evaluate("document.querySelector('th[aria-sort=descending]').textContent") == "Pending"
    assert "at most" in tab.evaluate(f"{row('SQL_QUERY')}.querySelector('svg').getAttribute('aria-label')")
    assert tab.complaints() == []
    tab.screenshot("queues-light")


def test_rows_hold_still_while_the_pointer_is_on_them(browser: Browser) -> None:
    with serving("--durability", "memory") as server, browser.tab() as tab:
        run(server, [("QUEUE ADD 'b:1' 'x'", None), ("QUEUE ADD 'b:2' 'x'", None), ("QUEUE ADD 'c:1' 'x'", None)])
        tab.resize(1280, 900)
        show(tab, server, "#/queues?sort=pending&order=desc")
        names = "[...document.querySelectorAll('tbody td.name')].map(each => each.textContent).join('')"
        tab.until(f"{names} === 'bc'")
        place = tab.evaluate(
            "(at => [at.x + 50, at.y + 10])(document.querySelector('tbody tr').getBoundingClientRect())"
        )
        tab.command("Input.dispatchMouseEvent", type="mouseMoved", x=place[0], y=place[1])
        run(server, [(f"QUEUE ADD 'a:{number}' 'x'", None) for number in range(5)])
        run(server, [("QUEUE ADD 'c:2' 'x'", None)])
        tab.until(f"{cell('c', 'Pending')} === '2'")
        assert tab.evaluate(names) == "bc"
        tab.command("Input.dispatchMouseEvent", type="mouseMoved", x=5, y=880)
        tab.until(f"{names} === 'abc'")


def test_search_is_over_all_queues_and_items(tab: Tab) -> None:
    typing = "field.value = 'FROM orders'; field.dispatchEvent(new Event('input'))"
    tab.evaluate(f"(field => {{ {typing} }})(document.querySelector('.search'))")
    tab.until(f"{TEXT}.includes('Items found')")
    tab.until(f"{TEXT}.includes('SELECT 3 FROM orders')")
    assert tab.evaluate("location.hash") == "#/queues?search=FROM+orders"
    tab.until(f"{TEXT}.includes('1 ended item in History')")
    tab.evaluate(f"{link('1 ended item')}.click()")
    tab.until(f"{TEXT}.includes('1 ended item')")
    assert tab.complaints() == []


def test_a_queue_has_charts_and_items_and_pages(tab: Tab) -> None:
    tab.click(link("SQL_QUERY"))
    tab.until("document.querySelectorAll('.table tbody tr').length === 50")
    tab.until("document.querySelectorAll('canvas').length === 3")
    assert "pending now" in tab.evaluate("document.querySelector('.plot').getAttribute('aria-label')")
    assert tab.evaluate("document.querySelectorAll('td.pick:not([hidden])').length") == 0  # nobody may cancel here
    tab.screenshot("queue-light")
    tab.evaluate("document.querySelector('input[value=\"15m\"]').click()")
    tab.evaluate("[...document.querySelectorAll('button')].find(each => each.textContent === 'Next').click()")
    tab.until(f"{TEXT}.includes('51 to ')")
    assert "range=15m" in tab.evaluate("location.hash")
    assert "offset=50" in tab.evaluate("location.hash")
    tab.evaluate("history.back()")
    tab.until(f"{TEXT}.includes('1 to 50 of')")
    tab.evaluate("history.back()")
    tab.until("document.querySelector('.view.queues tbody tr') !== null")
    assert tab.complaints() == []


def test_an_item_and_its_result_can_be_read(tab: Tab, server: Running) -> None:
    show(tab, server, f"#/item/{encoded('SQL_QUERY:k01')}")
    tab.until(f"{TEXT}.includes('Runs for')")
    assert "SELECT 1 FROM orders" in tab.evaluate(TEXT)
    assert '["a parameter"]' in tab.evaluate(TEXT)
    assert "on here" in tab.evaluate(TEXT)
    assert tab.evaluate("document.querySelectorAll('.timeline li').length") == 3
    show(tab, server, f"#/item/{encoded('SQL_QUERY:k00')}")
    tab.until(f"{TEXT}.includes('Done at')")
    assert '"rows": []' in tab.evaluate(TEXT)
    assert tab.evaluate("document.title") == "k00 · cubequeue"
    show(tab, server, f"#/item/{encoded('SQL_QUERY:never')}")
    tab.until(f"{TEXT}.includes('there is none')")


def test_the_cache_down_to_a_value(tab: Tab) -> None:
    tab.click(link("Cache"))
    tab.until(f"{TEXT}.includes('50 %')")
    tab.click(link("SQL_QUERY_RESULT"))
    tab.until(f"{TEXT}.includes('1 key')")
    tab.click("document.querySelector('tbody a.open')")
    tab.until(f"{TEXT}.includes('rrrr')")
    assert "Expires in" in tab.evaluate(TEXT)
    assert tab.complaints() == []


def test_hostile_names_and_payloads_are_text(tab: Tab, server: Running) -> None:
    for view in (
        f"#/queue/{encoded('hostile')}",
        f"#/item/{encoded('hostile:raw')}",
        f"#/queue/{encoded(HOSTILE)}",
        "#/cache",
    ):
        show(tab, server, view)
        tab.until(f"{TEXT}.includes('</script>')")
        assert "owned" not in tab.evaluate("document.title").split(" · ")[-1]
        assert tab.evaluate("document.querySelectorAll('main img, main script').length") == 0
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert tab.complaints() == []


def test_the_policy_holds_and_nothing_comes_from_elsewhere(tab: Tab, server: Running) -> None:
    tab.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {text: 'document.body.id = 1'}))"
    )
    assert tab.evaluate("window.name") == ""
    assert any("Content Security Policy" in text for text in tab.complaints())
    start = f"http://{server.status[0]}:{server.status[1]}/"
    assert all(url.startswith(start) for url in tab.requested() if not url.startswith("about:"))


@pytest.mark.parametrize("view", ["queues", "queue", "item", "history", "clients", "cache"])
def test_dark_and_small(tab: Tab, server: Running, view: str) -> None:
    addresses = {"queue": f"queue/{encoded('SQL_QUERY')}", "item": f"item/{encoded('SQL_QUERY:k05')}"}
    colour = "getComputedStyle(document.body).backgroundColor"
    light = tab.evaluate(colour)
    tab.prefer("dark")
    assert tab.evaluate(colour) != light
    tab.resize(390, 844)
    show(tab, server, f"#/{addresses.get(view, view)}")
    tab.until(f"{TEXT}.length > 40 && !{TEXT}.includes('…\\n')")
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    tab.screenshot(f"{view}-small-dark")
    assert tab.complaints() == []


def test_by_keyboard_alone(tab: Tab) -> None:
    tab.press("j", 74)
    assert tab.evaluate("document.activeElement.className") == "open"
    first = tab.evaluate("document.activeElement.textContent")
    tab.press("j", 74)
    assert tab.evaluate("document.activeElement.textContent") != first
    assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    tab.press("k", 75)
    assert tab.evaluate("document.activeElement.textContent") == first
    tab.press("Enter", 13)
    tab.until("document.querySelector('.view.queue .table tbody tr') !== null")
    for keys, view in (("gh", "history"), ("gc", "clients"), ("gk", "cache"), ("gq", "queues")):
        for key in keys:
            tab.press(key, ord(key.upper()))
        tab.until(f"document.querySelector('.view.{view}') !== null")
    tab.press("/", 191)
    assert tab.evaluate("document.activeElement.type") == "search"
    tab.press("Escape", 27)
    tab.press("?", 191)
    assert tab.evaluate("document.getElementById('keys').open") is True
    tab.press("Escape", 27)
    assert tab.evaluate("document.getElementById('keys').open") is False


def test_everything_has_a_label(tab: Tab, server: Running) -> None:
    """For readers of screens: each control has a name, each table a caption, each chart a text."""
    nameless = (
        "[...document.querySelectorAll('button, input, select, a[href], [role=img]')]"
        ".filter(each => each.checkVisibility() && !(each.getAttribute('aria-label') || each.textContent.trim()"
        " || each.closest('label')?.textContent.trim())).map(each => each.outerHTML)"
    )
    captions = "[...document.querySelectorAll('table:not(.u-legend)')].every(each => each.caption?.textContent)"
    for view in ("queues", f"queue/{encoded('SQL_QUERY')}", "history", "clients", "cache"):
        show(tab, server, f"#/{view}")
        tab.until(f"{TEXT}.length > 40")
        assert tab.evaluate(nameless) == []
        assert tab.evaluate(captions)
    assert tab.evaluate("document.querySelector('nav [aria-current=page]').textContent") == "Cache"


def test_a_server_that_goes_away_is_told(browser: Browser) -> None:
    with browser.tab() as tab, serving("--durability", "memory") as server:
        show(tab, server)
        server.process.send_signal(signal.SIGKILL)
        tab.until("document.getElementById('state').textContent.match(/^no answer since \\d\\d:\\d\\d:\\d\\d$/)")
        assert tab.evaluate("document.body.className") == "lost"
        assert "No answer since" in tab.evaluate("document.getElementById('attention').innerText")
        assert tab.evaluate("document.title").startswith("no answer · ")
        assert float(tab.evaluate("getComputedStyle(document.querySelector('main')).opacity")) < 1
        tab.screenshot("lost")


def test_paused_asks_no_more(tab: Tab, server: Running) -> None:
    tab.press("p", 80)
    tab.until("document.getElementById('state').textContent.startsWith('paused')")
    before = int(tab.evaluate(cell("SQL_QUERY", "Pending")))
    run(server, [("QUEUE ADD PRIORITY 1 ? 'x'", [f"SQL_QUERY:paused{before}".encode()])])
    asked = "performance.getEntriesByType('resource').length"
    count = tab.evaluate(asked)
    tab.evaluate("new Promise(done => setTimeout(done, 2500))")
    assert tab.evaluate(asked) == count
    tab.press("p", 80)
    tab.until(f"{cell('SQL_QUERY', 'Pending')} === '{before + 1}'")


def test_items_are_cancelled_after_a_question(browser: Browser) -> None:
    variables = {"CUBEQUEUE_USER": USER, "CUBEQUEUE_PASSWORD": PASSWORD}
    with (
        serving("--durability", "memory", "--status-cancel", "true", **variables) as server,
        browser.tab(Authorization=AUTHORIZATION) as tab,
    ):
        run(server, [(f"QUEUE ADD PRIORITY 1 'q:{key}' 'x{key}'", None) for key in "abc"], AUTHORIZATION)
        run(server, [("CACHE SET TTL 600 'c:k' 'v'", None)], AUTHORIZATION)
        tab.resize(1280, 900)
        show(tab, server, f"#/queue/{encoded('q')}")
        tab.until("document.querySelectorAll('td.pick:not([hidden]) input').length === 3")
        tab.evaluate("[...document.querySelectorAll('td.pick input')].slice(0, 2).forEach(each => each.click())")
        ask = "[...document.querySelectorAll('button')].find(each => each.textContent === 'Cancel 2 items …')"
        tab.evaluate(f"{ask}.click()")
        assert tab.evaluate("document.activeElement.id") == "confirm-no"
        said = tab.evaluate("document.getElementById('confirm').innerText")
        assert "It does not stop a query that already runs" in said
        assert "no undo" in said
        tab.screenshot("cancel")
        tab.press("Escape", 27)
        assert tab.evaluate("document.getElementById('confirm').open") is False
        tab.evaluate(f"{ask}.click()")
        tab.evaluate("document.getElementById('confirm-yes').click()")
        tab.until(f"{TEXT}.includes('2 cancelled by {USER} from 127.0.0.1')")
        tab.until("document.querySelectorAll('.table tbody tr').length === 1")
        tab.click(link("History"))
        tab.until("document.querySelectorAll('.view.history .table tbody tr').length === 2")
        show(tab, server, f"#/cache/{encoded('c')}?key={encoded('c:k')}")
        tab.until("[...document.querySelectorAll('button.danger')].some(each => each.checkVisibility())")
        tab.evaluate("document.querySelector('main button.danger').click()")
        tab.evaluate("document.getElementById('confirm-yes').click()")
        tab.until(f"{TEXT}.includes('1 removed by {USER}')")
        tab.until(f"{TEXT}.includes('no such key')")
        assert [each for each in tab.complaints() if "404" not in each] == []


@pytest.mark.parametrize(
    ("width", "height"), [(320, 640), (600, 900), (740, 900), (768, 1024), (1024, 768), (1440, 900)]
)
def test_many_queues_with_long_names_fit_any_screen(browser: Browser, width: int, height: int) -> None:
    with serving("--durability", "memory") as crowded, browser.tab() as tab:
        tenants = [
            f"SQL_PRE_AGGREGATIONS_tenant_{number:03}" + "_of_a_long_name" * (number % 4) for number in range(60)
        ]
        run(crowded, [(f"QUEUE ADD PRIORITY 1 '{tenant}:a' 'x'", None) for tenant in tenants])
        tab.resize(width, height)
        show(tab, crowded)
        tab.until("document.querySelectorAll('.table tbody tr').length === 50")
        assert "1 to 50 of 60 queues" in tab.evaluate(TEXT)
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        # A name of thirty letters needs no more than two lines.
        assert tab.evaluate(f"{link(tenants[4])}.offsetHeight") < 60
