"""What runs on threads: synchronous handlers, `def` beside what is asynchronous, generators, hooks,
and functions after the response. Of each kind as many run as wait, and none holds up another."""

from __future__ import annotations

import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from conftest import StartServer
from support.raw_websocket import TEXT, RawSocket
from support.servers import DEADLINE_S, Server, wait_for

MEETING = 6
REQUESTS = ("handler", "around", "generator", "after")


def ask(one: Server, path: str) -> str:
    with one.http() as http:
        return http.get(path).text


def ask_together(one: Server, path: str) -> list[str]:
    with ThreadPoolExecutor(MEETING) as pool:
        asked = [pool.submit(ask, one, path) for _ in range(MEETING)]
        return [each.result(2 * DEADLINE_S) for each in asked]


def what_is_done(one: Server, count: int) -> list[str]:
    def found() -> list[str] | None:
        with one.http() as http:
            done: list[str] = http.get("/done").json()
        return done if len(done) >= count else None

    return wait_for(found, f"{count} functions")


def open_session(one: Server, what: str) -> RawSocket:
    raw = RawSocket(one.port)
    raw.open(f"/hook/{what}")
    return raw


def test_handlers_that_wait_for_each_other_run_side_by_side(server: StartServer) -> None:
    one = server("handler_threads")
    assert ask_together(one, "/handler/meet") == ["met"] * MEETING
    assert ask_together(one, "/around/meet") == ["met"] * MEETING


def test_generators_that_wait_for_each_other_run_side_by_side(server: StartServer) -> None:
    one = server("handler_threads")
    assert ask_together(one, "/generator/meet") == ["begun, met"] * MEETING


def test_functions_after_responses_that_wait_for_each_other_run_side_by_side(
    server: StartServer,
) -> None:
    one = server("handler_threads")
    assert ask_together(one, "/after/meet") == ["before"] * MEETING
    assert what_is_done(one, MEETING) == ["after met"] * MEETING


def test_hooks_that_wait_for_each_other_run_side_by_side(server: StartServer) -> None:
    one = server("handler_threads")
    sessions = [open_session(one, "meet") for _ in range(MEETING)]
    try:
        assert what_is_done(one, MEETING) == ["hook met"] * MEETING
    finally:
        for each in sessions:
            each.socket.close()


def test_once_the_io_thread_has_ended_functions_still_run_side_by_side(server: StartServer) -> None:
    """Nobody looks any more at what they do: then there are as many threads as may be."""
    one = server("handler_threads")
    assert ask_together(one, "/after-the-end") == ["before"] * MEETING
    wait_for(lambda: one.log().count("<waits for the end>") == MEETING, "all of them")
    one.send_signal(signal.SIGTERM)
    assert one.wait() == 0
    log = one.log()
    assert log.count("<after the end: met>") == MEETING, log
    assert log.rindex("<after the end: met>") < log.index("<shut down>")


@pytest.mark.parametrize("kind", [*REQUESTS, "hook"])
def test_one_that_raises_is_logged_and_the_next_one_runs(server: StartServer, kind: str) -> None:
    one = server("handler_threads")
    for _ in range(2):
        if kind == "hook":
            open_session(one, "fail").socket.close()
        else:
            with RawSocket(one.port) as raw:
                raw.write(f"GET /{kind}/fail HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                one.wait_for_log(f"LookupError: this {kind} fails")
    wait_for(lambda: one.log().count(f"LookupError: this {kind} fails") >= 2, "the second one")
    assert ask(one, "/done") == "[]"


def begin(one: Server, kind: str) -> RawSocket:
    """Something of this kind that blocks for ever."""
    if kind == "hook":
        return open_session(one, "block")
    raw = RawSocket(one.port)
    raw.write(f"GET /{kind}/block HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return raw


SAID: dict[str, Callable[[str], bool]] = {
    "handler": lambda log: "A handler of /handler/{what} did not end in time and is cut off" in log,
    "around": lambda log: "A handler of /around/{what} did not end in time and is cut off" in log,
    "generator": lambda log: "A handler of GET /generator/" in log,
    "after": lambda log: "Functions after 1 responses did not end in" in log,
    "hook": lambda log: "Some hooks did not end in" in log,
}


@pytest.mark.parametrize("leaves", [False, True], ids=["stays", "leaves"])
@pytest.mark.parametrize("kind", list(SAID))
def test_one_that_blocks_for_ever_does_not_keep_the_server_from_ending(
    server: StartServer, kind: str, leaves: bool
) -> None:
    one = server("handler_threads", environment={"GRACE": "0.5"})
    with begin(one, kind) as client:
        one.wait_for_log(f"<{kind} blocks>")
        if leaves:
            client.socket.close()
        one.send_signal(signal.SIGTERM)
        assert one.wait() == 0
    log = one.log()
    assert SAID[kind](log), log
    assert "<shut down>" in log


@pytest.mark.parametrize("kind", list(SAID))
def test_one_that_blocks_holds_up_no_other_kind(server: StartServer, kind: str) -> None:
    one = server("handler_threads", environment={"GRACE": "0.5"})
    with begin(one, kind):
        one.wait_for_log(f"<{kind} blocks>")
        if kind != "handler":
            assert ask_together(one, "/handler/meet") == ["met"] * MEETING
        if kind != "generator":
            assert ask_together(one, "/generator/meet") == ["begun, met"] * MEETING
        with RawSocket(one.port) as other:
            other.open("/hook/fail")
            other.send(TEXT, b"in")
            assert other.message() == "in"
            one.wait_for_log("LookupError: this hook fails")
