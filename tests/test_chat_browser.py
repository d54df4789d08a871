"""The chat's page in Chromium: people on two workers talk, also after the server died.

The story is told in `tests/browser/chat.mjs`. `FANBUS_SCREENSHOTS=folder` keeps its pictures.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from serving import ROOT, free_port


def need(found: object, what: str) -> None:
    """Without it there is nothing to test: skipped at home, a failure in CI."""
    if found:
        return
    reason = f"{what} is missing; `make test` installs it"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.mark.timeout(420)
def test_people_on_two_workers_talk_in_a_browser(tmp_path: Path) -> None:
    node = shutil.which("node")
    names = ("chromium", "chromium-browser", "google-chrome")
    chromium = next(filter(None, map(shutil.which, names)), None)
    need(node, "Node.js")
    need(chromium, "Chromium")
    need((ROOT / "node_modules" / "playwright-core").exists(), "playwright-core (npm)")
    assert node is not None
    assert chromium is not None

    screenshots = Path(os.environ.get("FANBUS_SCREENSHOTS") or tmp_path)
    screenshots.mkdir(parents=True, exist_ok=True)
    told = subprocess.run(
        [node, "tests/browser/chat.mjs", sys.executable, str(free_port()), chromium, screenshots],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert told.returncode == 0, f"the story failed:\n{told.stdout}"
    assert "ok   two tabs on two workers talk, rooms to rooms" in told.stdout
