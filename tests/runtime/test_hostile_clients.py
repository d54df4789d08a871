"""Clients that mean harm: everybody else is served meanwhile, and nothing of them stays behind.

Memory is what all workers together have taken and not given back: the kernel spreads clients over
them by chance. Tables and buffers that are kept grow to the size of an attack, and some of them
once more in a later one; what leaks grows every time. So what counts is what most rounds add.
"""

from __future__ import annotations

import functools
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.attacks import (
    ATTACKS,
    CLIENTS,
    IDLE,
    KINDS,
    Attack,
    idle_connections,
    idle_streams,
    raise_descriptor_limit,
)
from support.certificates import Certificates
from support.heap import ONE_ALLOCATOR
from support.raw_websocket import CLOSE, TEXT, RawSocket, SecurePort, close_of
from support.servers import Server, wait_for

WORKERS = 2

# An attack comes again so often, and more often as long as most rounds add more than the slack.
ROUNDS = 3
MOST_ROUNDS = 9

# Half of what it would be if each client left 200 bytes behind. Of a session that is over it is
# remembered for a while what was to be done with it. Where only a few come, that is more than such
# a leak would be: test_leaks.py looks for those.
SLACK_BYTES_PER_CLIENT = 100
SLACK_BYTES = 64 * 1024

# The lowest of so many looks at a worker's memory counts: what is on its way comes on top.
LOOKS = 5

SECURE_IDLE = 1000

# A worker opens these when it first needs them.
LAZY = ("pipe:", "anon_inode:[timerfd]")


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
    environment = {**ONE_ALLOCATOR, **(Certificates(folder).environment() if secure else {})}
    stderr = folder / "stderr"
    with Server(
        "hostile_clients", workers=WORKERS, environment=environment, stderr=stderr
    ) as server:
        if secure:
            server.port = SecurePort(server.port)
        yield server


def descriptors(server: Server) -> list[int]:
    """How many each worker has, without those that it opens when it first needs them: pipes to
    wake other workers, and the timer of its event loop."""
    return [sum(not each.startswith(LAZY) for each in worker) for worker in targets(server)]


def targets(server: Server) -> list[list[str]]:
    """What the descriptors of each worker lead to."""
    folders = [Path(f"/proc/{pid}/fd") for pid in server.worker_pids()]
    return [list(filter(None, map(target, folder.iterdir()))) for folder in folders]


def target(descriptor: Path) -> str | None:
    try:
        return str(descriptor.readlink())
    except FileNotFoundError:  # closed in between
        return None


def live_bytes(server: Server) -> int:
    """What the workers hold."""
    looks: defaultdict[int, list[int]] = defaultdict(list)

    def has_seen_all() -> bool:
        with server.http() as http:
            answer = http.get("/live").json()
        looks[answer["pid"]].append(answer["bytes"])
        return len(looks) == server.processes and min(map(len, looks.values())) >= LOOKS

    wait_for(has_seen_all, "a look at each worker")
    return sum(min(seen) for seen in looks.values())


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


def suffer(server: Server, attack: Attack, before: list[int]) -> int:
    """One attack, and what memory is held when it is over. `before`: the descriptors."""
    for _ in attack(server.port):
        serves(server)
    serves(server)
    try:
        wait_for(lambda: descriptors(server) == before, f"as many descriptors as before, {before}")
    except AssertionError as error:
        raise AssertionError(f"{error}; there are {targets(server)}") from None
    return live_bytes(server)


def assert_leaves_nothing(server: Server, attack: Attack, clients: int = CLIENTS) -> None:
    pids = server.worker_pids()
    kept = settled_descriptors(server)
    slack = max(clients * SLACK_BYTES_PER_CLIENT, SLACK_BYTES)
    held = [suffer(server, attack, kept)]
    added: list[int] = []
    while len(added) < ROUNDS or (statistics.median(added) > slack and len(added) < MOST_ROUNDS):
        held.append(suffer(server, attack, kept))
        added.append(held[-1] - held[-2])
    assert statistics.median(added) <= slack, f"{added} bytes more, {slack} may be"
    assert server.worker_pids() == pids, "no worker was replaced"
    assert "panicked" not in server.log()


def settled_descriptors(server: Server) -> list[int]:
    """How many each worker has when nobody is there."""
    serves(server)
    seen: list[list[int]] = []

    def settled() -> list[int] | None:
        seen.append(descriptors(server))
        return seen[-1] if seen[-20:].count(seen[-1]) == 20 else None

    return wait_for(settled, "a steady number of descriptors")


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: str(attack.__name__))
def test_attack_disturbs_no_client_and_leaves_nothing(besieged: Server, attack: Attack) -> None:
    assert_leaves_nothing(besieged, attack)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("idle", [idle_connections, idle_streams])
def test_ten_thousand_idle_clients_disturb_no_client_and_leave_nothing(
    besieged: Server,
    room_for_idle: int,
    capsys: pytest.CaptureFixture[str],
    idle: Callable[..., Iterator[None]],
) -> None:
    if besieged.scheme == "https":
        # Ten thousand handshakes would be a test of this machine.
        assert_leaves_nothing(besieged, functools.partial(idle, count=SECURE_IDLE), SECURE_IDLE)
        return
    count = min(IDLE, room_for_idle)
    if count < IDLE:
        with capsys.disabled():
            sys.stdout.write(f"\n{count} idle clients: `ulimit -Hn` allows no more.\n")
    assert_leaves_nothing(besieged, functools.partial(idle, count=count), count)
