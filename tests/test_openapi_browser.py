"""The page of the OpenAPI document in Chromium. The story is in `tests/browser/openapi.mjs`."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from conftest import StartServer
from test_chat_browser import BROWSERS, ROOT, needed


@pytest.mark.timeout(180)
def test_the_page_shows_the_document_and_sends_requests(server: StartServer) -> None:
    """`OPENAPI_PICTURES=FOLDER` leaves pictures of it there."""
    node = needed(shutil.which("node"), "Node.js")
    chromium = needed(next(filter(None, map(shutil.which, BROWSERS)), None), "Chromium")
    needed((ROOT / "node_modules" / "playwright-core").exists(), "playwright-core (npm)")
    typed = server("typed", workers=1)
    folder = os.environ.get("OPENAPI_PICTURES", "")
    told = subprocess.run(
        [node, "tests/browser/openapi.mjs", str(typed.port), chromium, folder],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stdout
    assert "Traceback" not in typed.log()
