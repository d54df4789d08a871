"""permessage-deflate with Chromium: what a page sends comes back, through every kind of route.

What the page does is in `tests/browser/compression.mjs`.
"""

from __future__ import annotations

import shutil
import subprocess

from conftest import StartServer
from test_chat_browser import BROWSERS, ROOT, needed


def test_a_page_in_a_browser_talks_in_deflated_messages(server: StartServer) -> None:
    node = needed(shutil.which("node"), "Node.js")
    chromium = needed(next(filter(None, map(shutil.which, BROWSERS)), None), "Chromium")
    needed((ROOT / "node_modules" / "playwright-core").exists(), "playwright-core (npm)")

    port = server("compressed", workers=1).port
    told = subprocess.run(
        [node, "tests/browser/compression.mjs", str(port), chromium],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=100,
    )
    assert told.returncode == 0, told.stdout
    assert told.stdout.count("ok   ") == 4, told.stdout
