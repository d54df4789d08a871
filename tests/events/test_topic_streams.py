"""Event streams: what a client gets, when it comes back, and when it does not read."""

from __future__ import annotations

import base64
import signal
import threading
from pathlib import Path

import httpx
import pytest
from h2.events import ResponseReceived

from conftest import StartServer
from fanbus import EventStream
from support.certificates import Certificates
from support.event_streams import listen, publish
from support.http2_client import Connection
from support.raw_websocket import RawSocket
from support.servers import DEADLINE_S, Server, wait_for


@pytest.mark.parametrize("workers", [1, 2])
def test_every_message_comes_as_it_was_published(server: StartServer, workers: int) -> None:
    with server("events", workers=workers).http() as http, listen(http, "/events/t") as stream:
        head = stream.response.headers
        assert head["content-type"] == "text/event-stream"
        assert (head["cache-control"], head["x-accel-buffering"]) == ("no-cache", "no")
        texts = [
            "hello",
            "",
            "two\nlines",
            "\n",
            "a\r\nb\rc",
            "grüß dich",
            ": id: data",
            "x" * 300_000,
        ]
        offsets = [publish(http, "t", text) for text in texts]
        publish(http, "another", "not for it")
        binary = publish(http, "t", b"\0\xff\n")
        events = [stream.next() for _ in texts]
        assert [event.data for event in events] == [
            text.replace("\r\n", "\n").replace("\r", "\n") for text in texts
        ]
        assert {event.kind for event in events} == {"message"}
        assert [int(event.id.partition("-")[2]) for event in events] == offsets
        last = stream.next()
        assert (last.kind, base64.b64decode(last.data)) == ("binary", b"\0\xff\n")
        assert last.id.endswith(f"-{binary}")
        assert stream.retry == "100"


def test_reconnected_client_misses_nothing_and_gets_nothing_twice(server: StartServer) -> None:
    one = server("events", workers=2)
    count = 600

    def send() -> None:
        with one.http() as http:
            for number in range(count):
                publish(http, "kept:a", str(number))

    with one.http() as http:
        with listen(http, "/events/kept:a") as stream:
            assert stream.block() is None
            last = stream.id
        sender = threading.Thread(target=send)
        sender.start()
        got: list[int] = []
        while len(got) < count:
            with listen(http, "/events/kept:a", last) as stream:
                for _ in range(min(37, count - len(got))):
                    event = stream.next()
                    assert event.kind == "message"
                    got.append(int(event.data))
                last = stream.id
        sender.join()
    assert got == list(range(count))


def test_client_gets_a_gap_event_for_removed_messages(server: StartServer) -> None:
    with server("events").http() as http:
        first = publish(http, "kept:b", "first")
        publish(http, "kept:b", "second")
        with listen(http, "/events/kept:b?last=1") as stream:
            assert stream.next().data == "second"
            epoch = stream.id.partition("-")[0]
        with listen(http, "/events/kept:b", f"{epoch}-{first}") as stream:
            assert stream.next().data == "second"
        with listen(http, f"/events/kept:b?id={epoch}-{first}") as stream:
            assert stream.next().data == "second"
        for strange in (f"{int(epoch) + 1}-{first}", f"{epoch}-999999", "nonsense", "1" * 5000):
            with listen(http, "/events/kept:b", strange) as stream:
                events = [stream.next() for _ in range(3)]
                assert [(event.kind, event.data) for event in events] == [
                    ("gap", "2"),
                    ("message", "first"),
                    ("message", "second"),
                ]
                assert events[0].id == f"{epoch}-{first - 1}"
        # More than half of what may wait for this client.
        for number in range(10):
            publish(http, "kept:b", f"{number}" * 1000)
        with listen(http, "/events/kept:b?queue=8192", f"{epoch}-{first}") as stream:
            gap = stream.next()
            assert gap.kind == "gap"
            assert 1 <= int(gap.data) <= 4
            numbers = [stream.next().data[0] for _ in range(int(gap.data))]
            assert numbers == [str(number) for number in range(10)][-len(numbers) :]


def test_a_stream_on_which_nothing_happens_says_that_it_is_there_and_where(
    server: StartServer,
) -> None:
    with server("events").http() as http, listen(http, "/events/quiet?ping=0.2") as stream:
        assert stream.block() is None
        begun = int(stream.id.partition("-")[2])
        offset = publish(http, "another", "moves the bus on")
        assert offset == begun + 1
        while int(stream.id.partition("-")[2]) < offset:
            assert stream.block() is None
        assert "ping" in stream.comments


def test_client_that_does_not_read_is_disconnected_and_delays_no_other(server: StartServer) -> None:
    one = server("events")
    with one.http() as http, RawSocket(one.port, receive_buffer=4096) as lazy:
        lazy.write(b"GET /events/t?queue=65536 HTTP/1.1\r\nhost: x\r\n\r\n")
        assert lazy.answer(head_only=True).status == 200
        with listen(http, "/events/t?queue=65536") as stream:
            message = "x" * 50_000
            for _ in range(300):
                publish(http, "t", message)
                assert stream.next().data == message
        rest = b""
        while piece := lazy.socket.recv(65536):
            rest += piece
        assert not rest.endswith(b"0\r\n\r\n"), "it must not look like a whole response"
        assert rest.count(b"id: ") < 300
        # Its place is free again, and so is its memory.
        with listen(http, "/events/t") as stream:
            publish(http, "t", "still here")
            assert stream.next().data == "still here"


def test_streams_are_limited_and_a_head_opens_none(server: StartServer) -> None:
    with server("events").http() as http:
        for _ in range(3):
            head = http.head("/few")
            assert head.headers["content-type"] == "text/event-stream"
            assert head.headers["access-control-allow-origin"] == "*"
        with listen(http, "/few"):
            refused = http.get("/few")
            assert refused.status_code == 503
            assert "Too many connections" in refused.text

        def is_free() -> bool:
            with http.stream("GET", "/few") as response:
                return response.status_code == 200

        wait_for(is_free, "the place of a client that has gone")
        assert http.get("/unnamed").status_code == 500


def test_a_worker_that_ends_ends_its_streams_in_order(server: StartServer) -> None:
    one = server("events")
    with one.http() as http, listen(http, "/events/t") as stream:
        publish(http, "t", "before")
        assert stream.next().data == "before"
        one.send_signal(signal.SIGTERM)
        with pytest.raises(EOFError):  # and no broken response
            stream.next()
    assert one.wait() == 0


def test_streams_share_a_connection_of_http2(server: StartServer, tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    one = server("events", environment=certificates.environment())
    with (
        httpx.Client(
            http2=True,
            verify=certificates.trusted(),
            trust_env=False,
            timeout=DEADLINE_S,
            base_url=f"https://localhost:{one.port}",
        ) as http,
        listen(http, "/few") as few,
        listen(http, "/events/t") as other,
    ):
        assert few.response.http_version == "HTTP/2"
        publish(http, "few", "one")
        publish(http, "t", "two")
        assert (few.next().data, other.next().data) == ("one", "two")
        assert http.get("/few").status_code == 503


def test_a_stream_that_its_client_resets_is_over(server: StartServer, tmp_path: Path) -> None:
    """Although nothing is published that would have to be written."""
    certificates = Certificates(tmp_path)
    one = server("events", environment=certificates.environment())
    with Connection(one, certificates) as client:

        def status(stream: int) -> int:
            client.flush()
            while True:
                for event in client.events():
                    if isinstance(event, ResponseReceived) and event.stream_id == stream:
                        return int(dict(event.headers)[b":status"])
                assert not client.ended

        def is_free() -> bool:
            stream = client.request("/few")
            given = status(stream)
            if given == 200:
                client.h2.reset_stream(stream)
            return given == 200

        assert is_free()
        wait_for(is_free, "the place of a stream that was reset")


@pytest.mark.parametrize(
    "arguments",
    [
        {"last": -1},
        {"last": True},
        {"retry": 0},
        {"retry": float("nan")},
        {"ping_interval": 1e9},
        {"max_queue_bytes": 10},
        {"max_connections": 0},
        {"headers": {"a": "b\r\nc: d"}},
    ],
)
def test_what_cannot_be_is_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"^(last|retry|ping_interval|max_[a-z_]+) must be|header"):
        EventStream("t", **arguments)  # type: ignore[arg-type]
    assert repr(EventStream("t")) == "<EventStream of 't'>"


def test_the_servers_log_is_quiet(server: StartServer) -> None:
    one: Server = server("events")
    before = one.log()
    with one.http() as http, listen(http, "/events/t") as stream:
        publish(http, "t", "hello")
        assert stream.next().data == "hello"
    with one.http() as http:
        publish(http, "t", "nobody there")
    assert one.log() == before
