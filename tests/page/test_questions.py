"""The questions of an incident: each is answered on the page within two clicks, from the first view."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from websockets.sync.client import ClientConnection, connect

from protocol.client_codec import decode_reply, encode_query
from storage.vocabulary import Cell
from tests.cli.running import Running, serving
from tests.failures.faults import fill, small_disk
from tests.page.browser import Browser, Tab, running_browser
from tests.page.filling import AUTHORIZATION, PASSWORD, USER, payload
from tests.page.looking import TEXT, link, show

ATTENTION = "document.getElementById('attention').innerText"
VARIABLES = {"CUBEQUEUE_USER": USER, "CUBEQUEUE_PASSWORD": PASSWORD}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as running:
        yield running


class Client:
    """A Cube process with a process id of its own, connected as long as a test needs it."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._number = 0

    def ask(self, text: str, parameters: Sequence[Cell] | None = None) -> None:
        self._number += 1
        self._connection.send(encode_query(self._number, text, parameters))
        message = self._connection.recv(10)
        assert isinstance(message, bytes)
        decode_reply(message)

    def send(self, text: str) -> None:
        """Ask for something that is not answered soon."""
        self._number += 1
        self._connection.send(encode_query(self._number, text, None))


@contextmanager
def client(server: Running, process_id: str) -> Iterator[Client]:
    headers = {"authorization": AUTHORIZATION, "x-process-id": process_id}
    host, port = server.ws
    with connect(f"ws://{host}:{port}/ws", additional_headers=headers, max_size=None) as connection:
        yield Client(connection)


@pytest.fixture
def server() -> Iterator[Running]:
    flags = ["--durability", "memory", "--status-cancel", "true", "--client-names", "worker-uuid=worker-1"]
    with serving(*flags, **VARIABLES) as running:
        yield running


@pytest.fixture
def tab(browser: Browser) -> Iterator[Tab]:
    with browser.tab(Authorization=AUTHORIZATION) as opened:
        opened.resize(1280, 900)
        yield opened


def add(of: Client, key: str, sql: str) -> None:
    of.ask(f"QUEUE ADD PRIORITY 1 'SQL_QUERY:{key}' ?", [payload(sql)])


def clicks(tab: Tab, *elements: str) -> None:
    """At most two."""
    assert len(elements) <= 2
    for element in elements:
        tab.until(f"Boolean({element})")
        tab.click(element)


def row_with(text: str) -> str:
    """The link of the first row that has a text."""
    rows = "[...document.querySelectorAll('tbody tr')]"
    return f"{rows}.find(row => row.textContent.includes({json.dumps(text)}))?.querySelector('a.open')"


def cell_of(row_text: str, column: str) -> str:
    """The text of a cell of that row, undefined before there is one."""
    return f"{row_with(row_text)}?.closest('tr').querySelector('td[data-name=\"{column}\"]').textContent"


def test_why_does_this_request_say_continue_wait(tab: Tab, server: Running) -> None:
    with client(server, "worker-uuid") as worker, client(server, "api") as api, client(server, "api") as waiting:
        for key in ("first", "second", "third"):
            add(api, key, f"SELECT {key}")
        worker.ask("QUEUE RETRIEVE CONCURRENCY 1 'SQL_QUERY:first'")
        waiting.send("QUEUE RESULT_BLOCKING 60000 'SQL_QUERY:third'")
        show(tab, server)
        clicks(tab, link("SQL_QUERY"), row_with("SELECT third"))
        tab.until(f"/1 of 1 slots busy: first \\(\\d.*, worker-1\\); place 2\\./.test({TEXT})")
        tab.until(f"{TEXT}.includes('1 request waits for its result')")
        tab.screenshot("question-continue-wait")


def test_who_holds_this_slot(tab: Tab, server: Running) -> None:
    with client(server, "worker-uuid") as worker:
        add(worker, "k", "SELECT 1")
        worker.ask("QUEUE RETRIEVE CONCURRENCY 1 'SQL_QUERY:k'")
        show(tab, server)
        clicks(tab, link("SQL_QUERY"))
        tab.until(
            f"{row_with('SELECT 1')}?.closest('tr').querySelector('td[data-name=Owner]').textContent === 'worker-1'"
        )


def test_what_was_slow_in_the_last_hour(tab: Tab, server: Running) -> None:
    with client(server, "worker-uuid") as worker:
        for key, pause_s in (("quick", 0.0), ("slow", 0.4), ("other", 0.0)):
            add(worker, key, f"SELECT {key}")
            worker.ask(f"QUEUE RETRIEVE CONCURRENCY 1 'SQL_QUERY:{key}'")
            asyncio.run(asyncio.sleep(pause_s))
            worker.ask(f"QUEUE ACK 'SQL_QUERY:{key}' '{{}}'")
        show(tab, server)
        clicks(tab, link("History"))
        tab.until("document.querySelector('.history tbody tr')?.textContent.includes('SELECT slow')")
        assert "last hour" in tab.evaluate("document.querySelector('main').innerText")
        assert tab.evaluate("document.querySelectorAll('.histogram .columns button').length") > 1
        tab.screenshot("question-slow")
        tab.click("document.querySelector('.history tbody a.open')")
        tab.until(f"/Done at .*, by worker-1, after .* of waiting and .* of running/.test({TEXT})")
        assert "SELECT slow" in tab.evaluate(TEXT)
        assert tab.complaints() == []


def test_which_client_sends_errors(tab: Tab, server: Running) -> None:
    with client(server, "good"), client(server, "wrong-report") as wrong:
        wrong.ask("SELECT * FROM nothing_here")
        show(tab, server)
        tab.until(f"/wrong-report got 1 error, the latest: /.test({ATTENTION})")
        clicks(tab, link("Clients"))
        tab.until("document.querySelector('tbody tr')?.textContent.includes('wrong-report')")
        assert tab.evaluate("document.querySelector('tbody td[data-name=Errors]').textContent") == "1"


def test_how_near_is_a_limit(tab: Tab) -> None:
    with serving("--durability", "memory", "--queue-max-items", "10", **VARIABLES) as full:
        with client(full, "api") as api:
            for number in range(9):
                add(api, f"k{number}", "SELECT 1")
        show(tab, full)
        tab.until("document.querySelector('.tiles').innerText.includes('90 % of 10')")
        tab.until(f"{ATTENTION}.includes('90% of items are used: 9 of 10 (CUBEQUEUE_QUEUE_MAX_ITEMS)')")
        assert tab.evaluate("document.querySelector('.tiles .warning dt').textContent") == "Items"


def test_is_a_worker_dead(tab: Tab, server: Running) -> None:
    with client(server, "worker-uuid") as worker:
        add(worker, "k", "SELECT 1")
        worker.ask("QUEUE RETRIEVE CONCURRENCY 1 'SQL_QUERY:k'")
    with client(server, "api") as api:
        api.ask("QUEUE STALLED 100 'SQL_QUERY'")  # as Cube asks every few seconds
        show(tab, server)
        tab.until(f"{ATTENTION}.includes('1 item has no heartbeat in SQL_QUERY, claimed by worker-1')")
        clicks(tab, link("Critical 1 item has no heartbeat"), row_with("SELECT 1"))
        tab.until(f"/Silent: no heartbeat for .* Its worker is probably dead/.test({TEXT})")
        tab.screenshot("question-dead")


def test_what_did_we_cancel_and_who_did_it(tab: Tab, server: Running) -> None:
    with client(server, "api") as api:
        add(api, "k", "SELECT cancelled_thing")
        add(api, "other", "SELECT kept")
        item = base64.urlsafe_b64encode(b"SQL_QUERY:k").decode()
        show(tab, server)
        how = "{method: 'POST', headers: {'x-cubequeue-action': 'cancel'}}"
        status = tab.evaluate(f"fetch('/api/cancel?item={item}', {how}).then(answer => answer.status)")
        assert status == 200
        clicks(tab, link("History"), "document.querySelector('button.chip.cancelled')")
        tab.until(f"{cell_of('SELECT cancelled_thing', 'Ended by')} === '{USER}'")
        assert tab.evaluate("document.querySelectorAll('tbody tr').length") == 1


def test_why_are_writes_refused(tab: Tab, tmp_path: Path) -> None:
    with (
        small_disk(tmp_path / "disk", 24) as disk,
        serving("--data-dir", str(disk), "--durability", "strict", **VARIABLES) as full,
        client(full, "api") as api,
    ):
        add(api, "before", "SELECT 1")
        fill(disk)
        show(tab, full)
        for number in range(1_000):
            api.ask("QUEUE ADD ? ?", [f"SQL_QUERY:k{number}".encode(), b"x" * 20_000])
            if "Critical Writes are" in tab.evaluate(ATTENTION):
                break
        tab.until(f"/Critical Writes are refused: .*No space left on device/.test({ATTENTION})")
        assert tab.evaluate("document.title").startswith("(")
        tab.screenshot("question-refused")
