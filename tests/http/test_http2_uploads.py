"""Many bodies at once: on one HTTP/2 connection, on many of HTTP/1, and above their memory."""

from __future__ import annotations

import gzip
import hashlib
import os
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import h2.events
import h2.settings
import pytest

from conftest import StartServer
from support.certificates import Certificates
from support.http2_client import Connection, Stream, exchange
from support.raw_websocket import RawSocket
from support.servers import Server, wait_for

MIB = 1 << 20
GIVES_BACK = {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=131072"}
"""The allocator returns large blocks at once: the size of a process says what it holds."""

Send = Callable[[Connection], Stream]


def field_of(server: Server, name: str) -> int:
    """A field of the status of the only worker, in bytes."""
    (pid,) = server.worker_pids()
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


class Peak:
    """How far the memory of the only worker rises from now on."""

    def __init__(self, server: Server) -> None:
        (pid,) = server.worker_pids()
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # proc(5): VmHWM begins again
        self.server = server
        self.before = field_of(server, "VmRSS")

    def rise(self) -> int:
        return field_of(self.server, "VmHWM") - self.before


def put_head(length: int) -> bytes:
    """Of HTTP/1."""
    request = f"PUT /digest HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"
    return request.encode()


def put(client: Connection, path: str, body: bytes, *, announced: bool = True) -> Stream:
    headers = {"content-length": str(len(body))} if announced else {}
    return Stream(client.request(path, method="PUT", headers=headers, end=False), memoryview(body))


def multipart(client: Connection, size: int) -> Stream:
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
    body += bytes(size) + b"\r\n--b--\r\n"
    headers = {"content-type": "multipart/form-data; boundary=b"}
    stream = client.request("/files", method="POST", headers=headers, end=False)
    return Stream(stream, memoryview(body))


def send_some(client: Connection, stream: Stream, size: int) -> None:
    """So much of its body, or as much as the windows allow."""
    while room := min(client.h2.local_flow_control_window(stream.number), 1 << 14, size):
        piece, stream.rest = stream.rest[:room], stream.rest[room:]
        client.h2.send_data(stream.number, piece.tobytes())
        size -= room
    client.flush()


@pytest.mark.parametrize(
    ("count", "size", "send"),
    [
        (100, MIB, lambda client: put(client, "/large", bytes(MIB))),
        (100, MIB, lambda client: put(client, "/large", bytes(MIB), announced=False)),
        (100, 500_000, lambda client: put(client, "/large", bytes(500_000))),
        (40, 3_000_000, lambda client: multipart(client, 3_000_000)),
    ],
    ids=["1 MiB", "1 MiB, not announced", "500 KB", "forms of 3 MB"],
)
def test_many_uploads_on_one_connection_all_arrive_in_bounded_memory(
    server: StartServer, certificates: Certificates, count: int, size: int, send: Send
) -> None:
    one = server("uploads", environment=certificates.environment())
    with Connection(one, certificates) as client:
        exchange(client, [send(client)])
        peak = Peak(one)
        streams = [send(client) for _ in range(count)]
        exchange(client, streams)
        assert {(stream.status, stream.body.decode()) for stream in streams} == {(200, str(size))}
        assert peak.rise() <= 64 * MIB


def test_streams_that_are_not_read_or_come_slowly_hold_up_no_other(
    server: StartServer, certificates: Certificates
) -> None:
    one = server("uploads", environment=certificates.environment())
    with Connection(one, certificates) as client:
        client.until(h2.events.RemoteSettingsChanged)
        # A part of one arrives. Many are not read, and the client fills their windows.
        slow = put(client, "/digest", os.urandom(MIB))
        unread = [put(client, "/waits", bytes(MIB)) for _ in range(40)]
        digest = hashlib.sha256(slow.rest).hexdigest()
        send_some(client, slow, 1 << 14)
        for _ in range(8):
            for stream in unread:
                send_some(client, stream, MIB)
            # Its response brings the windows that have opened meanwhile.
            exchange(client, [Stream(client.request("/ended"), memoryview(b""))])
        others = [put(client, "/digest", os.urandom(MIB)) for _ in range(20)]
        digests = [hashlib.sha256(stream.rest).hexdigest() for stream in others]
        exchange(client, others)
        assert [stream.body.decode() for stream in others] == digests
        assert not any(stream.is_over for stream in unread)
        client.request("/open")
        exchange(client, [slow, *unread])
        assert slow.body.decode() == digest
        assert {stream.status for stream in unread} == {200}


def send_until_held_back(client: Connection, streams: list[Stream]) -> int:
    """Bytes that the client may send of bodies that nobody reads, until its windows stay closed."""
    sent = 0
    while True:
        before = sum(len(stream.rest) for stream in streams)
        for stream in streams:
            send_some(client, stream, MIB)
        # The responses bring the windows that have opened meanwhile.
        for _ in range(2):
            exchange(client, [Stream(client.request("/ended"), memoryview(b""))])
        progress = before - sum(len(stream.rest) for stream in streams)
        if not progress:
            return sent
        sent += progress


def test_unread_bodies_count_and_a_client_waits_for_capacity(
    server: StartServer, certificates: Certificates
) -> None:
    environment = {**GIVES_BACK, "FANBUS_MAX_BODY_MEMORY": "8M"}
    one = server("uploads", environment={**certificates.environment(), **environment})
    with Connection(one, certificates) as other:
        with Connection(one, certificates) as first:
            for client in (first, other):
                client.until(h2.events.RemoteSettingsChanged)
            peak = Peak(one)
            streams = [put(first, "/waits", bytes(MIB)) for _ in range(40)]
            # Half of the memory for bodies, and what a client may send in any case.
            sent = send_until_held_back(first, streams)
            assert 4 * MIB <= sent <= 4 * MIB + MIB // 2
            assert peak.rise() <= 24 * MIB
            waiting = [put(other, "/waits", bytes(MIB)) for _ in range(20)]
            assert send_until_held_back(other, waiting) == MIB // 2
        # The memory of a client that has gone is there for the others, who hear of it.
        while client.h2.outbound_flow_control_window == 0:
            client.events()
        assert send_until_held_back(other, waiting) > MIB
        other.request("/open")
        exchange(other, waiting)
        assert {stream.status for stream in waiting} == {200}


def test_a_body_in_pieces_of_one_byte_costs_no_more_than_its_bytes(
    server: StartServer, certificates: Certificates
) -> None:
    one = server("uploads", environment={**certificates.environment(), **GIVES_BACK})
    with Connection(one, certificates) as client:
        exchange(client, [put(client, "/digest", bytes(MIB))])
        stream = client.request("/waits", method="PUT", end=False)
        client.flush()
        peak = Peak(one)
        # RFC 9113, section 6.1.
        frame = b"\x00\x00\x01\x00\x00" + stream.to_bytes(4, "big") + b"x"
        for _ in range(20):
            client.socket.sendall(frame * 10_000)
            # It is answered behind what was sent before it.
            exchange(client, [Stream(client.request("/ended"), memoryview(b""))])
        assert peak.rise() <= 4 * MIB
        client.h2.send_data(stream, b"", end_stream=True)
        client.request("/open")
        client.flush()
        assert client.answer(stream)[0] == 200


def test_a_refusal_of_one_stream_leaves_the_others_alone(
    server: StartServer, certificates: Certificates
) -> None:
    one = server("uploads", environment=certificates.environment())
    with Connection(one, certificates) as client:
        refused: list[Stream] = []
        served: list[Stream] = []
        for _ in range(15):
            served.append(put(client, "/digest", bytes(MIB)))
            refused.append(put(client, "/large", bytes(3_000_000)))
            served.append(put(client, "/async", bytes(MIB)))
            refused.append(put(client, "/large", bytes(3_000_000), announced=False))
            refused.append(put(client, "/refused", bytes(MIB)))
        exchange(client, served + refused)
        assert {stream.status for stream in served} == {200}
        assert [stream.status for stream in refused] == [413, 413, 401] * 15


def test_bodies_beyond_their_memory_all_arrive_over_http2(
    server: StartServer, certificates: Certificates, tmp_path: Path
) -> None:
    environment = {**GIVES_BACK, "FANBUS_MAX_BODY_MEMORY": "4M", "TMPDIR": str(tmp_path)}
    one = server("uploads", environment={**certificates.environment(), **environment})
    with Connection(one, certificates) as client:
        exchange(client, [put(client, "/digest", bytes(MIB))])
        peak = Peak(one)
        bodies = [os.urandom(1000) * 4000 for _ in range(40)]
        streams = [put(client, "/digest", body) for body in bodies]
        exchange(client, streams)
        digests = [hashlib.sha256(body).hexdigest() for body in bodies]
        assert [stream.body.decode() for stream in streams] == digests
        assert peak.rise() <= 64 * MIB


def test_bodies_of_many_connections_beyond_their_memory_all_arrive(
    server: StartServer, tmp_path: Path
) -> None:
    """Nearly all of each is there, and the rest is late: far more than the memory for bodies."""
    environment = {**GIVES_BACK, "FANBUS_MAX_BODY_MEMORY": "8M", "TMPDIR": str(tmp_path)}
    one = server("uploads", environment=environment)
    body = os.urandom(MIB) * 5
    head = (
        f"PUT /digest HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    )
    digest = hashlib.sha256(body).hexdigest().encode()
    with ExitStack() as opened:
        first = opened.enter_context(RawSocket(one.port))
        first.write(head + body)
        assert first.answer().body == digest
        peak = Peak(one)
        clients = [opened.enter_context(RawSocket(one.port)) for _ in range(60)]
        for client in clients:
            client.write(head + body[:-3])
        # A body that comes in one piece is answered meanwhile.
        first.write(head + body)
        assert first.answer().body == digest
        for client in clients:
            client.write(body[-3:])
        answers = [client.answer() for client in clients]
        assert {(answer.status, answer.body) for answer in answers} == {(200, digest)}
        assert peak.rise() <= 64 * MIB


def test_a_disk_without_room_is_507_and_not_the_end(server: StartServer, tmp_path: Path) -> None:
    environment = {"FANBUS_MAX_BODY_MEMORY": "1M", "TMPDIR": str(tmp_path / "missing")}
    one = server("uploads", environment=environment)
    body = os.urandom(MIB) * 2
    head = (
        f"PUT /digest HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    )
    with RawSocket(one.port) as client:
        client.write(head + body)
        client.socket.shutdown(socket.SHUT_WR)
        assert client.answer().status == 507
    one.wait_for_log("cannot store a request's body in")
    with RawSocket(one.port) as client:
        client.write(b"PUT /digest HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx")
        assert client.answer().status == 200


def held_back(client: Connection, server: Server, streams: list[Stream]) -> int:
    """How far the memory has risen when all responses have begun, and none can go on."""
    before = field_of(server, "VmRSS")
    client.flush()
    missing = {stream.number: stream for stream in streams}
    while missing:
        for event in client.events():
            if isinstance(event, h2.events.ResponseReceived):
                begun = missing.pop(event.stream_id)
                begun.status, begun.headers = 200, dict(event.headers)
            elif isinstance(event, h2.events.DataReceived):
                number = event.stream_id
                next(it for it in streams if it.number == number).body += event.data
        client.flush()
    wait_for(lambda: field_of(server, "VmRSS") - before <= 48 * MIB, "most of it is in files")
    return field_of(server, "VmRSS") - before


def let_go(client: Connection, streams: list[Stream]) -> None:
    client.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 4 * MIB})
    client.h2.increment_flow_control_window(1 << 30)
    exchange(client, streams)
    assert {stream.status for stream in streams} == {200}


def test_responses_that_wait_for_a_window_are_bounded_and_all_arrive(
    server: StartServer, certificates: Certificates, tmp_path: Path
) -> None:
    """A client that opens no window has 100 responses of 2 MB made."""
    environment = {**certificates.environment(), **GIVES_BACK, "TMPDIR": str(tmp_path)}
    one = server("uploads", environment=environment)
    with Connection(one, certificates) as client:
        exchange(client, [Stream(client.request("/megabytes/2"), memoryview(b""))])
        streams = [Stream(client.request("/megabytes/2"), memoryview(b"")) for _ in range(100)]
        held_back(client, one, streams)
        let_go(client, streams)
        assert {len(stream.body) for stream in streams} == {2_000_000}


def test_compressed_responses_that_wait_for_a_window_are_bounded_too(
    server: StartServer, certificates: Certificates, tmp_path: Path
) -> None:
    """60 of them are 90 MB when they are compressed."""
    (tmp_path / "public").mkdir()
    environment = {**GIVES_BACK, "TMPDIR": str(tmp_path), "FOLDER": str(tmp_path)}
    environment |= {**certificates.environment(), "COMPRESSION": "1"}
    one = server("streams_and_files", environment=environment)

    def ask(client: Connection) -> Stream:
        headers = {"accept-encoding": "gzip"}
        return Stream(client.request("/noise/3000000", headers=headers), memoryview(b""))

    with Connection(one, certificates) as client:
        exchange(client, [ask(client)])
        streams = [ask(client) for _ in range(60)]
        held_back(client, one, streams)
        let_go(client, streams)
        assert {stream.headers[b"content-encoding"] for stream in streams} == {b"gzip"}
        assert {len(gzip.decompress(stream.body)) for stream in streams} == {3_000_000}
