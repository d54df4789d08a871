"""Starts a system, waits until it has come to rest, and ends all of its processes."""

from __future__ import annotations

import contextlib
import http
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from .systems import HOME, System

START_S, END_S = 20.0, 5.0
# A server has come to rest when its processes have used next to nothing for so long.
REST_S = 0.3
POLL_S = 0.02
# The interval of requests to a server that starts: the precision of its start time.
ASK_S = 0.002
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class ServerError(Exception):
    """A server or a measurement that came to nothing; the text is for the table."""


class HangingError(ServerError):
    """The same, after a long wait: it is not worth another one."""


def end_in_order() -> None:
    """From now on SIGTERM ends this program as an exception does, and its servers with it."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


@contextlib.contextmanager
def serving(
    system: System, workers: int, environment: Mapping[str, str] | None = None
) -> Iterator[tuple[int, int]]:
    """The process and the port of a server that is ready."""
    with started(system, workers, environment) as (process, port, log):
        wait_until_ready(process, port, log)
        yield process.pid, port


@contextlib.contextmanager
def started(
    system: System, workers: int, environment: Mapping[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[bytes], int, Path]]:
    """A server that has just been started, its port, and the file of what it says."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="fanbus-compare-") as scratch:
        # nginx's workers run as another user, whose files are here.
        Path(scratch).chmod(0o755)
        log = Path(scratch) / "said"
        variables = {**(environment or {}), "SCRATCH": scratch}
        process = start(system, port, workers, variables, log)
        try:
            yield process, port, log
        finally:
            end(process)


def seconds_to_answer(system: System, path: str) -> float:
    """From the command to the first answer over HTTP that is whole, with one worker."""
    begun = time.monotonic()
    with started(system, 1) as (process, port, log):
        while True:
            check_start(process, begun + START_S, log)
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_S)
                with contextlib.closing(connection):
                    connection.request("GET", path)
                    answer = connection.getresponse()
                    answer.read()
                    if answer.status == http.HTTPStatus.OK:
                        return time.monotonic() - begun
            time.sleep(ASK_S)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def start(
    system: System, port: int, workers: int, variables: Mapping[str, str], log: Path
) -> subprocess.Popen[bytes]:
    given = {"PORT": str(port), "WORKERS": str(workers)}
    command = [
        part.replace("@PORT@", given["PORT"]).replace("@WORKERS@", given["WORKERS"])
        for part in system.command
    ]
    environment = {**os.environ, **given, **variables, "COMPARE": str(HOME)}
    # pip has compiled the packages; Fanbus, which runs from its sources, must be compiled too.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    with log.open("wb") as output:
        # A session of its own: whatever it starts ends with it.
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )


def wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Waits until the server listens and all its workers, which may start later, are idle."""
    deadline = time.monotonic() + START_S
    is_listening, used, since = False, -1.0, time.monotonic()
    while not is_listening or time.monotonic() - since < REST_S:
        check_start(process, deadline, log)
        if not is_listening:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                is_listening = True
        now = cpu_seconds(process.pid)
        if abs(now - used) > 1.5 * TICK_S:
            used, since = now, time.monotonic()
        time.sleep(POLL_S)


def check_start(process: subprocess.Popen[bytes], deadline: float, log: Path) -> None:
    """Raises if there is nothing left to wait for."""
    if process.poll() is not None:
        raise ServerError(f"it ended with status {process.returncode}: {last_line(log)}")
    if time.monotonic() > deadline:
        raise HangingError(f"it was not ready within {START_S:.0f} s: {last_line(log)}")


def last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it said nothing"


def cpu_seconds(pid: int) -> float:
    """The CPU time of a process and its descendants so far, without those that have ended."""
    return sum(ticks(each) for each in tree(pid)) * TICK_S


def ticks(pid: int) -> int:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(stat[11]) + int(stat[12])


def tree(pid: int) -> Iterator[int]:
    """A process and its descendants, as far as they are still there."""
    yield pid
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from tree(int(child))


def end(process: subprocess.Popen[bytes]) -> None:
    """Asks it to end, and then ends what is left of its session."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(END_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
