"""The hosts that an application serves: requests and handshakes that name others are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conftest import StartServer
from fanbus import Fanbus, FanbusError, Request, WebSocket
from fanbus.testing import TestClient
from support.raw_websocket import RawSocket

PROGRAM = """
import os
from fanbus import Fanbus, WebSocket

app = Fanbus("hosts", **({"hosts": os.environ["HOSTS"].split()} if "HOSTS" in os.environ else {}))


@app.get("/")
def hello():
    return "hello"


@app.websocket("/ws")
async def talk(ws: WebSocket):
    await ws.send("hello")


app.run(host=os.environ.get("ADDRESS"), port=0, workers=1, debug="DEBUG" in os.environ)
"""


def status(port: int, host: str | None, *, version: str = "1.1", handshake: bool = False) -> int:
    path, more = "/", ""
    if handshake:
        path = "/ws"
        more = (
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        )
        more += f"Origin: http://{host}\r\n"
    named = "" if host is None else f"Host: {host}\r\n"
    with RawSocket(port) as raw:
        raw.write(f"GET {path} HTTP/{version}\r\n{named}{more}\r\n".encode())
        return raw.answer().status


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "hosts.py"
    path.write_text(PROGRAM)
    return path


def test_only_hosts_of_the_application_are_served(server: StartServer, program: Path) -> None:
    one = server(program, environment={"HOSTS": "example.org *.chat.example"})
    for handshake, served in ((False, 200), (True, 101)):
        for host in ("example.org", "EXAMPLE.org:81", "example.org.", "a.chat.example"):
            assert status(one.port, host, handshake=handshake) == served, host
        for host in ("evil.example", f"127.0.0.1:{one.port}", "chat.example", "xexample.org"):
            assert status(one.port, host, handshake=handshake) == 400, host
    assert status(one.port, None, version="1.0") == 400


def test_without_a_list_every_host_is_served(server: StartServer, program: Path) -> None:
    one = server(program)
    assert status(one.port, "evil.example") == 200
    assert status(one.port, "evil.example", handshake=True) == 101
    assert status(one.port, None, version="1.0") == 200


def test_with_debug_a_loopback_address_serves_this_machine_alone(
    server: StartServer, program: Path
) -> None:
    one = server(program, environment={"DEBUG": "1"})
    for host in (f"localhost:{one.port}", f"127.0.0.1:{one.port}", "[::1]", "chat.localhost"):
        assert status(one.port, host) == 200, host
    assert status(one.port, "evil.example") == 400
    assert status(one.port, f"evil.example:{one.port}", handshake=True) == 400


def test_with_debug_the_applications_own_list_counts(server: StartServer, program: Path) -> None:
    one = server(program, environment={"DEBUG": "1", "HOSTS": "*"})
    assert status(one.port, "evil.example") == 200


def test_with_debug_another_address_serves_every_host(server: StartServer, program: Path) -> None:
    one = server(program, environment={"DEBUG": "1", "ADDRESS": "0.0.0.0"})
    assert status(one.port, "evil.example") == 200


def test_refusal_has_advice_and_calls_no_handler() -> None:
    app = Fanbus("refusing", hosts=["example.org"])
    called = []

    @app.before_request
    def before(request: Request) -> None:
        called.append(request.path)

    @app.websocket("/ws")
    async def talk(ws: WebSocket) -> None:
        called.append(ws.path)

    with TestClient(app) as client:
        answer = client.get("/")
        assert answer.status_code == 400
        assert "Fanbus(hosts=[...]) lists the hosts that it serves" in answer.text
        assert client.get("/", headers={"host": "example.org"}).status_code == 404
    assert called == ["/"]


@pytest.mark.parametrize("hosts", ["example.org", [], [1], ["http://a"], ["a:80"], ["*a"], [""]])
def test_what_is_not_a_host_is_refused(hosts: Any) -> None:
    with pytest.raises(FanbusError, match=r"hosts"):
        Fanbus("x", hosts=hosts)
