"""The picture of the page in the README, with Chromium: `python -m docs_site.picture`, when the page has changed."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from base64 import b64decode
from typing import Final

from docs_site.links import ROOT
from tests.page.browser import running_browser

FILE: Final = ROOT / "docs/page.png"
_LIFE_S: Final = 300  # so that charts and tables have something to show
_SIZE: Final = (1280, 860)
_VIEW: Final = "#/queue/U1FMX1FVRVJZX1NUQU5EQUxPTkVfd2FyZWhvdXNl?range=15m"  # SQL_QUERY_STANDALONE_warehouse


def main() -> None:
    """Run the demo, look at its page, and keep what is seen."""
    with subprocess.Popen(
        [sys.executable, "-m", "cubequeue_server", "demo"], stdout=subprocess.PIPE, text=True
    ) as demo:
        try:
            assert demo.stdout is not None
            said = "".join(demo.stdout.readline() for _ in range(3))
            page = re.search(r"http://\S+", said)
            assert page is not None, said
            with running_browser() as browser, browser.tab() as tab:
                tab.resize(*_SIZE)
                tab.open(f"{page[0]}{_VIEW}")
                for _ in range(_LIFE_S):
                    time.sleep(1.0)
                    tab.evaluate("1")  # a connection that is silent for long is closed
                FILE.write_bytes(b64decode(tab.command("Page.captureScreenshot")["data"]))
        finally:
            demo.terminate()
    print(FILE)


if __name__ == "__main__":
    main()
