"""permessage-deflate with Chromium: what a page sends comes back, through every kind of route.

What the page does is in `tests/browser/compression.mjs`.
"""

from __future__ import annotations

from conftest import StartServer
from support.chromium import play


def test_a_page_in_a_browser_talks_in_deflated_messages(server: StartServer) -> None:
    port = server("deflate", workers=1).port
    told = play("compression", str(port), at_most_s=100)
    assert told.count("ok   ") == 4, told
