"""Bodies that a handler reads piece by piece, and many bodies at once."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fanbus import Fanbus
from fanbus.exceptions import RouteError
from support.raw_websocket import RawSocket
from support.servers import DEADLINE_S, Server, wait_for

LARGE = 24 << 20
"""Bytes beyond every limit of a body that is read at once."""

HEAD = b"PUT %s HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    stderr = tmp_path_factory.mktemp("uploads") / "stderr"
    with Server("uploads", workers=1, environment={}, stderr=stderr) as server:
        yield server


@dataclass
class Move:
    x: int


def resident_bytes(server: Server) -> int:
    """Memory of the only worker."""
    (pid,) = server.worker_pids()
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def content(size: int) -> bytes:
    return os.urandom(1 << 16) * (size >> 16)


def chunks(body: bytes) -> Iterator[bytes]:
    for at in range(0, len(body), 100_000):
        yield body[at : at + 100_000]


@pytest.mark.parametrize("path", ["/async", "/sync", "/slowly"])
@pytest.mark.parametrize("announced", [True, False])
def test_a_body_of_any_size_comes_in_small_pieces(
    served: Server, path: str, announced: bool
) -> None:
    body = content(LARGE)
    with served.http() as http:
        for _ in range(2):
            answer = http.put(path, content=body if announced else chunks(body)).json()
            assert answer["sha256"] == hashlib.sha256(body).hexdigest()
            assert answer["bytes"] == LARGE
            assert 0 < answer["largest"] <= 128 << 10
        assert http.put(path, content=b"").json()["bytes"] == 0


def test_a_route_may_limit_what_it_streams(served: Server) -> None:
    with served.http() as http:
        assert http.put("/small", content=b"x" * 100).json()["bytes"] == 100
        assert http.put("/small", content=b"x" * 101).status_code == 413
        assert http.put("/small", content=iter([b"x" * 60, b"y" * 60])).status_code == 413


def test_continue_is_sent_when_the_body_is_read_and_never_before_a_refusal(
    served: Server,
) -> None:
    expects = b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    for path, body in ((b"/async", b"12345"), (b"/sync", b"12345"), (b"/held", b"12345")):
        with RawSocket(served.port) as raw:
            raw.write(HEAD % path + expects)
            assert raw.read(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
            raw.write(body)
            assert raw.answer().status == 200
    for path, status in ((b"/refused", 401), (b"/none", 404)):
        with RawSocket(served.port) as raw:
            raw.write(HEAD % path + expects)
            answer = raw.answer()
            assert answer.status == status
            assert answer.headers["connection"] == "close"
    with RawSocket(served.port) as raw:
        raw.write(HEAD % b"/held" + b"Content-Length: 1001\r\nExpect: 100-continue\r\n\r\n")
        assert raw.answer().status == 413


def test_an_answer_that_does_not_wait_for_the_body_arrives(served: Server) -> None:
    with served.http() as http:
        for path in ("/refused", "/first"):
            answer = http.put(path, content=content(LARGE))
            assert answer.status_code == (401 if path == "/refused" else 200)
        # What is small is read past, and the connection stays.
        answer = http.put("/refused", content=b"x" * 1000)
        assert "connection" not in answer.headers
        assert http.put("/async", content=b"next").json()["bytes"] == 4


def test_a_client_that_breaks_off_is_an_error_for_its_handler(served: Server) -> None:
    def ended() -> list[int]:
        with served.http() as http:
            found: list[int] = http.get("/ended").json()
            return found

    before = len(ended())
    with RawSocket(served.port) as raw:
        raw.write(HEAD % b"/watched" + b"Content-Length: 100\r\n\r\n12345")
        raw.socket.shutdown(socket.SHUT_WR)
        assert raw.answer().status == 400
    with RawSocket(served.port) as raw:
        raw.write(HEAD % b"/watched" + b"Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\nx\r\n")
        assert raw.answer().status == 400
    wait_for(lambda: len(ended()) == before + 2 or None, "both have ended")
    assert ended()[before:] == [400, 400]


@pytest.mark.parametrize("path", ["/echo", "/echo/sync"])
def test_a_response_may_be_made_of_the_body_while_that_comes(served: Server, path: str) -> None:
    body = content(4 << 20)
    with served.http() as http:
        assert http.put(path, content=body).content == body
        assert http.put(path, content=chunks(body)).content == body


def test_the_usual_mistakes_get_a_sentence(served: Server) -> None:
    with served.http() as http:
        assert http.put("/wrong", content=b"{}").status_code == 500
        assert http.put("/blocks", content=b"{}").status_code == 500
        served.wait_for_log("use request.stream(), or leave")
        served.wait_for_log("is read with `async for`")
        assert http.put("/whole", content=b"all").json() == ["all"]
        assert http.put("/whole/sync", content=b"all").json() == ["all"]
        assert http.put("/whole", content=b"").json() == []
    app = Fanbus("wrong")

    async def takes(move: Move) -> None:
        pass

    with pytest.raises(RouteError, match="stream_body=True"):
        app.post("/", stream_body=True)(takes)


def test_a_handler_that_takes_no_body_costs_no_memory(served: Server) -> None:
    """And its connection goes on, or is closed, by the same rule as after a refusal."""
    with served.http() as http:
        before = resident_bytes(served)
        unfinished = []
        for _ in range(60):
            raw = socket.create_connection(("127.0.0.1", served.port), timeout=DEADLINE_S)
            unfinished.append(raw)
            raw.sendall(b"GET /none HTTP/1.1\r\nHost: x\r\nContent-Length: 16000000\r\n\r\n")
            raw.setblocking(False)
            try:
                while raw.send(b"x" * 100_000):
                    pass
            except (BlockingIOError, ConnectionError):
                pass  # what the kernel takes is there, or the server has ended the connection
        assert http.get("/ended").status_code == 200
        assert resident_bytes(served) - before < 30_000_000
        for raw in unfinished:
            raw.close()
