"""Servers that `fanbus run` was asked for, with the options of a test."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol

import httpx

from support import segments
from support.paths import APPS
from support.servers import DEADLINE_S, wait_for


class Running:
    """A server that `fanbus run` was asked for."""

    def __init__(self, directory: Path, number: int, words: tuple[str, ...], **popen: Any) -> None:
        self.stderr = directory / f"stderr-{number}"
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("FANBUS_")
        }
        environment |= popen.pop("environment", {})
        prefix = popen.pop("prefix", ())
        name = "options:make" if "--factory" in words else "options:app"
        target = popen.pop("target", (name, "--app-dir", str(APPS)))
        program = popen.pop("program", ("-m", "fanbus", "run", *target, *words))
        with self.stderr.open("wb") as output:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, *program],
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                **popen,
            )

    def log(self) -> str:
        return self.stderr.read_text(errors="replace")

    def ready(self) -> Running:
        def is_up() -> bool:
            assert self.process.poll() is None, self.log()
            return " serves " in self.log()

        wait_for(is_up, "the banner")
        return self

    @property
    def port(self) -> int:
        found = re.search(r"http://127\.0\.0\.1:(\d+)", self.log())
        assert found is not None
        return int(found[1])

    def get(self, path: str = "/place", **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"http://127.0.0.1:{self.port}{path}"
        return httpx.get(url, headers=named, timeout=DEADLINE_S, trust_env=False)

    def wait_for_log(self, text: str) -> str:
        """The line that has it."""
        wait_for(lambda: text in self.log(), f"{text!r} on stderr")
        return next(line for line in self.log().splitlines() if text in line)

    def destroy(self) -> None:
        """Nothing of it stays: no process, and no bus that it keeps or that a kill left."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(DEADLINE_S)
        if "http://127.0.0.1:" in self.log():
            segments.remove_of_port(self.port)

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE_S)


class Run(Protocol):
    def __call__(self, *words: str, wait: bool = True, **popen: Any) -> Running: ...


def over(path: Path, target: str = "/place", **headers: str) -> dict[str, Any]:
    """An answer over a Unix socket."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), timeout=DEADLINE_S) as client:
        found: dict[str, Any] = client.get(f"http://server{target}", headers=named).json()
        return found


def refused(one: Running, said: str, status: int = 1) -> None:
    assert one.process.wait(DEADLINE_S) == status, one.log()
    assert said in one.log()
    assert "Traceback" not in one.log()
