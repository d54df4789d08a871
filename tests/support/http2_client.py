"""A client of HTTP/2 that decides frame by frame what it sends, and when it reads."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType

import h2.config
import h2.connection
import h2.events
from hyperframe.frame import Frame, PingFrame

from support.certificates import Certificates
from support.servers import DEADLINE_S, Server


class Connection:
    """A client that decides frame by frame what it sends, and when it reads."""

    def __init__(self, server: Server, certificates: Certificates) -> None:
        self.port = server.port
        raw = socket.create_connection(("127.0.0.1", server.port), DEADLINE_S)
        context = certificates.trusted(protocols=("h2",))
        self.socket = context.wrap_socket(raw, server_hostname="localhost")
        assert self.socket.selected_alpn_protocol() == "h2"
        configuration = h2.config.H2Configuration(
            client_side=True, header_encoding=None, validate_outbound_headers=False
        )
        self.h2 = h2.connection.H2Connection(configuration)
        self.h2.initiate_connection()
        self.flush()
        self.ended = False

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.socket.close()

    def flush(self) -> None:
        self.socket.sendall(self.h2.data_to_send())

    def request(
        self,
        path: str,
        *,
        method: str = "GET",
        headers: dict[str, str] | None = None,
        end: bool = True,
    ) -> int:
        """Asks; the stream's number."""
        stream: int = self.h2.get_next_available_stream_id()
        authority = f"localhost:{self.port}"
        head = {":method": method, ":path": path, ":scheme": "https", ":authority": authority}
        head.update(headers or {})
        self.h2.send_headers(stream, list(head.items()), end_stream=end)
        return stream

    def events(self) -> list[h2.events.Event]:
        """What the next bytes bring; none at the end of the connection."""
        try:
            received = self.socket.recv(65536)
        except (ConnectionResetError, ssl.SSLEOFError):
            received = b""
        self.ended = not received
        events: list[h2.events.Event] = self.h2.receive_data(received) if received else []
        return events

    def frames(self) -> Iterator[Frame]:
        """All that comes, as it came: for what a connection does that `h2` takes for closed."""
        received = b""
        while True:
            while len(received) >= 9:
                frame, length = Frame.parse_frame_header(memoryview(received[:9]))
                if len(received) < 9 + length:
                    break
                frame.parse_body(memoryview(received[9 : 9 + length]))
                received = received[9 + length :]
                if isinstance(frame, PingFrame) and "ACK" not in frame.flags:
                    self.socket.sendall(PingFrame(0, frame.opaque_data, flags=["ACK"]).serialize())
                yield frame
            try:
                chunk = self.socket.recv(65536)
            except (ConnectionResetError, ssl.SSLEOFError):
                return
            if not chunk:
                return
            received += chunk

    def until(self, kind: type[h2.events.Event], stream: int | None = None) -> h2.events.Event:
        """The next event of its kind, on the stream."""
        while True:
            for event in self.events():
                if isinstance(event, kind) and stream in (None, getattr(event, "stream_id", None)):
                    return event
            assert not self.ended, f"the connection ended before {kind}"

    def answer(self, stream: int) -> tuple[int, bytes]:
        """Status and body of a response."""
        status, body = 0, b""
        while True:
            for event in self.events():
                if getattr(event, "stream_id", None) != stream:
                    continue
                if isinstance(event, h2.events.ResponseReceived):
                    status = int(dict(event.headers)[b":status"])
                elif isinstance(event, h2.events.DataReceived):
                    body += event.data
                    self.h2.acknowledge_received_data(event.flow_controlled_length, stream)
                elif isinstance(event, h2.events.StreamReset):
                    raise AssertionError(f"stream {stream} was reset: {event.error_code}")
                elif isinstance(event, h2.events.StreamEnded):
                    return status, body
            self.flush()
            assert not self.ended, "the connection ended before the answer"


@dataclass
class Stream:
    """A request whose body is sent as the windows allow, and its response."""

    number: int
    rest: memoryview
    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    is_over: bool = False
    reset: int | None = None


def exchange(client: Connection, streams: list[Stream]) -> None:
    """Sends all bodies in turn, a frame of each at a time, until every stream has its response."""
    found = {stream.number: stream for stream in streams}
    while not all(stream.is_over for stream in streams):
        has_sent = True
        while has_sent:
            has_sent = False
            for stream in streams:
                room = 0
                if stream.rest and not stream.is_over:
                    window = client.h2.local_flow_control_window(stream.number)
                    room = min(window, client.h2.max_outbound_frame_size, len(stream.rest))
                if room > 0:
                    piece, stream.rest = stream.rest[:room], stream.rest[room:]
                    client.h2.send_data(stream.number, piece.tobytes(), end_stream=not stream.rest)
                    has_sent = True
            client.flush()
        for event in client.events():
            at = found.get(getattr(event, "stream_id", None) or 0)
            if at is None:
                continue
            if isinstance(event, h2.events.ResponseReceived):
                at.headers = dict(event.headers)
                at.status = int(at.headers[b":status"])
            elif isinstance(event, h2.events.DataReceived):
                at.body += event.data
                client.h2.acknowledge_received_data(event.flow_controlled_length, at.number)
            elif isinstance(event, h2.events.StreamReset):
                at.reset, at.is_over = event.error_code, True
            elif isinstance(event, h2.events.StreamEnded):
                at.is_over = True
        client.flush()
        assert not client.ended, "the connection ended before all responses"


class Received:
    """Everything that comes on one stream, in its order."""

    def __init__(self, client: Connection, stream: int) -> None:
        self.interim: list[dict[bytes, bytes]] = []
        self.head: dict[bytes, bytes] = {}
        self.body = b""
        self.trailers: dict[bytes, bytes] | None = None
        self.is_reset = False
        while not client.ended:
            for event in client.events():
                if getattr(event, "stream_id", None) != stream:
                    continue
                if isinstance(event, h2.events.InformationalResponseReceived):
                    assert not self.head
                    self.interim.append(dict(event.headers))
                elif isinstance(event, h2.events.ResponseReceived):
                    self.head = dict(event.headers)
                elif isinstance(event, h2.events.DataReceived):
                    assert self.trailers is None
                    self.body += event.data
                    client.h2.acknowledge_received_data(event.flow_controlled_length, stream)
                elif isinstance(event, h2.events.TrailersReceived):
                    self.trailers = dict(event.headers)
                elif isinstance(event, h2.events.StreamReset):
                    self.is_reset = True
                    return
                elif isinstance(event, h2.events.StreamEnded):
                    return
            client.flush()
