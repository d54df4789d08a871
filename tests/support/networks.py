"""Networks of a test's own: a server in a namespace, and clients behind links that are narrow, and
can break.

Each link is a pair of virtual interfaces between the server's namespace and one of its own, with a
token bucket at the server's end, and the server's send buffers are small: what a client has not
taken waits where it would on a real link, and not in megabytes of loopback. Needs root and
iproute2.

Where that cannot be had, `Slowed` does what it can: a server listens on a socket with a small send
buffer, and a thread carries bytes from it at the link's pace.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

_T = TypeVar("_T")

_CLONE_NEWNET = 0x40000000
_numbers = itertools.count(1)

# Least, default and most bytes of a send buffer.
SEND_BUFFER = (4096, 16384, 131072)


def why_not() -> str | None:
    """Why no network can be made here; None if one can."""
    if shutil.which("ip") is None or shutil.which("tc") is None:
        return "iproute2 is not installed: make .venv/ok-iproute2"
    if os.getuid() != 0:
        return "only root may make a network"
    try:
        with Network() as network:
            network.link(kilobits=1000)
    except subprocess.CalledProcessError as error:
        return f"no network can be made here: {error.stderr.strip()}"
    return None


class Link(Protocol):
    """A way to the server that has a pace."""

    def connect(self, port: int, *, receive_buffer: int | None = None) -> socket.socket:
        """A connection to the server over this link."""


class Network:
    """The namespace of a server. `with` makes it, and takes it and its links away again."""

    def __init__(self) -> None:
        self._name = f"fanbus-{os.getpid()}-{next(_numbers)}"
        self._links: list[Narrow] = []

    @property
    def inside(self) -> tuple[str, ...]:
        """What runs a command there."""
        return ("ip", "netns", "exec", self._name)

    def connections(self, port: int) -> list[str]:
        """Those that a server there holds, as `ss` has them."""
        states = ("state", "established", "state", "close-wait")
        return _run(*self.inside, "ss", "-Htn", *states, "sport", "=", f":{port}").splitlines()

    def __enter__(self) -> Network:
        least, usual, most = SEND_BUFFER
        _run("ip", "netns", "add", self._name)
        try:
            _run("ip", "-n", self._name, "link", "set", "lo", "up")
            buffers = f"net.ipv4.tcp_wmem={least} {usual} {most}"
            _run(*self.inside, "sysctl", "-qw", buffers)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for link in self._links:
            _run("ip", "netns", "del", link.name)
        _run("ip", "netns", "del", self._name)

    def link(self, *, kilobits: int) -> Narrow:
        """Another client's link to the server, so many kilobits a second wide."""
        link = Narrow(self._name, len(self._links) + 1)
        _run("ip", "netns", "add", link.name)
        self._links.append(link)
        link.lay(kilobits)
        return link


class Narrow:
    """One link. `break_` takes it down: what is sent over it is lost, and nobody is told."""

    def __init__(self, server: str, number: int) -> None:
        self.name = f"{server}-{number}"
        self._server = server
        self._interface = f"link{number}"
        self._subnet = f"10.{199 + number // 250}.{number % 250}"

    @property
    def address(self) -> str:
        """The server's, for clients of this link."""
        return f"{self._subnet}.1"

    def lay(self, kilobits: int) -> None:
        ours, theirs = self._interface, "uplink"
        _run(
            *("ip", "link", "add", ours, "netns", self._server, "type", "veth"),
            *("peer", "name", theirs, "netns", self.name),
        )
        _run("ip", "-n", self._server, "addr", "add", f"{self.address}/24", "dev", ours)
        _run("ip", "-n", self.name, "addr", "add", f"{self._subnet}.2/24", "dev", theirs)
        _run("ip", "-n", self._server, "link", "set", ours, "up")
        _run("ip", "-n", self.name, "link", "set", theirs, "up")
        bucket = ("rate", f"{kilobits}kbit", "burst", "3200", "latency", "400ms")
        _run("tc", "-n", self._server, "qdisc", "add", "dev", ours, "root", "tbf", *bucket)

    def connect(self, port: int, *, receive_buffer: int | None = None) -> socket.socket:
        connected = in_namespace(self.name, socket.socket)
        if receive_buffer is not None:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connected.settimeout(30)
        connected.connect((self.address, port))
        return connected

    def break_(self) -> None:
        """The client's system vanishes: nothing is answered any more, and nobody is told."""
        addresses = json.loads(_run("ip", "-n", self.name, "-j", "link", "show", "uplink"))
        # As behind a router: the server's system goes on to send what nobody gets.
        _run(
            *("ip", "-n", self._server, "neigh", "replace", f"{self._subnet}.2"),
            *("lladdr", addresses[0]["address"], "dev", self._interface, "nud", "permanent"),
        )
        _run("ip", "-n", self.name, "addr", "flush", "dev", "uplink")


class Slowed:
    """A link without a network: a thread carries bytes from a server's small buffer at a pace."""

    def __init__(self, *, kilobits: int) -> None:
        self._bytes_per_second = kilobits * 1000 // 8
        self._over = threading.Event()

    def __enter__(self) -> Slowed:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def connect(self, port: int, *, receive_buffer: int | None = None) -> socket.socket:
        far = socket.socket()
        far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer or 8192)
        far.settimeout(30)
        far.connect(("127.0.0.1", port))
        near, ours = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, receive_buffer or 8192)
        near.settimeout(30)
        for carry in (self._down, self._up):
            threading.Thread(target=carry, args=(far, ours), daemon=True).start()
        return near

    def _down(self, far: socket.socket, ours: socket.socket) -> None:
        step = 0.02
        far.settimeout(None)
        with contextlib.suppress(OSError), ours:
            while not self._over.wait(step):
                received = far.recv(max(1, int(self._bytes_per_second * step)))
                if not received:
                    return
                ours.sendall(received)

    def _up(self, far: socket.socket, ours: socket.socket) -> None:
        with contextlib.suppress(OSError), far:
            while sent := ours.recv(65536):
                far.sendall(sent)


def listening(send_buffer: int) -> socket.socket:
    """A socket for `--fd` whose connections have this send buffer."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    return listener


def in_namespace(name: str, make: Callable[[], _T]) -> _T:
    """What `make` makes in a network namespace, for example a socket, which stays there."""
    made: list[_T] = []
    failed: list[OSError] = []

    def enter() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        with Path(f"/run/netns/{name}").open("rb") as namespace:
            if libc.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                failed.append(OSError(ctypes.get_errno(), f"cannot enter {name}"))
                return
        made.append(make())

    # A namespace is a thread's: this one ends in it.
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return made[0]


def _run(*command: str) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)
    return done.stdout


@contextlib.contextmanager
def at_pace(messages_per_second: float) -> Iterator[Callable[[], None]]:
    """`wait()` returns so often."""
    due = time.monotonic()

    def wait() -> None:
        nonlocal due
        due += 1 / messages_per_second
        time.sleep(max(0.0, due - time.monotonic()))

    yield wait
