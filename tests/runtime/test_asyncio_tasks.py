"""Handlers are tasks of asyncio: what people do with it works in them, with both event loops."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.raw_websocket import CLOSE, TEXT, Answer, RawSocket, closing, encode
from support.servers import Server, wait_for

# An eager task begins to run where it is made: in our case while a batch of events is gone through.
LOOPS = ["asyncio", "uvloop", *(["eager"] if sys.version_info >= (3, 12) else [])]

# src/python/threads.rs: so many requests wait for a thread before the worker calls itself full.
MOST_JOBS = 4096

since_3_11 = pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.11 brought it")


def serve(folder: Path, **environment: str) -> Server:
    return Server("asyncio_tasks", workers=1, environment=environment, stderr=folder / "stderr")


@pytest.fixture(scope="module", params=LOOPS)
def mailbox(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    kind = "asyncio" if request.param == "eager" else request.param
    environment = {"FANBUS_LOOP": kind, "EAGER": "1" if request.param == "eager" else ""}
    with serve(tmp_path_factory.mktemp(request.param), **environment) as server:
        with server.http() as http:
            assert http.get("/loop").text.startswith(kind)
        yield server


@pytest.fixture
def raw(mailbox: Server) -> Iterator[RawSocket]:
    with RawSocket(mailbox.port) as connection:
        yield connection


def exchange(raw: RawSocket, text: str) -> str | bytes:
    raw.send(TEXT, text.encode())
    return raw.message()


def test_a_handler_runs_in_one_task_of_the_loop(mailbox: Server, raw: RawSocket) -> None:
    with mailbox.http() as http:
        assert http.get("/task").text == "the same"
    raw.open("/task")
    for _ in range(3):
        assert exchange(raw, "?") == "the same"


def test_a_message_that_comes_after_a_timeout_is_not_lost(raw: RawSocket) -> None:
    raw.open("/timeout")
    assert raw.message() == "nothing yet"
    for number in range(10):
        assert exchange(raw, f"{number}") == f"{number}"


def test_a_sender_that_waits_for_room_can_give_up_and_go_on(raw: RawSocket) -> None:
    raw.open("/timeout/room")
    raw.send(TEXT, b"begin")
    received = 0
    while (message := raw.message()) == "x" * 100_000:
        received += 1
    assert message == f"gave up after {received}", "what it sent before has come, all of it"
    assert exchange(raw, "and on") == "and on"


@since_3_11
def test_a_task_group_cancels_a_receiver_and_hands_on_what_failed(raw: RawSocket) -> None:
    raw.open("/group")
    assert raw.message() == "['ValueError'], cancelled: True"
    assert exchange(raw, "and on") == "and on"


@since_3_11
def test_uncaught_exception_group_is_logged_with_each_of_its_errors(
    mailbox: Server, raw: RawSocket
) -> None:
    with mailbox.http() as http:
        assert http.get("/group/fails").status_code == 500
    mailbox.wait_for_log("LookupError: the one of a group")
    mailbox.wait_for_log("LookupError: the two of a group")
    raw.open("/group/fails")
    assert raw.closed() == (1011, "the handler failed")


def test_a_receive_that_loses_a_race_is_waited_for_on(raw: RawSocket) -> None:
    raw.open("/first-of-two")
    assert raw.message() == "the other"
    assert exchange(raw, "the message") == "the message"


def test_second_task_that_receives_at_once_gets_an_error(raw: RawSocket) -> None:
    raw.open("/two-receive")
    assert raw.message() == "in"
    raw.send(TEXT, b"for the first")
    told = raw.message()
    assert isinstance(told, str)
    assert "for the first" in told
    assert "Another task already waits for a message" in told


def test_context_variables_belong_to_one_handler_and_its_tasks(mailbox: Server) -> None:
    with RawSocket(mailbox.port) as one, RawSocket(mailbox.port) as other:
        one.open("/context/one")
        other.open("/context/other")
        for _ in range(3):
            assert exchange(one, "?") == "nobody one one there"
            assert exchange(other, "?") == "nobody other other there"
    with mailbox.http() as http:
        for name in ("one", "other"):
            assert http.get(f"/context/async/{name}").text == f"nobody {name} there"


def test_what_a_synchronous_handler_sets_is_not_there_for_the_next_on_its_thread(
    mailbox: Server,
) -> None:
    threads: list[str] = []
    with mailbox.http() as http:
        while len(set(threads)) == len(threads):  # until one thread has come round
            before, own, since_import, thread = http.get("/context/sync/me").text.split()
            assert (before, own, since_import) == ("nobody", "me", "there")
            threads.append(thread)
    for _ in range(3):
        with RawSocket(mailbox.port) as admitted:
            admitted.open("/context/admitted/me")


def test_a_handler_that_cancels_itself_ends_its_session(mailbox: Server, raw: RawSocket) -> None:
    raw.open("/cancelled/itself")
    assert raw.closed()[0] == 1001
    with mailbox.http() as http:
        assert http.get("/ends/itself").text == "cancelled: enough"


def test_a_handler_that_does_not_look_at_its_client_is_cancelled_after_its_end(
    mailbox: Server, raw: RawSocket
) -> None:
    raw.open("/deaf/post")
    assert raw.message() == "in"
    raw.send(CLOSE, closing(1000))
    with mailbox.http() as http:
        seen = wait_for(lambda: http.get("/ends/post").text, "its end")
    assert seen == "cancelled, closed with 1000"


def test_a_handler_that_does_not_receive_stops_the_reading_and_loses_nothing(
    mailbox: Server, raw: RawSocket
) -> None:
    """Its client cannot send more than the limits and the kernel's buffers take."""
    raw.open("/patient")
    assert raw.message() == "in"
    sent, frames = 0, bytearray()
    raw.socket.setblocking(False)
    while sent < 2000:  # 2 GB: more than anything here holds
        if not frames:
            frames += encode(TEXT, f"{sent} ".encode() + b"x" * 1_000_000)
            sent += 1
        try:
            del frames[: raw.socket.send(frames)]
        except BlockingIOError:
            break
    assert sent < 2000, "everything was read although nobody wants it"
    raw.socket.settimeout(20)
    with mailbox.http() as http:
        http.get("/open")
    raw.write(bytes(frames))
    for number in range(sent, (sent // 100 + 2) * 100):
        raw.send(TEXT, f"{number} ".encode())
    counted = [raw.message() for _ in range(sent // 100 + 2)]
    assert counted[-1] == str((sent // 100 + 2) * 100)


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_JOBS + 500
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_descriptors")
def test_requests_beyond_a_full_queue_are_refused_with_503_and_the_others_answered(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """The one thread is in a handler, and so many others wait for it."""
    with (
        serve(tmp_path_factory.mktemp("full"), FANBUS_THREADS="1") as server,
        ExitStack() as connections,
    ):
        late = connections.enter_context(RawSocket(server.port))
        waiting = [RawSocket(server.port) for _ in range(1 + MOST_JOBS)]
        for each in waiting:
            connections.enter_context(each)
            each.write(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")

        def refusal() -> Answer | None:
            one_more = connections.enter_context(RawSocket(server.port))
            one_more.write(b"GET /context/sync/me HTTP/1.1\r\nHost: x\r\n\r\n")
            one_more.socket.settimeout(0.2)
            try:
                return one_more.answer()
            except TimeoutError:  # it waits, like the others
                return None

        refused = wait_for(refusal, "the queue to be full")
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        assert late.upgrade("/context/admitted/me").status == 503
        with server.http() as http:
            assert http.get("/task").text == "the same", "the event loop has another queue"
            assert http.get("/open").status_code == 204
            for each in waiting:
                assert each.answer().body == b"waited"
            assert http.get("/context/sync/me").status_code == 200, "there is room again"
