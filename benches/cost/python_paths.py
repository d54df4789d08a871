"""The paths through CPython: benches/cost/app.py under callgrind, with its clients outside.

The application serves in one process, so all its instructions are counted: those of the I/O thread,
the event loop, and a handler's thread. Between the windows of a path, callgrind gets the command to
write its counts and to start again from zero, through valgrind's gdbserver.

A step begins when all threads sleep. Otherwise, depending on the machine's load, the client's next
message would find a thread awake or asleep, and a thread that is awake needs no wake-up: a publish
from a handler in Python was 27,700 or 37,000 instructions then.
"""

from __future__ import annotations

import base64
import contextlib
import os
import platform
import re
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
DEADLINE_S = 120.0

# So often a path is walked before the first window, and in each.
WARM_UP = 30
COUNT = 100
WINDOWS = 5
# A publish is so short that the marks of the windows would show with fewer of them.
PUBLISHES = 5000

BURST = 16
MESSAGE = b"x1y2" * 32
# Any key does; see benches/cost/src/websocket.rs.
KEY = b"\x37\xfa\x21\x3d"

# The variables that make the counts of CPython differ between runs or machines.
ENVIRONMENT = {
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "FANBUS_SINGLE_PROCESS": "1",
    "FANBUS_LOOP": "asyncio",
}

# The system calls in which an idle thread sleeps: epoll, poll and futex, and the call that
# continues them after an interruption. Valgrind runs one thread at a time; a thread that waits for
# its turn is in `read`.
RESTING = {
    "x86_64": {"7", "202", "219", "232", "271", "281", "441"},
    "aarch64": {"22", "73", "98", "128", "441"},
}
POLL_S = 0.0002

Step = Callable[[], None]


def paths(only: str) -> dict[str, float]:
    """Instructions of each path whose name contains this: the least of its windows, per walk."""
    found: dict[str, float] = {}
    served = {name: client for name, client in CLIENTS.items() if only in name}
    if served:
        with Counted() as counted:
            port = int(counted.wait_for(r"http://127\.0\.0\.1:(\d+)")[1])
            for name, client in served.items():
                with client(port) as step:

                    def from_rest(step: Step = step) -> None:
                        step()
                        counted.wait_for_rest()

                    walks = repeat(from_rest, COUNT), repeat(from_rest, WARM_UP)
                    found[name] = counted.windows(*walks) / COUNT
    if only in PUBLISH:
        with Counted("publish") as counted:
            counted.wait_for("ready")
            publish = counted.step_of(PUBLISHES)
            found[PUBLISH] = counted.windows(publish, publish) / PUBLISHES
    return found


def repeat(step: Step, count: int) -> Step:
    def steps() -> None:
        for _ in range(count):
            step()

    return steps


class Counted:
    """The application under callgrind, which does not count before the first window."""

    def __init__(self, *arguments: str) -> None:
        self._publishes = "publish" in arguments
        self._folder = tempfile.TemporaryDirectory()
        self._log = Path(self._folder.name) / "said"
        command = ["valgrind", "--quiet", "--tool=callgrind", "--separate-threads=yes"]
        command += ["--instr-atstart=no", f"--callgrind-out-file={self._folder.name}/out"]
        command += [sys.executable, str(HERE / "app.py"), *arguments]
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env={**os.environ, **ENVIRONMENT},
            )

    def __enter__(self) -> Counted:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        # The publisher ends with its input, and takes its bus along.
        if not self._publishes:
            self._process.terminate()
        try:
            self._process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()

    def wait_for(self, pattern: str, times: int = 1) -> re.Match[str]:
        """Waits until it has printed this that many times."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            printed = self._log.read_text(errors="replace")
            found = list(re.finditer(pattern, printed))
            if len(found) >= times:
                return found[times - 1]
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"The application did not say {pattern!r}, but:\n{printed}")
            time.sleep(0.01)

    def wait_for_rest(self) -> None:
        """Until no thread has anything to do.

        Threads are looked at one after the other, and one of them may wake another that was looked
        at before. So no thread may have run between two looks at all of them.
        """
        deadline, before = time.monotonic() + DEADLINE_S, None
        while (now := sleepers(self._process.pid)) is None or now != before:
            if time.monotonic() > deadline:
                raise SystemExit("The application did not come to rest.")
            before = now
            time.sleep(POLL_S)

    def step_of(self, count: int) -> Step:
        """Walks so many by telling it to, and waits until it has done so."""
        times = 0

        def steps() -> None:
            nonlocal times
            times += 1
            assert self._process.stdin is not None
            self._process.stdin.write(f"{count}\n".encode())
            self._process.stdin.flush()
            self.wait_for("done", times)

        return steps

    def windows(self, window: Step, warm_up: Step) -> float:
        """The instructions of all threads in a window. The minimum counts: the rest are ticks of a
        worker's clocks, whose number grows with the time that a busy machine takes."""
        self._tell("instrumentation", "on")
        warm_up()
        self._tell("dump")
        before = self._dumps()
        for _ in range(WINDOWS):
            window()
            self._tell("dump")
        totals = [total for part, total in self._totals().items() if part > before]
        if len(totals) != WINDOWS:
            raise SystemExit(f"Callgrind dumped {len(totals)} windows of {WINDOWS}.")
        return min(totals)

    def _tell(self, *command: str) -> None:
        """To callgrind, beside the program."""
        full_command = ["vgdb", f"--pid={self._process.pid}", *command]
        done = subprocess.run(
            full_command, capture_output=True, text=True, check=False, timeout=DEADLINE_S
        )
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(full_command)}: {done.stdout}{done.stderr}")

    def _dumps(self) -> int:
        return max(self._totals(), default=0)

    def _totals(self) -> dict[int, int]:
        """Of each dump, over its threads."""
        found: dict[int, int] = {}
        for path in Path(self._folder.name).glob("out.*"):
            text = path.read_text(errors="replace")
            words = dict(re.findall(r"^(part|totals): (\d+)$", text, re.MULTILINE))
            if "totals" in words:
                part = int(words["part"])
                found[part] = found.get(part, 0) + int(words["totals"])
        return found


def sleepers(pid: int) -> dict[str, str] | None:
    """How often each thread of a process has gone to sleep; None if one of them does not."""
    found = {}
    for thread in Path(f"/proc/{pid}/task").iterdir():
        # "running" while it runs or could.
        if (thread / "syscall").read_text().split()[0] not in RESTING[platform.machine()]:
            return None
        status = (thread / "status").read_text()
        found[thread.name] = status.partition("voluntary_ctxt_switches:")[2].split()[0]
    return found


Client = Callable[[int], contextlib.AbstractContextManager[Step]]


def request(path: str) -> Client:
    """A request on a connection that stays open."""

    @contextlib.contextmanager
    def client(port: int) -> Iterator[Step]:
        message = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        with connected(port) as connection:

            def step() -> None:
                connection.sendall(message)
                head = b""
                while b"\r\n\r\n" not in head or not head.endswith(b"}"):
                    head += received(connection)
                assert head.startswith(b"HTTP/1.1 200 "), head

            yield step

    return client


def messages(path: str, at_once: int = 1) -> Client:
    """Messages of a WebSocket, which come back: so many in one write."""

    @contextlib.contextmanager
    def client(port: int) -> Iterator[Step]:
        masked = bytes(byte ^ KEY[place % 4] for place, byte in enumerate(MESSAGE))
        frame = b"\x81\xfe" + len(MESSAGE).to_bytes(2, "big") + KEY + masked
        back = b"\x81\x7e" + len(MESSAGE).to_bytes(2, "big") + MESSAGE
        with connected(port) as connection:
            key = base64.b64encode(b"0123456789abcdef").decode()
            connection.sendall(
                f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
                f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                f"Sec-WebSocket-Key: {key}\r\n\r\n".encode()
            )
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += received(connection)
            assert head.startswith(b"HTTP/1.1 101 "), head

            def step() -> None:
                connection.sendall(frame * at_once)
                came = b""
                while len(came) < len(back) * at_once:
                    came += received(connection)
                assert came == back * at_once

            yield step

    return client


def connected(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), DEADLINE_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def received(connection: socket.socket) -> bytes:
    """The received bytes. A client that only waits leaves the CPU to the application."""
    select.select([connection], [], [], DEADLINE_S)
    came = connection.recv(1 << 16)
    if not came:
        raise SystemExit("The application closed the connection.")
    return came


CLIENTS: dict[str, Client] = {
    "Python: HTTP request, def": request("/sync"),
    "Python: HTTP request, async def": request("/async"),
    "Python: echo of 128 B": messages("/echo"),
    f"Python: {BURST} echoes of 128 B at once": messages("/echo", BURST),
    "Python: room of 1, app.publish of 128 B": messages("/room"),
}
PUBLISH = "Python: Bus.publish of 128 B"
