"""Starts a system, waits until it has come to rest, and ends all of its processes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from .systems import HOME, System

START_S, END_S = 30.0, 5.0
# A server has come to rest when its processes have used next to nothing for so long.
REST_S = 0.3
POLL_S = 0.02
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class ServerError(Exception):
    """A server or a measurement that came to nothing; the text is for the table."""


def end_in_order() -> None:
    """From now on SIGTERM ends this program as an exception does, and its servers with it."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


@contextlib.contextmanager
def serving(system: System, workers: int) -> Iterator[tuple[int, int]]:
    """The process and the port of a server that is ready."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="fanbus-compare-") as scratch:
        # nginx's workers are another user, who looks for its files here.
        Path(scratch).chmod(0o755)
        said = Path(scratch) / "said"
        process = start(system, port, workers, Path(scratch), said)
        try:
            wait_until_ready(process, port, said)
            yield process.pid, port
        finally:
            end(process)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def start(
    system: System, port: int, workers: int, scratch: Path, said: Path
) -> subprocess.Popen[bytes]:
    given = {"PORT": str(port), "WORKERS": str(workers)}
    command = [
        part.replace("@PORT@", given["PORT"]).replace("@WORKERS@", given["WORKERS"])
        for part in system.command
    ]
    environment = {**os.environ, **given, "SCRATCH": str(scratch), "COMPARE": str(HOME)}
    with said.open("wb") as output:
        # A session of its own: whatever it starts ends with it.
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )


def wait_until_ready(process: subprocess.Popen[bytes], port: int, said: Path) -> None:
    """Until it listens, and its workers, who may listen later than the first of them, rest."""
    deadline = time.monotonic() + START_S
    is_listening, used, since = False, -1.0, time.monotonic()
    while not is_listening or time.monotonic() - since < REST_S:
        if process.poll() is not None:
            raise ServerError(f"it ended with status {process.returncode}: {last_line(said)}")
        if time.monotonic() > deadline:
            raise ServerError(f"it was not ready within {START_S:.0f} s: {last_line(said)}")
        if not is_listening:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                is_listening = True
        now = cpu_seconds(process.pid)
        if abs(now - used) > 1.5 * TICK_S:
            used, since = now, time.monotonic()
        time.sleep(POLL_S)


def last_line(said: Path) -> str:
    lines = [line for line in said.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it said nothing"


def cpu_seconds(pid: int) -> float:
    """What a process and its descendants have used so far. What has gone counts as nothing."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [child for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return 0.0
    own = (int(stat[11]) + int(stat[12])) * TICK_S
    return own + sum(cpu_seconds(int(child)) for child in children)


def end(process: subprocess.Popen[bytes]) -> None:
    """Asks it to end, and then ends what is left of its session."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(END_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
