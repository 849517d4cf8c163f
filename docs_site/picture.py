"""The picture of the page in the README, with Chromium: `python -m docs_site.picture`, when the page has changed."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from typing import Final

from docs_site.links import ROOT
from tests.page.browser import running_browser

FILE: Final = ROOT / "docs/page.png"
_LIFE_S: Final = 60  # so that charts and tables have something to show
_SIZE: Final = (1280, 800)


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
                tab.open(page[0])
                for _ in range(_LIFE_S):
                    time.sleep(1.0)
                    tab.evaluate("1")  # a connection that is silent for long is closed
                FILE.write_bytes(tab.screenshot("readme").read_bytes())
        finally:
            demo.terminate()
    print(FILE)


if __name__ == "__main__":
    main()
