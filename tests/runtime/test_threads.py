"""Threads of handlers that do the same things at the same time, with the global lock or without."""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.raw_websocket import RawSocket
from support.servers import DEADLINE_S, Server, wait_for

PUBLISHERS = 6
MESSAGES = 200
LISTENERS = 8
ROUNDS = 30


@pytest.fixture
def threads(tmp_path: Path) -> Iterator[Server]:
    stderr = tmp_path / "stderr"
    with Server("threads", workers=1, environment={}, stderr=stderr) as server:
        before = server.worker_pids()
        yield server
        with server.http() as http:
            assert http.get("/problems").json() == []
        assert server.worker_pids() == before, "no worker has died"
        assert "Traceback" not in server.log()


def side_by_side(work: Callable[[int], None], count: int) -> None:
    """In so many threads at once; the first of their errors is raised."""
    with ThreadPoolExecutor(count) as pool:
        for done in [pool.submit(work, number) for number in range(count)]:
            done.result(4 * DEADLINE_S)


def test_what_several_threads_publish_reaches_all_once_and_in_one_order(threads: Server) -> None:
    listeners = [RawSocket(threads.port) for _ in range(LISTENERS)]
    try:
        for listener in listeners:
            listener.open("/all")
            assert listener.message() == "in"

        def publish(who: int) -> None:
            with threads.http() as http:
                assert http.get(f"/publish/{who}/{MESSAGES}").status_code == 204

        side_by_side(publish, PUBLISHERS)
        histories = [
            [str(listener.message()) for _ in range(PUBLISHERS * MESSAGES)]
            for listener in listeners
        ]
    finally:
        for listener in listeners:
            listener.socket.close()
    assert all(history == histories[0] for history in histories)
    for who in range(PUBLISHERS):
        own = [text for text in histories[0] if text.startswith(f"{who} ")]
        assert own == [f"{who} {number}" for number in range(MESSAGES)]


TOGETHER = 20


def test_handlers_that_wait_for_each_other_run_side_by_side(threads: Server) -> None:
    """Each keeps its thread until all are there: so many threads there have to be."""

    def come(_who: int) -> None:
        with threads.http() as http:
            assert http.get("/meet/25").text == "met"

    for _ in range(2):
        side_by_side(come, TOGETHER)


def test_handlers_that_wait_for_each_other_do_so_beside_a_busy_event_loop(threads: Server) -> None:
    with RawSocket(threads.port) as busy:
        busy.write(b"GET /compute HTTP/1.1\r\nHost: x\r\n\r\n")

        def come(_who: int) -> None:
            with threads.http() as http:
                assert http.get("/meet-beside").text == "met"

        side_by_side(come, TOGETHER)
        assert busy.answer().body == b"computed"


def test_clients_may_leave_while_threads_send_to_them(threads: Server) -> None:
    def come_and_go(who: int) -> None:
        for number in range(ROUNDS):
            with RawSocket(threads.port) as raw:
                raw.open("/sent-to")
                for _ in range(number % 5):
                    raw.message()
                if (who + number) % 2:  # it resets the connection
                    linger = struct.pack("ii", 1, 0)
                    raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    side_by_side(come_and_go, 4)


def test_an_object_that_other_threads_change_can_be_sent_as_json(threads: Server) -> None:
    with threads.http() as http:
        http.get("/churn")

    def read(_who: int) -> None:
        with threads.http() as http:
            for _ in range(50):
                assert isinstance(http.get("/shared").json()["inner"], dict)

    try:
        side_by_side(read, 4)
    finally:
        with threads.http() as http:
            http.get("/rest")


if not getattr(sys, "_is_gil_enabled", lambda: True)():

    def test_the_lock_stays_away(threads: Server) -> None:
        with threads.http() as http:
            assert http.get("/has-lock").text == "False"

    def test_quick_handlers_run_on_several_threads(threads: Server) -> None:
        seen: set[str] = set()

        def ask(_who: int) -> None:
            with threads.http() as http:
                seen.update(http.get("/thread").text for _ in range(20))

        def several() -> bool:
            side_by_side(ask, 8)
            return len(seen) > 1

        wait_for(several, "a second thread")
