"""EventSource in Chromium: what a page hears, also when the worker that served it has ended.

What the page does is in `tests/browser/events.mjs`.
"""

from __future__ import annotations

import os
import signal
import subprocess

from conftest import StartServer
from support.chromium import ROOT, command
from support.servers import Server, wait_for


def replace_worker(server: Server) -> None:
    """Kills the only one, and waits for the next."""
    (worker,) = server.worker_pids()
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: server.worker_pids() not in ([], [worker]), "another worker")


def test_a_page_in_a_browser_listens(server: StartServer) -> None:
    one = server("events", workers=1)
    with subprocess.Popen(
        command("events", str(one.port)),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as page:
        assert page.stdin is not None
        assert page.stdout is not None
        told = ""
        for line in page.stdout:
            told += line
            if line == "end the worker\n":
                replace_worker(one)
                page.stdin.write("\n")
                page.stdin.flush()
    assert page.returncode == 0, told
    assert told.count("ok   ") == 4, told
