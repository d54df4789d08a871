"""HTTP/1 as it is on the wire: what old, odd and careless clients get."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from support.command_servers import Run
from support.paths import APPS
from support.raw_websocket import RawSocket
from support.servers import DEADLINE_S, Server
from support.status_routes import WAYS

HOST = b"Host: localhost\r\n"
KINDS = {
    "GET": (b"GET / HTTP/1.1\r\n" + HOST + b"\r\n", True),
    "later": (b"GET /later HTTP/1.1\r\n" + HOST + b"\r\n", True),
    "HEAD": (b"HEAD / HTTP/1.1\r\n" + HOST + b"\r\n", True),
    "POST": (b"POST /length HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nGET /", True),
    "chunked": (
        b"POST /length HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n0\r\n\r\n",
        True,
    ),
    "stream": (b"GET /stream HTTP/1.1\r\n" + HOST + b"\r\n", True),
    "1.0": (b"GET / HTTP/1.0\r\n\r\n", False),
    "kept": (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", True),
    "close": (b"GET / HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n", False),
    "OPTIONS": (b"OPTIONS / HTTP/1.1\r\n" + HOST + b"\r\n", True),
    "garbage": (b"\x16\x03\x01\r\n\r\n", False),
}
"""Bytes, and whether the connection stays."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    stderr = tmp_path_factory.mktemp("http1") / "stderr"
    with Server("http1", workers=1, environment={}, stderr=stderr) as server:
        yield server


def everything(connected: socket.socket, data: bytes) -> bytes:
    """What a client gets that says that it sends nothing more, but for dates."""
    with connected as client:
        client.settimeout(DEADLINE_S)
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        received = b""
        while piece := client.recv(65536):
            received += piece
    lines = received.split(b"\r\n")
    return b"\r\n".join(line for line in lines if not line.startswith(b"date: "))


def over_tcp(server: Server, data: bytes) -> bytes:
    return everything(socket.create_connection(("127.0.0.1", server.port)), data)


def test_pairs_over_a_unix_socket_get_the_answers_of_their_parts(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    run("--uds", str(path), target=("http1:app", "--app-dir", str(APPS)))

    def over(data: bytes) -> bytes:
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(path))
        return everything(client, data)

    alone = {name: over(data) for name, (data, _) in KINDS.items()}
    assert alone["POST"].endswith(b"\r\n\r\n5")
    assert alone["chunked"].endswith(b"\r\n\r\n3")
    for one, two in product(KINDS, KINDS):
        expected = alone[one] + (alone[two] if KINDS[one][1] else b"")
        assert over(KINDS[one][0] + KINDS[two][0]) == expected, (one, two)


@pytest.mark.parametrize("path", ["/", "/later", "/stream", "/stream/sync"])
def test_a_client_that_sends_nothing_more_gets_its_answer(served: Server, path: str) -> None:
    """As `nc -N` does, and some health checks."""
    for _ in range(10):
        answer = over_tcp(served, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith((b"hello", b"later", b"0\r\n\r\n"))


def test_a_stream_to_an_old_client_ends_with_its_connection(served: Server) -> None:
    for head in (b"", b"Connection: keep-alive\r\n"):
        answer = over_tcp(served, b"GET /stream HTTP/1.0\r\n" + head + b"\r\n")
        fields, _, body = answer.partition(b"\r\n\r\n")
        assert body == b"piece 0\npiece 1\npiece 2\n"
        assert b"chunked" not in fields
        assert b"connection: close" in fields


def test_client_may_still_send_after_the_notice_of_the_end(served: Server) -> None:
    """A reset would take the response with it on its way to some clients."""
    with RawSocket(served.port) as raw:
        raw.write(b"GET /closes HTTP/1.1\r\n" + HOST + b"\r\n")
        assert raw.answer().headers["connection"] == "close"
        assert raw.socket.recv(1) == b""
        # The first is what a reset would answer, the second would fail on it.
        raw.write(KINDS["GET"][0])
        raw.write(KINDS["GET"][0])


def test_what_is_refused_says_which_rule_was_broken(served: Server) -> None:
    long = b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n"
    many = b"GET / HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 100 + b"\r\n"
    large = b"GET / HTTP/1.1\r\n" + HOST + (b"X: " + b"y" * 1000 + b"\r\n") * 70 + b"\r\n"
    for data, status, word in (
        (b"GET / HTTP/1.1\r\n\r\n", 400, b"Host"),
        (b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n", 400, b"more than one Host"),
        (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, b"Host"),
        (b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: +1\r\n\r\n", 400, b"Content-Length"),
        (b"CONNECT a:80 HTTP/1.1\r\n" + HOST + b"\r\n", 501, b"CONNECT"),
        (b"GET / HTTP/2.0\r\n\r\n", 505, b"HTTP/1.1"),
        (long, 414, b"target"),
        (many, 431, b"100 headers"),
        (large, 431, b"head"),
        (
            b"POST /length HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
            501,
            b"Transfer-Encoding",
        ),
    ):
        with RawSocket(served.port) as raw:
            raw.write(data)
            answer = raw.answer()
        assert answer.status == status, data
        assert word in answer.body
        assert answer.body.count(b"\n") == 1
        assert answer.headers["connection"] == "close"
    served.wait_for_log("is refused with 414")


def test_odd_requests_are_served(served: Server) -> None:
    for data in (
        b"GET / HTTP/1.2\r\n" + HOST + b"\r\n",
        b"GET http://other:80/ HTTP/1.1\r\n" + HOST + b"\r\n",
        b"\r\n\r\nGET / HTTP/1.1\n" + b"Host: x\n\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 99 + b"\r\n",
    ):
        assert over_tcp(served, data).endswith(b"\r\n\r\nhello"), data


@pytest.mark.parametrize("status", [204, 205, 304])
@pytest.mark.parametrize("way", WAYS)
def test_a_response_that_has_no_content_has_none_whatever_its_handler_returns(
    served: Server, status: int, way: str
) -> None:
    data = f"GET /nothing/{status}/{way} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    answer = over_tcp(served, data * 2 + KINDS["GET"][0])
    parts = answer.split(b"\r\n\r\n")
    statuses = [part.split(b" ")[1] for part in parts[:-1]]
    assert statuses == [str(status).encode()] * 2 + [b"200"], answer
    assert parts[-1] == b"hello"
    with served.http() as http:
        assert http.head(f"/nothing/{status}/{way}").status_code == status


def test_a_length_that_is_stated_for_a_stream_is_that_of_head(served: Server) -> None:
    with served.http() as http:
        assert http.head("/stated/5").headers["content-length"] == "5"
        assert "content-length" not in http.head("/stream").headers


def test_a_length_that_a_handler_states_is_used_if_it_is_true(served: Server) -> None:
    with served.http() as http:
        true = http.get("/stated/5")
        assert (true.headers["content-length"], true.text) == ("5", "12345")
        assert "transfer-encoding" not in true.headers
    for stated, body in ((4, b"12"), (6, b"12345")):
        answer = over_tcp(served, f"GET /stated/{stated} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert answer.endswith(b"\r\n\r\n" + body)
    served.wait_for_log("does not have the Content-Length that it states")
