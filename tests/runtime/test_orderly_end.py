"""The order of an orderly end: what is used is closed after everything that uses it."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable

import pytest

from conftest import StartServer
from support.raw_websocket import RawSocket
from support.servers import Server

HANDLERS = {
    "def": b"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n",
    "async": b"POST /orders/7 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    "stream": b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n",
    "pieces": b"GET /pieces HTTP/1.1\r\nHost: x\r\n\r\n",
    "after": b"GET /after HTTP/1.1\r\nHost: x\r\n\r\n",
}


def said(one: Server) -> list[str]:
    return re.findall(r"^<(.*)>$", one.log(), re.MULTILINE)


def leave_behind(one: Server, what: str) -> None:
    """A handler that works, and whose client has left."""
    with RawSocket(one.port) as client:
        if what == "websocket":
            client.open("/ws")
        else:
            client.write(HANDLERS[what])
        one.wait_for_log(f"<{what} begun>")


def assert_in_order(one: Server, *steps: str) -> None:
    log = said(one)
    assert not [line for line in log if "after closing" in line], log
    assert all(step in log for step in steps), (steps, log)
    places = [log.index(step) for step in steps]
    assert places == sorted(places), log


@pytest.mark.parametrize("what", [*HANDLERS, "websocket"])
def test_the_end_waits_for_a_handler_whose_client_has_left(server: StartServer, what: str) -> None:
    one = server("orderly_end")
    leave_behind(one, what)
    one.send_signal(signal.SIGTERM)
    assert one.wait() == 0
    assert_in_order(one, f"{what} done", "startup task cancelled", "closed", "exit")
    assert "cut off" not in one.log()


def by_signal(number: signal.Signals) -> Callable[[Server], None]:
    return lambda one: one.send_signal(number)


def by_requests(one: Server) -> None:
    with one.http() as http:
        for _ in range(4):
            http.get("/nothing")


ENDS = {
    "HUP": (by_signal(signal.SIGHUP), {}, 1),
    "TTOU": (by_signal(signal.SIGTTOU), {}, 2),
    "requests": (by_requests, {"FANBUS_LIMIT_MAX_REQUESTS": "4"}, 1),
    "lifetime": (lambda _: None, {"FANBUS_WORKERS_LIFETIME": "1"}, 1),
}


@pytest.mark.supervised("a single process is not replaced")
@pytest.mark.parametrize("end", list(ENDS))
@pytest.mark.parametrize("what", ["def", "async"])
def test_a_worker_that_is_replaced_waits_for_its_handlers(
    server: StartServer, what: str, end: str
) -> None:
    begin, environment, workers = ENDS[end]
    one = server("orderly_end", workers=workers, environment={"WORK": "1.5", **environment})
    for _ in range(12 if workers > 1 else 1):  # in each worker, very likely
        leave_behind(one, what)
    begin(one)
    one.wait_for_log("<exit>")
    log = said(one)
    assert not [line for line in log if "after closing" in line], log
    # Of TTOU, one worker of two has ended, and the other one may still be at work.
    assert f"{what} done" in log[: log.index("closed")], log


def test_tasks_of_the_application_end_before_what_they_use(server: StartServer) -> None:
    one = server("orderly_end")
    with one.http() as http:
        assert http.get("/task").text == "begun"
    one.send_signal(signal.SIGTERM)
    assert one.wait() == 0
    assert_in_order(one, "handler's task cancelled", "library task runs", "closed", "exit")
    assert_in_order(one, "startup task cancelled", "library task runs", "closed", "exit")


@pytest.mark.parametrize("what", ["async", "def", "websocket"])
def test_a_handler_that_is_cut_off_is_logged_with_its_route_and_its_age(
    server: StartServer, what: str
) -> None:
    environment = {"WORK": "60", "FANBUS_TIMEOUT_GRACEFUL_SHUTDOWN": "1.5"}
    one = server("orderly_end", environment=environment)
    leave_behind(one, what)
    one.send_signal(signal.SIGTERM)
    assert one.wait() == 0
    route = {"async": "/orders/{number:int}", "def": "/plain", "websocket": "/ws"}[what]
    age = re.search(
        rf"A handler of {re.escape(route)} did not end in time and is cut off, after (\S+) s\.",
        one.log(),
    )
    assert age is not None, one.log()
    assert float(age[1]) >= 1.4
    assert f"Waiting for a handler of {route} to end, for " in one.log()
    assert f"{what} done" not in said(one)


def test_a_second_signal_ends_it_at_once_and_says_what_was_cut_off(server: StartServer) -> None:
    one = server("orderly_end", environment={"WORK": "60", "FANBUS_SINGLE_PROCESS": "1"})
    leave_behind(one, "async")
    one.send_signal(signal.SIGTERM)
    one.wait_for_log("Waiting for a handler of /orders/{number:int} to end")
    one.send_signal(signal.SIGTERM)
    assert one.wait() == 0
    assert "A handler of /orders/{number:int} did not end in time and is cut off" in one.log()
    assert_in_order(one, "closed", "exit")


def test_a_handler_whose_client_left_runs_on_while_the_worker_runs(server: StartServer) -> None:
    one = server("orderly_end", environment={"WORK": "0.2"})
    leave_behind(one, "async")
    leave_behind(one, "def")
    one.wait_for_log("<async done>")
    one.wait_for_log("<def done>")
    leave_behind(one, "stream")  # its generator is closed
    one.wait_for_log("<stream done>")
