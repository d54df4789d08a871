"""Peers that vanish: the table of docs/guarantees.md, state by state.

Nothing tells the server: the client's system answers no more. In each state of a connection
something ends it nevertheless, and what waited for it.
"""

from __future__ import annotations

import contextlib
import json
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import h2.config
import h2.connection
import pytest

from support import networks
from support.certificates import Certificates
from support.raw_websocket import BINARY, RawSocket
from support.servers import Server, wait_for

# All limits as short as they can be told from each other, and the slowest of them is TCP's own: a
# question after one second, and six more.
ENVIRONMENT = {
    "HOST": "0.0.0.0",
    "SILENCE": "3",
    "FANBUS_TCP_KEEPALIVE": "1",
    "FANBUS_TIMEOUT_HEAD": "2",
    "FANBUS_TIMEOUT_BODY": "2",
    "FANBUS_TIMEOUT_WRITE": "3",
    "FANBUS_TIMEOUT_KEEP_ALIVE": "2",
}
END_S = 60.0


@dataclass
class Place:
    """A server with a link that can break, and one that stays."""

    network: networks.Network
    server: Server
    breaks: networks.Narrow
    stays: networks.Narrow
    certificates: Certificates | None = None

    def connect(self) -> RawSocket:
        return RawSocket.on(self.breaks.connect(self.server.port))

    def connections(self) -> list[str]:
        """Of the link that breaks."""
        address = f"{self.breaks.address}:{self.server.port}"
        return [line for line in self.network.connections(self.server.port) if address in line]

    def here(self) -> list[str]:
        """Whose handlers have not come to their end."""
        with RawSocket.on(self.secured(self.stays)) as raw:
            raw.write(b"GET /here HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
            found: list[str] = json.loads(raw.answer().body)
            return found

    def secured(self, link: networks.Narrow, *protocols: str) -> ssl.SSLSocket:
        connected = link.connect(self.server.port)
        if self.certificates is None:
            return connected  # type: ignore[return-value]
        context = self.certificates.trusted(protocols=protocols or ("http/1.1",))
        return context.wrap_socket(connected, server_hostname="localhost")


@contextlib.contextmanager
def placed(folder: Path, certificates: Certificates | None = None, **more: str) -> Iterator[Place]:
    reason = networks.why_not()
    if reason is not None:
        pytest.skip(reason)
    environment = {**ENVIRONMENT, **more, **(certificates.environment() if certificates else {})}
    with networks.Network() as network:
        server = Server(
            "narrow_links",
            workers=1,
            environment=environment,
            stderr=folder / "stderr",
            inside=network.inside,
        )
        with server:
            breaks, stays = network.link(kilobits=10_000), network.link(kilobits=10_000)
            yield Place(network, server, breaks, stays, certificates)


Arrive = Callable[[Place], RawSocket]
STATES: dict[str, Arrive] = {}


def state(arrive: Arrive) -> Arrive:
    STATES[arrive.__name__.replace("_", " ")] = arrive
    return arrive


def asked(place: Place, method: str, path: str, more: str = "") -> RawSocket:
    raw = place.connect()
    raw.write(f"{method} {path} HTTP/1.1\r\nHost: test\r\n{more}\r\n".encode())
    return raw


def opened(place: Place, path: str) -> RawSocket:
    raw = place.connect()
    raw.open(path)
    return raw


@state
def before_a_head(place: Place) -> RawSocket:
    return place.connect()


@state
def in_a_head(place: Place) -> RawSocket:
    raw = place.connect()
    raw.write(b"GET /here HTTP/1.1\r\nHo")
    return raw


@state
def in_a_body(place: Place) -> RawSocket:
    raw = asked(place, "POST", "/body", "Content-Length: 9\r\n")
    raw.write(b"half")
    return raw


@state
def a_handler_that_waits(place: Place) -> RawSocket:
    return asked(place, "GET", "/wait/handler")


@state
def a_generator_that_waits(place: Place) -> RawSocket:
    raw = asked(place, "GET", "/generate/generator")
    assert raw.answer(head_only=True).status == 200
    return raw


@state
def a_response_that_is_written(place: Place) -> RawSocket:
    raw = asked(place, "GET", "/endless/endless")
    assert raw.answer(head_only=True).status == 200
    return raw


@state
def idle_between_requests(place: Place) -> RawSocket:
    raw = asked(place, "GET", "/here")
    assert raw.answer().status == 200
    return raw


@state
def an_event_stream(place: Place) -> RawSocket:
    raw = asked(place, "GET", "/events/quiet")
    assert raw.answer(head_only=True).status == 200
    return raw


@state
def a_session_with_pings(place: Place) -> RawSocket:
    raw = opened(place, "/close/pings")
    assert raw.message() == "subscribed"
    return raw


@state
def a_session_without_limits_that_receives(place: Place) -> RawSocket:
    raw = opened(place, "/receives/receives")
    assert raw.message() == "here"
    return raw


@state
def a_session_without_limits_that_does_not_receive(place: Place) -> RawSocket:
    raw = opened(place, "/deaf/deaf")
    assert raw.message() == "here"
    return raw


@state
def a_session_with_pings_that_nobody_reads_from(place: Place) -> RawSocket:
    raw = opened(place, "/paused/paused")
    assert raw.message() == "here"
    for _ in range(8):
        raw.send(BINARY, bytes(1000))
    return raw


@state
def a_session_without_limits_that_nobody_reads_from(place: Place) -> RawSocket:
    raw = opened(place, "/unlimited/unlimited")
    assert raw.message() == "here"
    for _ in range(8):
        raw.send(BINARY, bytes(1000))
    return raw


def test_whatever_a_vanished_peer_was_doing_its_connection_ends(tmp_path: Path) -> None:
    with placed(tmp_path) as place, contextlib.ExitStack() as stack:
        # What is answered or read first comes last, so that its own limit does not end it before.
        order = sorted(STATES, key=lambda name: name in ("before a head", "in a head", "in a body"))
        for name in order:
            stack.enter_context(STATES[name](place))
        handlers = ["deaf", "endless", "generator", "handler", "paused", "receives", "unlimited"]
        wait_for(lambda: set(place.here()) >= set(handlers), "all of them")
        place.breaks.break_()
        wait_for(lambda: not place.connections(), "their end", END_S)
        # A handler that has not answered is not interrupted; all else has ended with its client.
        wait_for(lambda: place.here() == ["handler"], "the end of the others", END_S)


def test_a_vanished_client_gives_back_its_place_among_requests(tmp_path: Path) -> None:
    with placed(tmp_path, FANBUS_LIMIT_CONCURRENCY="1") as place:

        def status() -> int:
            with RawSocket.on(place.stays.connect(place.server.port)) as raw:
                raw.write(b"GET /here HTTP/1.1\r\nHost: test\r\n\r\n")
                return raw.answer().status

        with a_handler_that_waits(place):
            wait_for(lambda: status() == 503, "a request in work")
            place.breaks.break_()
            wait_for(lambda: status() == 200, "room for another", END_S)


class Http2:
    """A client of HTTP/2 that asks, or does not, and vanishes."""

    def __init__(self, place: Place, path: str | None = None) -> None:
        self.socket = place.secured(place.breaks, "h2")
        configuration = h2.config.H2Configuration(client_side=True)
        connection = h2.connection.H2Connection(configuration)
        connection.initiate_connection()
        if path is not None:
            head = {":method": "GET", ":scheme": "https", ":authority": "localhost", ":path": path}
            connection.send_headers(1, list(head.items()), end_stream=True)
        self.socket.sendall(connection.data_to_send())
        assert self.socket.recv(1000)

    def __enter__(self) -> Http2:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


def test_a_vanished_client_of_http2_is_noticed_with_and_without_streams(
    tmp_path: Path, certificates: Certificates
) -> None:
    with placed(tmp_path, certificates) as place, contextlib.ExitStack() as stack:
        for path in ("/wait/h2-handler", "/generate/h2-generator", "/events/quiet", None):
            stack.enter_context(Http2(place, path))
        wait_for(lambda: place.here() == ["h2-generator", "h2-handler"], "all of them")
        place.breaks.break_()
        wait_for(lambda: not place.connections(), "their end", END_S)
        wait_for(lambda: place.here() == ["h2-handler"], "the end of the others", END_S)
