"""What an application does before a worker's first request, and after its last one."""

from __future__ import annotations

import re
import signal
import threading
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from conftest import StartServer
from fanbus import Fanbus, FanbusError
from support.raw_websocket import RawSocket
from support.servers import Server, wait_for

BEGINNING = ["entered", "started", "started too"]
END = ["stopped", "stopped too", "left"]


def said(server: Server, pid: int) -> list[str]:
    """What of the lifespan has run in one process, in its order."""
    return re.findall(rf"^([a-z ]+) in {pid}$", server.log(), re.MULTILINE)


def start_to_fail(fails: str, folder: Path) -> Server:
    environment = {"FAILS": fails}
    return Server("lifespan", workers=2, environment=environment, stderr=folder / "stderr")


def test_each_worker_lives_through_all_of_it_in_order(server: StartServer) -> None:
    one = server("lifespan", workers=2)
    pids = one.worker_pids() or [one.pid]
    wait_for(lambda: all(said(one, pid) == BEGINNING for pid in pids), "every worker has begun")
    with one.http() as http:
        state = http.get("/").json()
    assert state["news"] is True
    assert state["pid"] in pids
    one.send_signal(signal.SIGTERM)
    assert one.wait() == 0
    for pid in pids:
        assert said(one, pid) == BEGINNING + END
    assert "elsewhere" not in one.log()


def test_the_end_comes_after_the_last_request(server: StartServer) -> None:
    one = server("lifespan")
    answers: list[str] = []

    def ask() -> None:
        with one.http() as http:
            answers.append(http.get("/slow").text)

    asking = threading.Thread(target=ask)
    asking.start()
    one.wait_for_log("asked in")
    one.send_signal(signal.SIGTERM)
    assert one.wait() == 0
    asking.join()
    assert answers == ["done"]
    assert one.log().index("answered in") < one.log().index("stopped in")


@pytest.mark.parametrize("what", ["entered", "started", "started too"])
def test_failed_start_is_logged_once_and_exits_with_3(what: str, tmp_path: Path) -> None:
    one = start_to_fail(what, tmp_path)
    try:
        assert one.wait() == 3
        log = one.log()
        assert log.count(f"LookupError: no {what}") == 1
        assert log.count("Traceback") == 1
        assert "The application cannot start:" in log
        assert "stopped" not in log
        begun = re.findall(r"^entered in", log, re.MULTILINE)
        left = re.findall(r"^left in", log, re.MULTILINE)
        if what == "entered":
            assert not left
        else:
            assert len(left) <= len(begun)
            assert left, "what was entered is left"
    finally:
        one.destroy()


def test_an_exit_while_starting_is_a_start_that_failed(tmp_path: Path) -> None:
    one = start_to_fail("exit at started", tmp_path)
    try:
        assert one.wait() == 3
        assert one.log().count("SystemExit: no way") == 1
    finally:
        one.destroy()


def test_server_that_gets_a_signal_while_starting_ends(tmp_path: Path) -> None:
    one = start_to_fail("wait", tmp_path)
    try:
        one.wait_for_log("started too")
        one.send_signal(signal.SIGTERM)
        assert one.wait() == 0
        assert "left in" in one.log(), "what was entered is left"
        assert "stopped" not in one.log(), "it had not started"
        assert "Traceback" not in one.log()
    finally:
        one.destroy()


def test_an_end_that_never_comes_is_left(server: StartServer) -> None:
    one = server("lifespan", environment={"FAILS": "wait at the end", "GRACE": "0.1"})
    one.send_signal(signal.SIGTERM)
    assert one.wait() == 0
    assert "shutdown did not end within 1 s" in one.log()


def test_an_end_that_begins_late_has_its_time(server: StartServer) -> None:
    """Requests have taken all of the grace time; the limit of their end is not that of the rest."""
    one = server("lifespan", environment={"FAILS": "wait at the end", "GRACE": "0.1"})
    with RawSocket(one.port) as raw:
        raw.write(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        one.wait_for_log("asked in")
        one.send_signal(signal.SIGTERM)
        assert one.wait() == 0
    assert "shutdown did not end within 1 s" in one.log()


def test_an_end_that_fails_is_logged_and_the_rest_runs(server: StartServer) -> None:
    one = server("lifespan", environment={"FAILS": "stopped"})
    one.send_signal(signal.SIGTERM)
    assert one.wait() == 0
    log = one.log()
    assert "on_shutdown" in log
    assert "LookupError: no stopped" in log
    assert "stopped too in" in log
    assert "left in" in log


def test_what_is_no_lifespan_is_refused() -> None:
    async def bare(_app: Fanbus) -> Any:
        yield

    @asynccontextmanager
    async def takes_nothing() -> Any:
        yield

    for wrong in (bare, takes_nothing, 5):
        with pytest.raises(FanbusError, match=r"@contextlib\.asynccontextmanager"):
            Fanbus(lifespan=wrong)  # type: ignore[arg-type]


def test_what_cannot_be_called_at_the_start_is_refused() -> None:
    app = Fanbus()
    with pytest.raises(FanbusError, match="without parentheses"):
        app.on_startup(None)  # type: ignore[type-var]
    with pytest.raises(FanbusError, match="has parameters"):
        app.on_shutdown(lambda request: request)  # type: ignore[type-var]
