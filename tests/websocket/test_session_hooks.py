"""`on_open` and `on_close` of turbo routes: each session is told of, and nothing waits for it."""

from __future__ import annotations

import signal
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import StartServer
from fanbus import Fanbus
from fanbus.exceptions import RouteError
from support.raw_websocket import CLOSE, TEXT, RawSocket
from support.servers import Server, wait_for

KINDS = ("/sync/{}", "/async/{}", "/guarded/{}")


@pytest.fixture(scope="module")
def hooked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests that leave it as it was."""
    with Server(
        "session_hooks",
        workers=1,
        environment={},
        stderr=tmp_path_factory.mktemp("hooked") / "stderr",
    ) as server:
        yield server


def seen(server: Server, name: str, count: int) -> list[dict[str, Any]]:
    """What the hooks have seen, as soon as it is so much."""
    found: list[dict[str, Any]] = []

    def is_there() -> bool:
        with server.http() as http:
            found[:] = http.get(f"/seen/{name}").json()
        return len(found) >= count

    wait_for(is_there, f"{count} calls of hooks for {name}")
    assert len(found) == count, found
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_hooks_are_called_when_a_session_opens_and_ends(hooked: Server, kind: str) -> None:
    name = "whole" + kind[1:3]
    with RawSocket(hooked.port) as raw:
        raw.open(kind.format(name) + "?a=1", {"X-Thing": "yes"})
        (opened,) = seen(hooked, name, 1)
        raw.send(TEXT, b"hello")
        assert raw.message() == "hello"
        raw.send(CLOSE, struct.pack(">H", 3005) + b"enough")
        assert raw.closed()[0] == 3005
        port = raw.socket.getsockname()[1]
    first, second = seen(hooked, name, 2)
    assert first == opened
    assert opened == {
        "what": "open",
        "id": opened["id"],
        "path_params": {"name": name},
        "query": {"a": "1"},
        "header": "yes",
        "client": port,
        "close_code": None,
        "close_reason": None,
    }
    assert second == {**opened, "what": "close", "close_code": 3005, "close_reason": "enough"}


@pytest.mark.parametrize("kind", KINDS[:2])
def test_hooks_are_called_once_and_in_order_for_each_of_many_sessions(
    hooked: Server, kind: str
) -> None:
    name, count = "many" + kind[1:3], 90
    for number in range(count):
        with RawSocket(hooked.port) as raw:
            raw.open(kind.format(name))
            match number % 3:
                case 0:
                    raw.send(CLOSE, struct.pack(">H", 1000))
                case 1:  # vanishes: the server sees a reset
                    raw.socket.setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                    )
                case 2:
                    raw.send(TEXT, b"x" * 1001)
                    assert raw.closed()[0] == 1009
    calls: dict[str, list[Any]] = {}
    for one in seen(hooked, name, 2 * count):
        calls.setdefault(one["id"], []).append((one["what"], one["close_code"]))
    assert len(calls) == count
    ends = []
    for opened, (what, code) in calls.values():
        assert opened[0] == "open"
        assert what == "close"
        ends.append(code)
    assert {code: ends.count(code) for code in set(ends)} == {1000: 30, 1006: 30, 1009: 30}


def test_one_hook_is_enough_and_refused_sessions_call_none(hooked: Server) -> None:
    with RawSocket(hooked.port) as raw:
        raw.open("/end/alone")
        raw.send(TEXT, b"in")
        assert raw.message() == "in"
    (closed,) = seen(hooked, "alone", 1)
    assert (closed["what"], closed["close_code"]) == ("close", 1006)
    with RawSocket(hooked.port) as raw:
        assert raw.upgrade("/guarded/nobody").status == 403
    with RawSocket(hooked.port) as raw:
        raw.open("/guarded/nobody-else")
        seen(hooked, "nobody-else", 1)
    seen(hooked, "nobody", 0)


@pytest.mark.parametrize("kind", ["/thread/{}", "/loop/{}"])
def test_a_hook_that_blocks_delays_no_frame_and_the_end_waits_for_it(
    server: StartServer, kind: str
) -> None:
    hooked = server("session_hooks", workers=1)
    with RawSocket(hooked.port) as raw, RawSocket(hooked.port) as other:
        raw.open(kind.format("held"))
        (begun,) = seen(hooked, "held", 1)
        assert begun["what"] == "begun"
        other.open(kind.format("other"))
        for number in range(100):
            for client in (raw, other):
                client.send(TEXT, f"{number}".encode())
                assert client.message() == f"{number}"
        raw.send(CLOSE, struct.pack(">H", 1000))
        assert raw.closed()[0] == 1000
        assert [one["what"] for one in seen(hooked, "held", 1)] == ["begun"]
        with hooked.http() as http:
            http.post("/release")
        calls = [one["what"] for one in seen(hooked, "held", 3)]
        assert calls == ["begun", "open", "close"]


def test_what_a_hook_raises_is_logged_with_path_and_client(server: StartServer) -> None:
    hooked = server("session_hooks", workers=1)
    with RawSocket(hooked.port) as raw:
        raw.open("/fails/here")
        raw.send(TEXT, b"in")
        assert raw.message() == "in"
        port = raw.socket.getsockname()[1]
    assert [one["what"] for one in seen(hooked, "here", 2)] == ["open", "close"]
    log = hooked.log()
    assert f"on_open of WebSocket /fails/here of 127.0.0.1:{port}" in log
    assert "ValueError: this hook fails" in log


def test_a_server_that_ends_tells_of_the_end_of_its_sessions(
    server: StartServer, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    hooked = server("session_hooks", workers=1, environment={"NOTES": str(notes)})
    with RawSocket(hooked.port) as raw:
        raw.open("/async/last")
        seen(hooked, "last", 1)
        hooked.send_signal(signal.SIGTERM)
        assert raw.closed()[0] == 1012
    hooked.wait()
    assert notes.read_text() == "open None\nclose 1012\n"


def test_a_hook_that_cannot_be_called_is_refused() -> None:
    with pytest.raises(RouteError, match="on_close must be a function that takes the session"):
        Fanbus("x").turbo_websocket("/", response_prefix="", on_close="close")  # type: ignore[arg-type]
