"""The chat's page in Chromium while its code is being changed. The story is in
`tests/browser/reload.mjs`."""

from __future__ import annotations

import shutil
import socket
import sys
from pathlib import Path

import pytest

from support import segments
from support.chromium import ROOT, play


@pytest.mark.timeout(180)
@pytest.mark.parametrize("option", ["FANBUS_RELOAD", "FANBUS_DEBUG"])
def test_the_page_comes_back_to_the_new_code_and_picks_up_where_it_was(
    tmp_path: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    chat = tmp_path / "chat"
    shutil.copytree(
        ROOT / "examples" / "chat", chat, ignore=shutil.ignore_patterns("__pycache__", "*.new")
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    try:
        told = play("reload", sys.executable, port, chat / "app.py", environment={option: "true"})
    finally:
        segments.remove_of_port(int(port))  # the chat keeps its history
    with capsys.disabled():
        sys.stdout.write(f"\n{option}: {told}")
