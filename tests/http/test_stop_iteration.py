"""A future takes no StopIteration: what a thread raises becomes an error that is answered."""

from __future__ import annotations

import signal

import pytest

from conftest import StartServer
from support.raw_websocket import RawSocket


@pytest.mark.parametrize("place", ["handler", "before", "after", "error"])
def test_stop_iteration_on_a_thread_is_answered_with_500_and_logged(
    server: StartServer, place: str
) -> None:
    one = server("stop_iteration")
    with one.http() as http:
        assert http.get(f"/{place}/", timeout=10).status_code == 500
    one.wait_for_log("RuntimeError: A function on a thread raised StopIteration.")
    assert "in fail" in one.log(), "the log names the function that raised it"


def test_stop_iteration_after_a_response_is_logged_and_the_worker_ends(
    server: StartServer,
) -> None:
    one = server("stop_iteration")
    with one.http() as http:
        assert http.get("/background/").text == "begun"
    one.wait_for_log("after GET /background/")
    one.send_signal(signal.SIGTERM)
    assert one.wait() == 0
    assert "and were left" not in one.log()


def test_stop_iteration_in_a_hook_is_logged_and_the_worker_ends(server: StartServer) -> None:
    one = server("stop_iteration")
    with RawSocket(one.port) as client:
        client.open("/hooked")
        one.wait_for_log("on_open of WebSocket /hooked")
    one.send_signal(signal.SIGTERM)
    assert one.wait() == 0
    assert "Some hooks did not end" not in one.log()
