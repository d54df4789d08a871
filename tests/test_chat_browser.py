"""The chat's page in Chromium: people on two workers talk, also after the server died.

The story is told in `tests/browser/chat.mjs`. `FANBUS_SCREENSHOTS=folder` keeps its pictures.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import segments

ROOT = Path(__file__).parent.parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.mark.timeout(420)
def test_people_on_two_workers_talk_in_a_browser(tmp_path: Path) -> None:
    node = needed(shutil.which("node"), "Node.js")
    chromium = needed(next(filter(None, map(shutil.which, BROWSERS)), None), "Chromium")
    needed((ROOT / "node_modules" / "playwright-core").exists(), "playwright-core (npm)")

    screenshots = Path(os.environ.get("FANBUS_SCREENSHOTS") or tmp_path)
    screenshots.mkdir(parents=True, exist_ok=True)
    # The story restarts the server, and pages come back to the port that they know.
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    told = subprocess.run(
        [node, "tests/browser/chat.mjs", sys.executable, port, chromium, screenshots],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    kept = Path(f"/dev/shm/fanbus.chat-{port}").exists()
    segments.remove_of_port(int(port))  # of a story that broke off
    assert told.returncode == 0, told.stdout
    assert "ok   two tabs on two workers talk, rooms to rooms" in told.stdout
    assert not kept, "the story removes what the chat kept"


def needed(found: str | bool | None, what: str) -> str:
    """Skips without it; `conftest.py` makes that a failure in CI."""
    if not found:
        pytest.skip(f"{what} is missing: `make test` installs it")
    return str(found)
