"""The limits of HTTP requests (docs/guarantees.md, promise 5)."""

from __future__ import annotations

from collections.abc import Iterator

from conftest import StartServer
from rawsocket import RawSocket

LARGEST = 16 * 1024 * 1024


def test_a_body_of_just_the_limit_arrives_and_a_larger_one_is_413(server: StartServer) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(17):
            yield b"x" * (LARGEST // 16)

    with server("web").http() as http:
        assert http.post("/length", content=b"x" * LARGEST).json() == {"bytes": LARGEST}
        assert http.post("/length", content=b"x" * (LARGEST + 1)).status_code == 413
        assert http.post("/length", content=chunks()).status_code == 413, "its length not announced"
        assert http.post("/length", content=b"and on").json() == {"bytes": 6}


def test_a_head_that_does_not_come_is_408_and_holds_up_nobody(server: StartServer) -> None:
    one = server("web")
    with RawSocket(one.port) as slow, one.http() as http:
        slow.write(b"GET /length HT")
        assert http.post("/length", content=b"quick").json() == {"bytes": 5}
        assert slow.answer().status == 408
        assert slow.ended()
