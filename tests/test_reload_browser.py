"""The chat's page in Chromium while its code is being changed. The story is in
`tests/browser/reload.mjs`."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import segments
from test_chat_browser import BROWSERS, ROOT, needed


@pytest.mark.timeout(180)
@pytest.mark.parametrize("option", ["FANBUS_RELOAD", "FANBUS_DEBUG"])
def test_the_page_comes_back_to_the_new_code_and_picks_up_where_it_was(
    tmp_path: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    node = needed(shutil.which("node"), "Node.js")
    chromium = needed(next(filter(None, map(shutil.which, BROWSERS)), None), "Chromium")
    needed((ROOT / "node_modules" / "playwright-core").exists(), "playwright-core (npm)")
    chat = tmp_path / "chat"
    shutil.copytree(
        ROOT / "examples" / "chat", chat, ignore=shutil.ignore_patterns("__pycache__", "*.new")
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    told = subprocess.run(
        [node, "tests/browser/reload.mjs", sys.executable, port, chromium, chat / "app.py"],
        cwd=ROOT,
        env={**os.environ, option: "true"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    segments.remove_of_port(int(port))  # the chat keeps its history
    assert told.returncode == 0, told.stdout
    with capsys.disabled():
        sys.stdout.write(f"\n{option}: {told.stdout}")
