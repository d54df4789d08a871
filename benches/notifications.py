"""Notifications at a rate: how long a message takes from its publisher to one of 10,000 users.

    make .venv/ok-release && benches/compare/install
    .venv/bin/python -m benches.notifications [--rounds 5] [--seconds 4] [--awake]

Each user is a WebSocket client with a topic of its own. One program publishes to them in turn,
each message when it is due, whether or not earlier ones have arrived (an open loop). All times are
of one clock, which the kernel also uses for the arrival of a packet. So the figures separate three
waits: until the publisher ran, until the message was in the client's socket, and until the client
read it.

"a socket" measures the machine itself: the publisher writes to a connection that the client
reads, without a server. `--awake` keeps the CPUs from going idle, by programs that run when
nothing else does: the difference is the time that waking a CPU takes. `--first` runs all of it with
real-time priority, as root: without it, on a busy machine, the other programs are measured.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import multiprocessing
import os
import random
import resource
import select
import socket
import statistics
import struct
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fanbus import Bus

from .compare.keeping import head
from .compare.notifying import HANDSHAKE, MARK, masked
from .compare.rows import FANBUS
from .compare.serving import cpu_seconds, end_in_order, serving
from .compare.systems import system_of
from .compare.tables import column, pick, short, spread

CENTRIFUGO = "Centrifugo"
BYTES = 60
ANSWER_S = 10.0
# When nothing has come for so long after the last publish, nothing more is expected.
SILENCE_S = 2.0
QUANTILES = {"p50": 0.5, "p99": 0.99, "p999": 0.999}
PING, PONG = b"\x89\x00", b"\x8a\x80\x00\x00\x00\x00"
# The option of a socket, and the message that carries the time: two longs.
TIMESTAMP, STAMP = 35, struct.Struct("@ll")

Publish = Callable[[int, str], object]
Run = dict[str, Any]


@dataclass(frozen=True)
class Way:
    """How messages come to users."""

    name: str
    # Empty: there is no server.
    system: str
    # Where a user connects. USER stands for its number.
    path: str
    # A request by which a server publishes. Empty: the publisher writes to the bus.
    request: str


WAYS = (
    Way("Fanbus, script with `Bus`", FANBUS, "/user/USER", ""),
    Way("Fanbus, handler", FANBUS, "/user/USER", "/notify/one"),
    Way("Centrifugo, its API", CENTRIFUGO, "/connection/websocket", "/api/publish"),
    Way("a socket", "", "", ""),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--rates", type=int, nargs="+", default=[1000, 2000, 5000])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", default="", help="ways whose names contain this")
    parser.add_argument("--awake", action="store_true", help="no CPU goes idle meanwhile")
    parser.add_argument("--first", action="store_true", help="before all other programs, as root")
    parser.add_argument("--record", type=Path, metavar="FILE", help="all runs go there, too")
    options = parser.parse_args()
    end_in_order()
    if options.first:
        # Inherited by all that is started from here.
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    ways = [way for way in WAYS if options.only.casefold() in way.name.casefold()]
    results: dict[str, list[Run]] = {}
    with busy_cpus() if options.awake else contextlib.nullcontext():
        for number in range(options.rounds):
            for workers in options.workers:
                for way in ways if number % 2 == 0 else reversed(ways):
                    if not way.system and workers != options.workers[0]:
                        continue  # it has none
                    for rate, run in measured(way, workers, options):
                        name = f"{way.name} | {workers if way.system else '–'} | {rate:,}"
                        results.setdefault(name, []).append(run)
                        sys.stderr.write(f"{number + 1}, {name}: {run}\n")
    if options.record is not None:
        system = head([], options.rounds, options.seconds)
        record = {"system": system, "awake": options.awake, "results": results}
        options.record.write_text(json.dumps(record, indent=1) + "\n")
    print(table(results))
    return int(any(run["missing"] for runs in results.values() for run in runs))


@contextlib.contextmanager
def busy_cpus() -> Iterator[None]:
    """On each CPU a program that runs when nothing else wants to."""
    spinners = [context().Process(target=spin, args=(cpu,)) for cpu in range(os.cpu_count() or 1)]
    for each in spinners:
        each.start()
    try:
        yield
    finally:
        for each in spinners:
            each.kill()
            each.join()


def spin(cpu: int) -> None:
    os.sched_setaffinity(0, {cpu})
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    while True:
        pass


def context() -> multiprocessing.context.SpawnContext:
    """A new process inherits none of the users' connections."""
    return multiprocessing.get_context("spawn")


def measured(way: Way, workers: int, options: argparse.Namespace) -> Iterator[tuple[int, Run]]:
    """The figures at each rate, of one server."""
    with contextlib.ExitStack() as stack:
        pid, port = 0, 0
        if way.system:
            pid, port = stack.enter_context(serving(system_of(way.system), workers))
        crowd = stack.enter_context(Crowd())  # it leaves before the server ends
        for number in range(options.users if way.system else 0):
            crowd.connect(way.path, port, number)
        for rate in options.rates:
            count = int(rate * options.seconds)
            listener = None if way.system else stack.enter_context(crowd.listening())
            given = (way, listener.getsockname()[1] if listener else port, options.users)
            publisher = context().Process(target=publish_all, args=(*given, rate, count))
            used, idle = cpu_seconds(pid) if pid else 0.0, idle_seconds()
            began = time.monotonic()
            publisher.start()
            if listener:
                crowd.take(listener.accept()[0])
            run = crowd.read(count, options.seconds)
            publisher.join(ANSWER_S)
            took = (time.monotonic() - began) * (os.cpu_count() or 1)
            if pid:
                run["cpu_us"] = (cpu_seconds(pid) - used) * 1e6 / max(run["delivered"], 1)
            run["idle"] = (idle_seconds() - idle) / took
            yield rate, run


class Crowd:
    """The users, all in this process."""

    def __init__(self) -> None:
        self._sockets: dict[int, socket.socket] = {}
        self._poll = select.epoll()

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._sockets.values():
            each.close()
        self._poll.close()

    def connect(self, path: str, port: int, number: int) -> None:
        """One more user, subscribed to its topic."""
        it = socket.create_connection(("127.0.0.1", port), timeout=ANSWER_S)
        it.sendall(HANDSHAKE.format(path=path.replace("USER", str(number)), port=port).encode())
        until(it, b"\r\n\r\n")
        if "USER" not in path:
            commands = [
                {"id": 1, "connect": {}},
                {"id": 2, "subscribe": {"channel": f"user-{number}"}},
            ]
            it.sendall(masked("\n".join(map(json.dumps, commands))))
            until(it, b'"id":2')
        self.take(it)

    def take(self, it: socket.socket) -> None:
        it.setblocking(False)
        it.setsockopt(socket.SOL_SOCKET, TIMESTAMP, 1)
        self._sockets[it.fileno()] = it
        self._poll.register(it, select.EPOLLIN)

    @staticmethod
    def listening() -> socket.socket:
        return socket.create_server(("127.0.0.1", 0))

    def read(self, count: int, seconds: float) -> Run:
        """Until so many messages have come, or nothing comes any more."""
        waits: dict[str, list[float]] = {"publisher": [], "server": [], "client": [], "all": []}
        received, deadline = 0, time.monotonic() + ANSWER_S + seconds
        gc.disable()
        while received < count and time.monotonic() < deadline:
            for descriptor, _ in self._poll.poll(SILENCE_S):
                data, notes, _, _ = self._sockets[descriptor].recvmsg(1 << 16, 64)
                now = time.time_ns()
                if not data:
                    self._poll.unregister(descriptor)
                    continue
                if data.startswith(PING):
                    self._sockets[descriptor].send(PONG)
                elif data[2:4] == b"{}":
                    self._sockets[descriptor].send(masked("{}"))  # Centrifugo's ping
                messages = data.split(MARK)[1:]
                if not messages:
                    continue
                second, rest = STAMP.unpack(notes[0][2])
                for message in messages:
                    due, began, _ = message.split(b":", 2)
                    waits["publisher"].append((int(began) - int(due)) / 1000)
                    waits["server"].append((second * 10**9 + rest - int(began)) / 1000)
                    waits["client"].append((now - second * 10**9 - rest) / 1000)
                    waits["all"].append((now - int(began)) / 1000)
                    received += 1
        gc.enable()
        return {"delivered": received, "missing": count - received} | {
            name: quantiles(values) for name, values in waits.items()
        }


def until(it: socket.socket, mark: bytes) -> None:
    data = b""
    while mark not in data:
        piece = it.recv(1 << 16)
        if not piece:
            raise ConnectionError("a connection was refused")
        data += piece


def quantiles(values: list[float]) -> dict[str, float]:
    values = sorted(values)
    return {name: values[int(part * len(values))] for name, part in QUANTILES.items() if values}


def publish_all(way: Way, port: int, users: int, rate: int, count: int) -> None:
    """The work of the publisher's process."""
    with contextlib.ExitStack() as stack:
        publish = publishing(way, port, stack)
        # In no order that a server could know.
        order = list(range(users))
        random.Random(count).shuffle(order)
        gc.disable()
        begun = time.time_ns() + 100_000_000
        for number in range(count):
            due = begun + number * 10**9 // rate
            if (ahead := due - time.time_ns()) > 0:
                time.sleep(ahead / 1e9)
            text = f"{MARK.decode()}{due}:{time.time_ns()}:".ljust(BYTES, "x")
            publish(order[number % users], text)
        time.sleep(SILENCE_S / 2)  # connections are open until their last answers have come


def publishing(way: Way, port: int, stack: contextlib.ExitStack) -> Publish:
    if way.system and not way.request:
        bus = stack.enter_context(Bus.open(f"bench-{port}"))
        return lambda user, text: bus.publish(f"user:{user}", text)
    it = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
    it.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not way.request:
        return lambda _, text: it.sendall(text.encode())

    def ask(user: int, text: str) -> None:
        messages = {"channel": f"user-{user}", "data": {"text": text}}
        body = json.dumps(messages if way.system == CENTRIFUGO else {"user": user, "text": text})
        fields = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        it.sendall(f"POST {way.request} HTTP/1.1\r\nHost: 127.0.0.1\r\n{fields}{body}".encode())
        # Responses are read when the next message is published: the publisher does not wait.
        with contextlib.suppress(BlockingIOError):
            it.recv(1 << 16, socket.MSG_DONTWAIT)

    return ask


def idle_seconds() -> float:
    """Of all CPUs together."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()
    return int(fields[4]) / os.sysconf("SC_CLK_TCK")


def table(results: dict[str, list[Run]]) -> str:
    """Medians of the rounds; of the whole, with its spread."""
    parts = ("publisher", "server", "client")
    lines = [
        "| way | workers | per second | p50, µs | p99, µs | spread | p99.9, µs | spread "
        "| p99 until published / in the socket / read | server CPU, µs | CPUs idle |",
        "|---" * 11 + "|",
    ]
    for name, runs in results.items():

        def figures(path: str, runs: list[Run] = runs) -> list[float]:
            return column(runs, lambda run: pick(run, path))

        def middle(path: str, runs: list[Run] = runs) -> str:
            found = column(runs, lambda run: pick(run, path))
            return short(statistics.median(found)) if found else "–"

        p99, p999 = figures("all.p99"), figures("all.p999")
        messages = " / ".join(middle(f"{part}.p99") for part in parts)
        lines.append(
            f"| {name} | {middle('all.p50')} | {middle('all.p99')} | {spread(p99)} "
            f"| {middle('all.p999')} | {spread(p999)} | {messages} | {middle('cpu_us')} "
            f"| {statistics.median(figures('idle')):.0%} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
