"""Clients that mean harm: everybody else is served meanwhile, and nothing of them stays behind.

Memory is looked at when the workers have given back what is free. Tables and buffers that are kept
grow to the size of an attack once, so each comes twice before: what leaks grows every time.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from attacks import (
    ATTACKS,
    CLIENTS,
    IDLE,
    KINDS,
    Attack,
    idle_connections,
    idle_streams,
    raise_descriptor_limit,
)
from certificates import Certificates
from rawsocket import CLOSE, TEXT, RawSocket, SecurePort, close_of
from running import Server, wait_for

WORKERS = 2

# What a worker may have more after two further times of the same attack. The kernel spreads clients
# over the workers by chance, so tables and heaps differ a little.
GROWTH = 2 * 1024 * 1024

SECURE_IDLE = 1000


@pytest.fixture(scope="module")
def room_for_idle() -> int:
    """How many idle clients this machine allows. Before the server, which inherits the limit."""
    return raise_descriptor_limit()


@pytest.fixture(scope="module", params=["http", "https"])
def besieged(
    room_for_idle: int, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """One server for all attacks: none of them may leave a trace."""
    assert room_for_idle > CLIENTS
    folder = tmp_path_factory.mktemp("besieged")
    secure = request.param == "https"
    environment = Certificates(folder).environment() if secure else {}
    stderr = folder / "stderr"
    with Server("besieged", workers=WORKERS, environment=environment, stderr=stderr) as server:
        if secure:
            server.port = SecurePort(server.port)
        yield server


class Footprint(NamedTuple):
    """What a worker holds."""

    anonymous_bytes: int
    """Memory of its own. Not the bus's, which is mapped, has one size, and is touched page by
    page; nor that of files."""

    descriptors: int
    """Without pipes: workers open those to each other when they first wake each other."""


def footprint(pid: int) -> Footprint:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.search(r"^Anonymous: +(\d+) kB$", rollup, re.MULTILINE)
    assert found is not None
    descriptors = Path(f"/proc/{pid}/fd").iterdir()
    kept = [each for each in descriptors if not is_pipe(each)]
    return Footprint(int(found[1]) * 1024, len(kept))


def is_pipe(descriptor: Path) -> bool:
    try:
        return str(descriptor.readlink()).startswith("pipe:")
    except FileNotFoundError:  # closed in between
        return False


def footprints(server: Server) -> list[Footprint]:
    return [footprint(pid) for pid in server.worker_pids()]


def tidied(server: Server) -> list[Footprint]:
    """What each worker holds when it has given back what it does not use."""
    waiting = set(server.worker_pids())
    assert len(waiting) == server.processes

    def all_met() -> bool:
        with server.http() as http:
            waiting.discard(http.get("/tidy").json()["pid"])
        return not waiting

    wait_for(all_met, "an answer of each worker")
    return footprints(server)


def serves(server: Server) -> None:
    """Well-behaved clients get what they came for."""
    for number in range(4):
        for kind in KINDS:
            path = f"/{kind}/guest-{number}"
            wait_for(functools.partial(is_served, server, path), f"an answer at {path}")


def is_served(server: Server, path: str) -> bool:
    """False: a flood of relays in one worker has overtaken the other, which tells its sessions.
    A client comes again then."""
    with RawSocket(server.port) as client:
        client.open(path)
        client.send(TEXT, b"Is anybody there?")
        frame = client.frame()
        if frame.opcode == CLOSE and path.startswith("/relay/"):
            assert close_of(frame)[0] == 1013
            return False
        assert frame == (TEXT, b"Is anybody there?", True)
        return True


def suffer(server: Server, attack: Attack, descriptors: list[int]) -> list[int]:
    """One attack, and the memory of each worker when it is over."""
    for _ in attack(server.port):
        serves(server)
    serves(server)
    wait_for(
        lambda: [each.descriptors for each in footprints(server)] == descriptors,
        f"as many descriptors as before, {descriptors}",
    )
    return [each.anonymous_bytes for each in tidied(server)]


def assert_leaves_nothing(server: Server, attack: Attack) -> None:
    pids = server.worker_pids()
    descriptors = settled_descriptors(server)
    suffer(server, attack, descriptors)
    before = suffer(server, attack, descriptors)
    suffer(server, attack, descriptors)
    after = suffer(server, attack, descriptors)
    growth = [then - first for first, then in zip(before, after, strict=True)]
    assert max(growth) <= GROWTH, f"{growth} bytes more in each worker"
    assert server.worker_pids() == pids, "no worker was replaced"
    assert "panicked" not in server.log()


def settled_descriptors(server: Server) -> list[int]:
    """How many each worker has when nobody is there."""
    serves(server)
    seen: list[list[int]] = []

    def settled() -> list[int] | None:
        seen.append([each.descriptors for each in footprints(server)])
        return seen[-1] if seen[-20:].count(seen[-1]) == 20 else None

    return wait_for(settled, "a steady number of descriptors")


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: str(attack.__name__))
def test_an_attack_disturbs_nobody_and_leaves_nothing(besieged: Server, attack: Attack) -> None:
    assert_leaves_nothing(besieged, attack)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("idle", [idle_connections, idle_streams])
def test_ten_thousand_idle_clients_disturb_nobody_and_leave_nothing(
    besieged: Server,
    room_for_idle: int,
    capsys: pytest.CaptureFixture[str],
    idle: Callable[..., Iterator[None]],
) -> None:
    if besieged.scheme == "https":
        # Ten thousand handshakes would be a test of this machine.
        assert_leaves_nothing(besieged, functools.partial(idle, count=SECURE_IDLE))
        return
    count = min(IDLE, room_for_idle)
    if count < IDLE:
        with capsys.disabled():
            sys.stdout.write(f"\n{count} idle clients: `ulimit -Hn` allows no more.\n")
    assert_leaves_nothing(besieged, functools.partial(idle, count=count))
