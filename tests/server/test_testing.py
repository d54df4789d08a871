"""`fanbus.testing`: a server in this process, and one with real workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from fanbus import Fanbus, FanbusError, Request, Response, WebSocket
from fanbus.exceptions import StartError
from fanbus.testing import TestClient, TestServer
from support.servers import is_alive, wait_for


def application(name: str = "tested") -> Fanbus:
    lived: list[str] = []

    @asynccontextmanager
    async def lifespan(app: Fanbus) -> AsyncIterator[dict[str, Any]]:
        lived.append("began")
        yield {"lived": lived}
        lived.append("ended")

    app = Fanbus(name, lifespan=lifespan)
    app.state["lived"] = lived

    @app.get("/pid")
    def pid() -> dict[str, Any]:
        return {"pid": os.getpid(), "lived": app.state["lived"]}

    @app.post("/login")
    async def login(request: Request) -> Response:
        response = Response(await request.json())
        response.set_cookie("session", "abc")
        return response

    @app.before_request
    async def refuse(request: Request) -> Any:
        return ("no", 401) if request.path == "/secret" else None

    @app.get("/broken")
    def broken() -> None:
        raise LookupError("on purpose")

    @app.websocket("/ws")
    async def ws(ws: WebSocket) -> None:
        if ws.query.get("refuse"):
            await ws.reject(403)
            return
        ws.subscribe("room")  # before it says anything: who hears that is subscribed
        await ws.send(ws.cookies.get("session", "nobody"))
        async for message in ws:
            app.publish("room", message)

    return app


def test_a_client_asks_an_application_in_this_process() -> None:
    app = application()
    with TestClient(app) as client:
        assert client.get("/pid").json() == {"pid": os.getpid(), "lived": ["began"]}
        assert client.post("/login", json={"a": 1}).json() == {"a": 1}
        assert client.get("/secret").status_code == 401
        with client.websocket_connect("/ws") as ws:
            assert ws.recv() == "abc", "the cookie of the client"
            ws.send("hello")
            assert ws.recv() == "hello"
        with pytest.raises(InvalidStatus), client.websocket_connect("/ws?refuse=1"):
            pass
    assert app.state["lived"] == ["began", "ended"]


def test_an_application_with_a_long_name_can_be_tested() -> None:
    with TestClient(application("a" * 100)) as client:
        assert client.get("/pid").json()["pid"] == os.getpid()


def test_an_application_can_be_tested_again_and_again() -> None:
    app = application()
    for _ in range(3):
        with TestClient(app) as client:
            assert client.get("/pid").status_code == 200
            assert client.get("/secret").status_code == 401
            assert client.get("/nowhere").status_code == 404
    assert app.state["lived"] == ["began", "ended"] * 3


def test_several_clients_at_once() -> None:
    one, two = application("one"), application("two")
    with ExitStack() as stack:
        first = stack.enter_context(TestClient(one))
        second = stack.enter_context(TestClient(two))
        third = stack.enter_context(TestClient(one))
        assert first.port == third.port != second.port
        first.post("/login", json={})
        assert not third.cookies
        hears = stack.enter_context(first.websocket_connect("/ws"))
        other = stack.enter_context(second.websocket_connect("/ws"))
        says = stack.enter_context(third.websocket_connect("/ws"))
        assert [ws.recv() for ws in (hears, other, says)] == ["abc", "nobody", "nobody"]
        says.send("for one")
        assert hears.recv() == "for one"
        other.send("for two")
        assert other.recv() == "for two", "and nothing of the other application"
    assert one.state["lived"] == ["began", "ended"]


def test_an_error_of_a_handler_is_500_and_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with TestClient(application()) as client:
        assert client.get("/broken").status_code == 500
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.name == "fanbus"
    assert "on purpose" in str(record.exc_info)


def test_outside_of_with_it_says_so() -> None:
    client = TestClient(application())
    with pytest.raises(FanbusError, match=r"write `with TestClient\(app\) as client:`"):
        client.get("/")
    with client:
        pass
    with pytest.raises(FanbusError, match="does not run"):
        client.websocket_connect("/ws")
    with pytest.raises(FanbusError, match="expects a Fanbus, got str"):
        TestClient("app")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [TestClient, TestServer])
def test_failed_start_raises_an_error(kind: type[TestClient]) -> None:
    app = Fanbus("failing")

    @app.on_startup
    def fail() -> None:
        raise LookupError("on purpose")

    for _ in range(2):
        with pytest.raises(StartError, match="on purpose"), kind(app):
            pass
    assert not [each for each in threading.enumerate() if each.name == "fanbus-test"]


def test_nothing_is_left_of_it() -> None:
    with TestClient(application()) as client:
        port = client.port
        client.get("/pid")
    assert not [each for each in threading.enumerate() if each.name == "fanbus-test"]
    assert not list(Path("/dev/shm").glob(f"fanbus.*-test-*-{port}"))


def test_a_server_has_real_workers() -> None:
    app = application()
    with TestServer(app, workers=3) as server:
        pids = {server.get("/pid").json()["pid"] for _ in range(60)}
        assert os.getpid() not in pids
        assert 2 <= len(pids) <= 3
        with ExitStack() as stack:
            sockets = [stack.enter_context(server.websocket_connect("/ws")) for _ in range(6)]
            for ws in sockets:
                assert ws.recv() == "nobody"
            sockets[0].send("hello")
            assert [ws.recv() for ws in sockets] == ["hello"] * 6
        assert server.get("/broken").status_code == 500
        wait_for(lambda: "LookupError: on purpose" in server.log(), "the error on the log")
        supervisor = server.pid
    assert app.state["lived"] == [], "what workers do to their memory is theirs"
    assert not any(is_alive(pid) for pid in (supervisor, *pids))


def test_the_bus_of_a_server_goes_with_it_although_a_topic_retains_messages() -> None:
    app = application()
    app.topic("room:{room}", history=10)
    before = set(Path("/dev/shm").glob(f"fanbus.{app.name}-*"))
    for _ in range(2):
        with TestServer(app, workers=1) as server:
            own = Path(f"/dev/shm/fanbus.{app.name}-{server.port}")
            assert own.exists()
        assert not own.exists()
    with TestServer(app, workers=1) as server:
        own = Path(f"/dev/shm/fanbus.{app.name}-{server.port}")
        os.kill(server.pid, signal.SIGKILL)
        with pytest.raises(FanbusError, match="ended with status -9"):
            server.__exit__()
    assert not own.exists()
    assert set(Path("/dev/shm").glob(f"fanbus.{app.name}-*")) <= before


def test_a_server_dies_with_its_test() -> None:
    program = """
import os, signal
from fanbus import Fanbus
from fanbus.testing import TestServer
with TestServer(Fanbus("orphan"), workers=1) as server:
    print(server.pid, server.base_url.port, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    pid, port = map(int, done.stdout.split())
    wait_for(lambda: not is_alive(pid), "the server's end")
    assert not Path(f"/dev/shm/fanbus.orphan-{port}").exists()


def test_without_its_libraries_it_says_what_to_install() -> None:
    program = "import sys; sys.modules['httpx'] = None; import fanbus.testing"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "pip install 'fanbus[testing]'" in done.stderr
