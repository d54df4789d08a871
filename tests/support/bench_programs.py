"""`fanbus bench` as the tests run it, and the server that does wrong on purpose."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.bus_programs import Service
from support.paths import TESTS
from support.servers import DEADLINE_S, wait_for

QUICK = ("--warmup", "0.1", "--seconds", "0.4")


class Unreliable(Service):
    """tests/support/faulty_server.py, with its port."""

    def __init__(self, *arguments: str) -> None:
        super().__init__(str(TESTS / "support" / "faulty_server.py"), *arguments)
        self.port = 0

    def wait_until_ready(self) -> None:
        self.wait_to_say("port ")
        found = re.search(r"port (\d+)\n", self.said())
        assert found is not None
        self.port = int(found[1])

    def url(self, path: str, scheme: str = "ws") -> str:
        return f"{scheme}://127.0.0.1:{self.port}{path}"

    def wait(self) -> int:
        super().wait()
        return 0


def bench(*arguments: str, shell: str = "") -> subprocess.CompletedProcess[str]:
    """Runs the command, which is expected to end by itself."""
    command = [sys.executable, "-m", "fanbus", "bench", *arguments]
    if shell:
        command = ["sh", "-c", f'{shell}; exec "$@"', "sh", *command]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=2 * DEADLINE_S, check=False
    )


def figures(*arguments: str, status: int = 0) -> dict[str, Any]:
    """What it measured, if it ended with this status."""
    done = bench(*arguments, "--json")
    assert done.returncode == status, done.stderr + done.stdout
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["complete"] is (status == 0)
    assert bool(found["faults"]) is (status != 0)
    return found


def faults(found: dict[str, Any]) -> str:
    return " ".join(found["faults"])


def refused(*arguments: str, said: str, shell: str = "") -> None:
    """It ends with status 2 and one sentence, which says this."""
    done = bench(*arguments, *QUICK, shell=shell)
    assert done.returncode == 2, done.stdout
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def assert_takes_all_along(
    command: list[str], has_begun: Callable[[int], list[int] | None]
) -> None:
    """Whatever a command has started ends with it. `has_begun`: these, or None yet."""
    with subprocess.Popen(command, cwd=TESTS.parent, stderr=subprocess.DEVNULL) as process:
        try:
            begun = wait_for(lambda: has_begun(process.pid), "a run")
        finally:
            process.terminate()
        assert process.wait(DEADLINE_S) == 128 + signal.SIGTERM
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in begun), "their end")
