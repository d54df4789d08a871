"""The limits of HTTP requests (docs/guarantees.md, promise 5)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import pytest

from conftest import StartServer
from fanbus import Fanbus, FanbusError, Request, Router
from fanbus.testing import TestClient
from support.networks import at_pace
from support.raw_websocket import RawSocket

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


def test_an_application_has_a_limit_of_its_own_and_a_route_too() -> None:
    app = Fanbus("limited", max_body_size=100)
    router = Router(prefix="/in")

    @app.errorhandler(404)
    def missing(error: Exception) -> str:
        return str(error)

    async def length(request: Request) -> int:
        return len(await request.bytes())

    def answer(length: int) -> dict[str, int]:
        return {"bytes": length}

    @app.post("/")
    @router.post("/")
    async def general(request: Request) -> dict[str, int]:
        return answer(await length(request))

    @app.post("/large", max_body_size=1000)
    async def large(request: Request) -> dict[str, int]:
        return answer(await length(request))

    @app.put("/none", max_body_size=0)
    def none(request: Request) -> dict[str, int]:
        return answer(len(request.bytes()))

    @app.post("/form")
    def form(request: Request) -> dict[str, int]:
        return answer(len(request.form()["text"]))

    app.include(router)
    with TestClient(app) as client:
        for path, most in (("/", 100), ("/in/", 100), ("/large", 1000)):
            assert client.post(path, content=b"x" * most).json() == {"bytes": most}
            for content in (b"x" * (most + 1), iter([b"x" * most, b"x"])):
                refused = client.post(path, content=content)
                assert refused.status_code == 413
                assert f"{most} bytes" in refused.text
        assert client.put("/none").json() == {"bytes": 0}
        assert client.put("/none", content=b"x").status_code == 413
        assert client.post("/form", data={"text": "x" * 95}).json() == {"bytes": 95}
        assert client.post("/form", data={"text": "x" * 96}).status_code == 413
        # What nobody reads is not too large, whoever answers.
        assert client.post("/nowhere", content=b"x" * 101).status_code == 404
        with RawSocket(client.base_url.port or 0) as raw:
            raw.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 101\r\n\r\n")
            assert raw.answer().status == 413, "before a byte of the body has come"


@pytest.mark.parametrize(("rate", "status"), [("100", 200), ("1M", 408)])
def test_a_body_is_too_slow_below_the_least_rate(
    server: StartServer, rate: str, status: int
) -> None:
    limits = {"FANBUS_TIMEOUT_BODY": "0.5", "FANBUS_MIN_BODY_RATE": rate}
    one = server("web", environment=limits)
    with RawSocket(one.port) as raw:
        raw.write(b"POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: 4000\r\n\r\n")
        began = time.monotonic()
        sent = 0
        # As long as it takes to be late without what the bytes add: three times as long.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError), at_pace(20) as wait:
            while sent < 4000 and not (status == 408 and not raw.is_silent_for(0)):
                raw.write(b"x" * 100)
                sent += 100
                wait()
        assert status == 408 or time.monotonic() - began > 1.5
        assert raw.answer().status == status


@pytest.mark.parametrize("size", [-1, True, "1", 1.5, 2**41])
def test_a_limit_that_cannot_be_is_refused(size: object) -> None:
    with pytest.raises(FanbusError, match=r"Fanbus\(\): max_body_size must be"):
        Fanbus("limited", max_body_size=size)  # type: ignore[arg-type]


def test_missing_head_gets_408_and_delays_no_other(server: StartServer) -> None:
    one = server("web")
    with RawSocket(one.port) as slow, one.http() as http:
        slow.write(b"GET /length HT")
        assert http.post("/length", content=b"quick").json() == {"bytes": 5}
        assert slow.answer().status == 408
        assert slow.ended()
