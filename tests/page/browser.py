"""A headless Chromium, driven by its DevTools protocol over the `websockets` library."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.needed import require

TIMEOUT_S = 30.0
SCREENSHOTS = Path(__file__).with_name("screenshots")
_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_FLAGS = (
    "--headless=new",
    "--no-sandbox",  # as root there is none
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-background-networking",
    "--no-first-run",
    "--remote-debugging-port=0",
    "about:blank",
)


def find_chromium() -> str:
    """Its path; a test that needs it is skipped without, but not in CI."""
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    require(found, "Chromium")
    assert found is not None
    return found


@contextmanager
def running_browser() -> Iterator[Browser]:
    """A browser with a profile of its own; both are gone at the end."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [find_chromium(), f"--user-data-dir={profile}", *_FLAGS],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            with connect(_devtools_url(process), max_size=None) as connection:
                yield Browser(connection)
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            if process.poll() is None:
                process.kill()
                process.wait(10)
            if process.stderr is not None:
                process.stderr.close()


def _devtools_url(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    for line in process.stderr:
        found = re.search(r"DevTools listening on (ws://\S+)", line)
        if found is not None:
            return found[1]
    raise AssertionError("Chromium ended before it listened")


class Browser:
    """Sends commands and collects events."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._last_id = 0
        self.events: list[dict[str, Any]] = []

    def command(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        """A command's result; events that come before it are kept."""
        self._last_id += 1
        message: dict[str, Any] = {"id": self._last_id, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        self._connection.send(json.dumps(message))
        while True:
            answer = json.loads(self._connection.recv(TIMEOUT_S))
            if answer.get("id") == self._last_id:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            if "method" in answer:
                self.events.append(answer)

    @contextmanager
    def tab(self, **headers: str) -> Iterator[Tab]:
        """A tab whose requests carry these headers."""
        context = self.command("Target.createBrowserContext")["browserContextId"]
        target = self.command("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.command("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = Tab(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            tab.command(f"{domain}.enable")
        if headers:
            tab.command("Network.setExtraHTTPHeaders", headers=headers)
        try:
            yield tab
        finally:
            self.command("Target.closeTarget", targetId=target)
            self.command("Target.disposeBrowserContext", browserContextId=context)


class Tab:
    """One page."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session

    def command(self, method: str, **parameters: Any) -> Any:
        return self._browser.command(method, self._session, **parameters)

    def open(self, url: str) -> None:
        self.command("Page.navigate", url=url)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression; a promise is waited for."""
        answer = self.command("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, expression: str) -> Any:
        """Wait until an expression is true; returns its value."""
        end_s = time.monotonic() + TIMEOUT_S
        while time.monotonic() < end_s:
            value = self.evaluate(expression)
            if value:
                return value
            time.sleep(0.05)
        raise AssertionError(f"never true: {expression}\n{self.evaluate('document.body.innerText')}")

    def press(self, key: str, code: int) -> None:
        """Press and release a key."""
        text = {"text": "\r" if key == "Enter" else key} if key == "Enter" or len(key) == 1 else {}
        self.command("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, windowsVirtualKeyCode=code, **text)
        self.command("Input.dispatchKeyEvent", type="keyUp", key=key, code=key, windowsVirtualKeyCode=code)

    def click(self, element: str) -> None:
        """Press the mouse on what an expression finds, as a user would: in sight, and not behind something else."""
        place = self.evaluate(
            f"(each => {{ each.scrollIntoView({{block: 'center'}}); const at = each.getBoundingClientRect();"
            " return [at.x + Math.min(at.width / 2, 40), at.y + at.height / 2]; })("
            f"{element})"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.command("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)

    def resize(self, width: int, height: int) -> None:
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def prefer(self, scheme: str) -> None:
        """The colours that the user likes: light or dark."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.command("Emulation.setEmulatedMedia", features=features)

    def screenshot(self, name: str) -> Path:
        SCREENSHOTS.mkdir(exist_ok=True)
        path = SCREENSHOTS / f"{name}.png"
        data = self.command("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))
        return path

    def complaints(self) -> list[str]:
        """What the browser found wrong: uncaught errors, breaches of the policy, files that were not there."""
        self.evaluate("1")
        mine = [event for event in self._browser.events if event.get("sessionId") == self._session]
        logged = [event["params"]["entry"]["text"] for event in mine if event["method"] == "Log.entryAdded"]
        thrown = [json.dumps(event["params"]) for event in mine if event["method"] == "Runtime.exceptionThrown"]
        return logged + thrown

    def requested(self) -> set[str]:
        """The addresses that the page asked."""
        events = [each for each in self._browser.events if each.get("sessionId") == self._session]
        return {event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"}
