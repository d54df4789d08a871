"""Requests that break the protocol: each is refused with 4xx, nothing that hides behind one is
served, and nothing of it becomes a traceback.

The bytes are written as they stand here; h11, which is no part of the server, reads the answers.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress

import h11
import pytest

from support.servers import Server

CRLF = b"\r\n"
HIDDEN = b"GET /echo?hidden HTTP/1.1\r\nHost: x\r\n\r\n"
"""Comes behind what is malformed. Who answers it has been tricked into a second request."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all: what one request leaves behind, the next would meet."""
    stderr = tmp_path_factory.mktemp("malformed") / "stderr"
    with Server("malformed_requests", workers=1, environment={}, stderr=stderr) as server:
        pids = server.worker_pids()
        yield server
        assert server.worker_pids() == pids, "no worker was replaced"
        with server.http() as http:
            assert http.get("/echo?a=b").json()["query"] == "a=b"
        log = server.log()
        for word in ("Traceback", "panicked", "ERROR"):  # nor do clients fill the log
            assert word not in log


def answers(port: int, sent: bytes) -> list[tuple[int, bytes]]:
    """Statuses and bodies of all that comes back, until the server ends the connection."""
    received = b""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=20) as connection,
        suppress(ConnectionError),  # it may end while there is more to be read for it
    ):
        connection.sendall(sent)
        while piece := connection.recv(65536):
            received += piece
    found: list[tuple[int, bytes]] = []
    while received:
        parser = h11.Connection(h11.CLIENT)
        parser.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
        parser.send(h11.EndOfMessage())
        parser.receive_data(received)
        status, body = 0, b""
        while not isinstance(event := parser.next_event(), h11.EndOfMessage):
            assert event is not h11.NEED_DATA, f"half an answer: {received!r}"
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
        found.append((status, body))
        received = parser.trailing_data[0]
    return found


def request(*lines: bytes, target: bytes = b"/echo", method: bytes = b"POST") -> bytes:
    """A request with these header lines, and a Host."""
    head = [method + b" " + target + b" HTTP/1.1", b"Host: x", *lines, b"", b""]
    return CRLF.join(head)


CHUNKED = b"Transfer-Encoding: chunked"

MALFORMED = {
    # Two readers of one request must not see two different ones (RFC 9112, 6.3 and 11.2).
    "two lengths": request(b"Content-Length: 3", b"Content-Length: 40") + b"abc" + HIDDEN,
    "two lengths in a line": request(b"Content-Length: 3, 40") + b"abc" + HIDDEN,
    "the same length twice, in a list": request(b"Content-Length: 3, 3") + b"abc" + HIDDEN,
    "a length and chunks": request(b"Content-Length: 5", CHUNKED) + b"0\r\n\r\n" + HIDDEN,
    "chunks and a length": request(CHUNKED, b"Content-Length: 5") + b"0\r\n\r\n" + HIDDEN,
    "a negative length": request(b"Content-Length: -1") + HIDDEN,
    "a length with a sign": request(b"Content-Length: +3") + b"abc" + HIDDEN,
    "a length in hex": request(b"Content-Length: 0x3") + b"abc" + HIDDEN,
    "a length with a space": request(b"Content-Length: 3 3") + b"abc" + HIDDEN,
    "no length in the header": request(b"Content-Length:") + HIDDEN,
    "a length beyond 64 bits": request(b"Content-Length: 18446744073709551616") + HIDDEN,
    "an unknown coding": request(b"Transfer-Encoding: gzip") + HIDDEN,
    "chunks that are not last": request(b"Transfer-Encoding: chunked, gzip") + HIDDEN,
    "chunks that are hidden": request(b"Transfer-Encoding: xchunked") + b"0\r\n\r\n" + HIDDEN,
    "chunks behind a tab": request(b"Transfer-Encoding:\x0bchunked") + b"0\r\n\r\n" + HIDDEN,
    "chunks twice": request(CHUNKED, CHUNKED) + b"0\r\n\r\n" + HIDDEN,
    "chunks in HTTP/1.0": b"POST /echo HTTP/1.0\r\nHost: x\r\n" + CHUNKED + b"\r\n\r\n0\r\n\r\n",
    "a space before the colon": request(b"Content-Length : 3") + b"abc" + HIDDEN,
    "a header that goes on in the next line": request(b"X-A: b", b" Content-Length: 3") + HIDDEN,
    "a header without a colon": request(b"Content-Length 3") + HIDDEN,
    "a header without a name": request(b": 3") + HIDDEN,
    "a name with a space": request(b"X A: 3") + HIDDEN,
    "a name that is not ASCII": request("Ü: 3".encode()) + HIDDEN,
    "a NUL in a value": request(b"X-A: a\0b") + HIDDEN,
    "a NUL in a name": request(b"X\0A: b") + HIDDEN,
    "a carriage return in a value": request(b"X-A: a\rb") + HIDDEN,
    # Chunks (RFC 9112, 7.1).
    "a chunk without a size": request(CHUNKED) + b"\r\nabc\r\n0\r\n\r\n" + HIDDEN,
    "a chunk's size that is none": request(CHUNKED) + b"zz\r\nabc\r\n0\r\n\r\n" + HIDDEN,
    "a chunk's size with a sign": request(CHUNKED) + b"-3\r\nabc\r\n0\r\n\r\n" + HIDDEN,
    "a chunk's size with 0x": request(CHUNKED) + b"0x3\r\nabc\r\n0\r\n\r\n" + HIDDEN,
    "a chunk's size beyond 64 bits": request(CHUNKED)
    + b"F" * 17
    + b"\r\nabc\r\n0\r\n\r\n"
    + HIDDEN,
    "a chunk longer than its size": request(CHUNKED) + b"3\r\nabcdef\r\n0\r\n\r\n" + HIDDEN,
    "a chunk's size that ends in LF": request(CHUNKED) + b"3\nabc\r\n0\r\n\r\n" + HIDDEN,
    # The line, the target and the Host (RFC 9112, 3).
    "no method": b" /echo HTTP/1.1\r\nHost: x\r\n\r\n" + HIDDEN,
    "a method with a bracket": request(method=b"G(T") + HIDDEN,
    "no version": b"GET /echo\r\nHost: x\r\n\r\n" + HIDDEN,
    "an unknown version": b"GET /echo HTTP/9.9\r\nHost: x\r\n\r\n" + HIDDEN,
    "a version in lower case": b"GET /echo http/1.1\r\nHost: x\r\n\r\n" + HIDDEN,
    "a space in the target": request(target=b"/echo a") + HIDDEN,
    "a NUL in the target": request(target=b"/echo\0") + HIDDEN,
    "no Host": b"GET /echo HTTP/1.1\r\n\r\n" + HIDDEN,
    "two Hosts": request(b"Host: y", method=b"GET") + HIDDEN,
    "a header of a megabyte": request(b"X-A: " + b"a" * 2**20, method=b"GET"),
    "a target of a megabyte": request(target=b"/" + b"a" * 2**20, method=b"GET"),
    "ten thousand headers": request(*(b"X-%d: a" % n for n in range(10_000)), method=b"GET"),
    "TLS to a port without": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    "nothing but noise": bytes(range(256)) * 8,
}


LAST = b"Connection: close"

WRONG = {
    # It is clear where these end, so the connection could go on.
    "a target that is no path": request(LAST, target=b"echo", method=b"GET"),
    "a target of the whole server": request(LAST, target=b"*", method=b"GET"),
    "a Host with a space": b"GET /echo HTTP/1.1\r\nHost: a b\r\nConnection: close\r\n\r\n",
    "a Host with a path": b"GET /echo HTTP/1.1\r\nHost: a/b\r\nConnection: close\r\n\r\n",
    "a Host with a user": b"GET /echo HTTP/1.1\r\nHost: a@b\r\nConnection: close\r\n\r\n",
    "a target with a user": request(LAST, target=b"http://a@x/echo", method=b"GET"),
    "an unknown method": request(LAST, method=b"BREW"),
    "a tunnel": request(LAST, target=b"x:80", method=b"CONNECT"),
    "a path that is no UTF-8": request(LAST, target=b"/paths/%ff", method=b"GET"),
    "an overlong slash": request(LAST, target=b"/paths/%c0%af", method=b"GET"),
    "a number beyond 64 bits": request(LAST, target=b"/users/a/" + b"9" * 40, method=b"GET"),
    "a number that is none": request(LAST, target=b"/users/a/%00", method=b"GET"),
    "a query's number that is none": request(LAST, target=b"/users/a/1?page=%ff", method=b"GET"),
}

TAKEN = {
    # Odd, and allowed or harmless: what the handler gets is what stands there.
    "an absolute target": (b"http://x/echo?a=b", {"path": "/echo", "query": "a=b"}),
    "an absolute target that shouts": (b"HTTP://X/echo?a=b", {"host": "X", "query": "a=b"}),
    "a target of another host": (b"http://evil/echo", {"host": "evil"}),
    "a target with its port": (b"http://x:80/echo", {"host": "x:80"}),
    "an escape that is none": (b"/echo?a=%zz%", {"pairs": [["a", "%zz%"]]}),
    "bytes that are no UTF-8": (b"/echo?a=%ff", {"pairs": [["a", "\ufffd"]]}),
    "a NUL": (b"/echo?a=%00", {"pairs": [["a", "\0"]]}),
    "a line end": (b"/echo?a=%0d%0aX-A:b", {"pairs": [["a", "\r\nX-A:b"]]}),
    "a query without names": (b"/echo?&&=&=b", {"pairs": [["", ""], ["", "b"]]}),
    "a target with two queries": (b"/echo?a=b?c=d", {"pairs": [["a", "b?c=d"]]}),
}


@pytest.mark.parametrize("sent", MALFORMED.values(), ids=list(MALFORMED))
def test_what_breaks_the_protocol_is_refused_and_hides_nothing(served: Server, sent: bytes) -> None:
    found = answers(served.port, sent)
    assert len(found) == 1, found
    status, body = found[0]
    assert 400 <= status < 600, found
    assert status != 500, found
    assert b"hidden" not in body
    assert b"Traceback" not in body


@pytest.mark.parametrize("sent", WRONG.values(), ids=list(WRONG))
def test_what_cannot_be_meant_is_refused(served: Server, sent: bytes) -> None:
    ((status, body),) = answers(served.port, sent)
    assert 400 <= status < 600, body
    assert status != 500, body
    assert b"Traceback" not in body


@pytest.mark.parametrize(("target", "told"), TAKEN.values(), ids=list(TAKEN))
def test_what_is_odd_is_taken_as_it_stands(
    served: Server, target: bytes, told: dict[str, object]
) -> None:
    sent = request(LAST, target=target, method=b"GET")
    ((status, body),) = answers(served.port, sent)
    assert status == 200
    assert json.loads(body).items() >= told.items()


def test_curl_gets_a_response_for_any_request(served: Server) -> None:
    """What people try first, with the program that they try it with."""
    site = f"http://127.0.0.1:{served.port}"
    for arguments, status in (
        (["-H", "Host: a b", f"{site}/echo"], "400"),
        (["-H", "Content-Length: 3", "-H", "Transfer-Encoding: chunked", f"{site}/echo"], "400"),
        (["-H", "Content-Length: -3", f"{site}/echo"], "400"),
        ([*(f"-HX-{number}: a" for number in range(200)), f"{site}/echo"], "431"),
        (["--http1.0", f"{site}/echo"], "200"),
        (["--request-target", "echo", f"{site}/"], "400"),
        (["-X", "BREW", f"{site}/echo"], "405"),
        (["--path-as-is", f"{site}/paths/../../etc/passwd"], "200"),
        (["-d", "a=b", "-H", "Content-Type: multipart/form-data", f"{site}/users/a/1"], "405"),
        (["-g", f"{site}/users/a/1?page=[]"], "422"),
    ):
        told = subprocess.run(
            ["curl", "-sS", "--max-time", "20", "-o", os.devnull, "-w", "%{http_code}", *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        assert told.stdout == status, (arguments, told.stdout, told.stderr)
