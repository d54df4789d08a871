"""Clients on narrow links that read without pause: they stay, whatever their queue's policy."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from fanbus import Bus
from support import networks
from support.raw_websocket import CLOSE, PING, PONG, RawSocket, close_of
from support.servers import DEADLINE_S, Server, wait_for

SILENCE_S = 4.0
# The same for sessions and for event streams.
ENVIRONMENT = {"SILENCE": str(SILENCE_S), "FANBUS_TIMEOUT_WRITE": str(SILENCE_S)}
KILOBITS = (64, 128, 256)
POLICIES = ("close", "drop_oldest", "drop_newest", "latest")
KINDS = (*POLICIES, "relay", "loop", "replay", "events")

# A client has to take as much as its link carries in so many times the silence that would close it.
SILENCES = 3


def amount(kilobits: int) -> int:
    return int(kilobits * 1000 / 8 * SILENCE_S * SILENCES)


@dataclass
class Outcome:
    """What a client has seen."""

    taken_bytes: int = 0
    pings: int = 0
    closed: tuple[int, str] | None = None
    failed: BaseException | None = None


class Client:
    """A client that reads and answers pings, as a browser does, until it has taken its amount."""

    def __init__(self, kind: str, kilobits: int, raw: RawSocket) -> None:
        self.kind = kind
        self.name = f"{kind}-{kilobits}"
        self.kilobits = kilobits
        self.raw = raw
        self.outcome = Outcome()
        self.begun = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            self._take_all()
        except (OSError, EOFError, AssertionError) as error:
            self.outcome.failed = error
        finally:
            self.begun.set()

    def _take_all(self) -> None:
        outcome, wanted = self.outcome, amount(self.kilobits)
        if self.kind == "events":
            host = "Host: test\r\n"
            self.raw.write(f"GET /events/{self.name} HTTP/1.1\r\n{host}\r\n".encode())
            assert self.raw.answer(head_only=True).status == 200
            self.begun.set()
            while outcome.taken_bytes < wanted:
                outcome.taken_bytes += len(self.raw.read_line())
            return
        what = f"{wanted // 20_000 + 1}" if self.kind == "loop" else self.name
        self.raw.open(f"/{self.kind}/{what}")
        if self.kind in POLICIES:
            assert self.raw.message() == "subscribed"
        self.begun.set()
        while outcome.taken_bytes < wanted:
            frame = self.raw.frame()
            if frame.opcode == PING:
                outcome.pings += 1
                self.raw.send(PONG, frame.payload)
            elif frame.opcode == CLOSE:
                outcome.closed = close_of(frame)
                return
            outcome.taken_bytes += len(frame.payload)
        # It could still close in order: it has not been given up.
        self.raw.send(CLOSE, b"\x03\xe8")
        assert self.raw.closed() == (1000, "")


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Narrow]:
    """A server, and links to it: in a network of their own, or as near to that as can be."""
    folder = tmp_path_factory.mktemp("narrow")
    with contextlib.ExitStack() as stack:
        if networks.why_not() is None:
            network = stack.enter_context(networks.Network())
            server = Server(
                "narrow_links",
                workers=1,
                environment={"HOST": "0.0.0.0", **ENVIRONMENT},
                stderr=folder / "stderr",
                inside=network.inside,
            )
            stack.enter_context(server)
            yield Narrow(server, lambda kilobits: network.link(kilobits=kilobits))
            return
        listener = stack.enter_context(networks.listening(networks.SEND_BUFFER[1]))
        environment = {**ENVIRONMENT, "FANBUS_FD": str(listener.fileno())}
        server = Server(
            "narrow_links",
            workers=1,
            environment=environment,
            stderr=folder / "stderr",
            pass_fds=(listener.fileno(),),
        )
        stack.enter_context(server)
        slowed = lambda kilobits: stack.enter_context(networks.Slowed(kilobits=kilobits))  # noqa: E731
        yield Narrow(server, slowed)


@dataclass
class Narrow:
    server: Server
    link: Callable[[int], networks.Link]

    def connect(self, kilobits: int, *, receive_buffer: int | None = None) -> RawSocket:
        connected = self.link(kilobits).connect(self.server.port, receive_buffer=receive_buffer)
        return RawSocket.on(connected)


@pytest.fixture(scope="module")
def outcomes(narrow: Narrow) -> dict[tuple[str, int], Outcome]:
    """All clients at the same time: each has a link of its own, and the machine little to do."""
    bus = Bus.open(f"narrow_links-{narrow.server.port}")
    stops = threading.Event()
    clients = [
        Client(kind, kilobits, narrow.connect(kilobits)) for kind in KINDS for kilobits in KILOBITS
    ]

    def publish(client: Client) -> None:
        """What its link can carry, at once; where a policy leaves messages out, twice that."""
        message = f"{client.name:<1000}"
        if client.kind in ("close", "relay", "events"):
            for _ in range(amount(client.kilobits) // 950 + 1):
                bus.publish(client.name, message)
        elif client.kind in POLICIES:
            with networks.at_pace(2 * client.kilobits / 8) as wait:
                while not stops.is_set() and client.thread.is_alive():
                    bus.publish(client.name, message)
                    wait()

    with bus:
        for kilobits in KILOBITS:
            for _ in range(amount(kilobits) // 950 + 1):
                bus.publish(f"kept:replay-{kilobits}", f"{kilobits:<1000}")
        publishers = []
        for client in clients:
            client.thread.start()
        for client in clients:
            assert client.begun.wait(DEADLINE_S), client.name
            publishers.append(threading.Thread(target=publish, args=(client,), daemon=True))
            publishers[-1].start()
        for client in clients:
            client.thread.join(SILENCES * SILENCE_S + DEADLINE_S)
            assert not client.thread.is_alive(), (client.name, client.outcome)
        stops.set()
        for publisher in publishers:
            publisher.join(DEADLINE_S)
    for client in clients:
        client.raw.socket.close()
    return {(client.kind, client.kilobits): client.outcome for client in clients}


@pytest.mark.parametrize("kilobits", KILOBITS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_client_that_reads_without_pause_stays(
    outcomes: dict[tuple[str, int], Outcome], kind: str, kilobits: int
) -> None:
    outcome = outcomes[kind, kilobits]
    assert outcome.failed is None, outcome
    assert outcome.closed is None, outcome
    assert outcome.taken_bytes >= amount(kilobits), outcome


def test_clients_that_have_stopped_are_closed_after_the_timeout(narrow: Narrow) -> None:
    with contextlib.ExitStack() as stack:
        asks = stack.enter_context(narrow.connect(10_000))

        def ended(kind: str) -> list[object]:
            asks.write(f"GET /ended/stopped-{kind} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
            answer: list[object] = json.loads(asks.answer().body)
            return answer

        bus = stack.enter_context(Bus.open(f"narrow_links-{narrow.server.port}"))
        for kind in POLICIES:
            raw = stack.enter_context(narrow.connect(256, receive_buffer=4096))
            raw.open(f"/{kind}/stopped-{kind}")
            assert raw.message() == "subscribed"
            for _ in range(1000):
                bus.publish(f"stopped-{kind}", "x" * 1000)
        for kind in POLICIES:
            code, reason = wait_for(lambda kind=kind: ended(kind), f"the end of {kind}")  # type: ignore[misc]
            assert code == 1001, kind
            assert str(reason).endswith(f"for {SILENCE_S:g} s"), kind
