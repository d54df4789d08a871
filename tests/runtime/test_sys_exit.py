"""`sys.exit()` in a handler costs its own client the answer, and nobody else anything."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from conftest import StartServer
from support.raw_websocket import CLOSE, TEXT, RawSocket, close_of
from support.servers import Server


@pytest.fixture(params=["asyncio", "uvloop"])
def exiting(server: StartServer, request: pytest.FixtureRequest) -> Iterator[Server]:
    one = server("sys_exit", workers=1, environment={"FANBUS_LOOP": request.param})
    with RawSocket(one.port) as other, one.http() as http:
        other.open("/echo")
        before = http.get("/pid").text
        yield one
        assert http.get("/pid").text == before, "it is the same worker"
        other.send(TEXT, b"still here?")
        assert other.message() == "still here?"


@pytest.mark.parametrize("path", ["/plain", "/at-once", "/later", "/interrupted"])
def test_a_handler_that_exits_is_an_error_of_its_own(exiting: Server, path: str) -> None:
    with exiting.http() as http:
        assert http.get(path).status_code == 500
    exiting.wait_for_log("KeyboardInterrupt" if path == "/interrupted" else "SystemExit: ")


@pytest.mark.parametrize("path", ["/generated", "/awaited"])
def test_a_stream_whose_maker_exits_is_broken_off(exiting: Server, path: str) -> None:
    with exiting.http() as http, pytest.raises(httpx.RemoteProtocolError):
        http.get(path)
    exiting.wait_for_log(f"SystemExit: {path[1:]}")


@pytest.mark.parametrize("path", ["/task", "/background"])
def test_a_task_that_exits_ends_alone(exiting: Server, path: str) -> None:
    with exiting.http() as http:
        assert http.get(path).text == "begun"
    exiting.wait_for_log("SystemExit in a handler or a task: the worker goes on")


def test_the_event_loop_is_not_the_applications_to_stop(exiting: Server) -> None:
    with exiting.http() as http:
        assert http.get("/stop").text == "stopped"
    exiting.wait_for_log("loop.stop() in a handler or a task: the worker goes on")


def test_a_session_whose_handler_exits_is_closed(exiting: Server) -> None:
    with RawSocket(exiting.port) as client:
        client.open("/echo")
        client.send(TEXT, b"exit")
        frame = client.frame()
        assert (frame.opcode, close_of(frame)) == (CLOSE, (1011, "the handler failed"))
    exiting.wait_for_log("SystemExit: echo")


def test_it_ends_in_order_after_it(exiting: Server) -> None:
    with exiting.http() as http:
        assert http.get("/at-once").status_code == 500
