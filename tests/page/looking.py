"""What tests look for in the console: expressions of JavaScript."""

from __future__ import annotations

import json
from typing import Final

from tests.cli.running import Running
from tests.page.browser import Tab

TEXT: Final = "document.getElementById('view').innerText"


def show(tab: Tab, server: Running, address: str = "") -> None:
    """Open the console at an address, and wait until it has something to show."""
    tab.evaluate("document.getElementById('state')?.remove()")
    tab.command("Page.navigate", url="about:blank")
    tab.open(f"http://{server.status[0]}:{server.status[1]}/{address}")
    tab.until("document.getElementById('state')?.textContent === 'live'")


def row(name: str) -> str:
    """The row of a table that begins with a name."""
    rows = "[...document.querySelectorAll('tbody tr')]"
    return f"{rows}.find(row => row.querySelector('.name').textContent === {json.dumps(name)})"


def cell(name: str, column: str) -> str:
    """The text of a cell of that row."""
    return f"{row(name)}.querySelector('td[data-name=\"{column}\"]').textContent"


def link(text: str) -> str:
    """The first link whose text begins so."""
    return f"[...document.querySelectorAll('a[href]')].find(each => each.textContent.startsWith({json.dumps(text)}))"
