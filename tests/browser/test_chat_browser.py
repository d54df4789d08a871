"""The chat's page in Chromium: people on two workers talk, also after the server died.

The story is told in `tests/browser/chat.mjs`. `FANBUS_SCREENSHOTS=folder` keeps its pictures.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from support import segments
from support.chromium import play


@pytest.mark.timeout(420)
def test_people_on_two_workers_talk_in_a_browser(tmp_path: Path) -> None:
    screenshots = Path(os.environ.get("FANBUS_SCREENSHOTS") or tmp_path)
    screenshots.mkdir(parents=True, exist_ok=True)
    # The story restarts the server, and pages come back to the port that they know.
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    try:
        told = play("chat", sys.executable, port, screenshots)
        assert "ok   two tabs on two workers talk, rooms to rooms" in told
        kept = Path(f"/dev/shm/fanbus.chat-{port}")
        assert not kept.exists(), "the story removes what the chat kept"
    finally:
        segments.remove_of_port(int(port))  # of a story that broke off
