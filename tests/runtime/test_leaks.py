"""Memory: whatever is done often is done again without taking more of it.

`make soak` does each thing 40 times as often.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Iterator

import httpx
import pytest

from support.heap import ONE_ALLOCATOR
from support.raw_websocket import CLOSE, TEXT, RawSocket, closing, encode
from support.servers import Server, wait_for

# What is done with a server: so many times, on connections of its own.
Doing = Callable[[int, int], None]

TIMES = int(os.environ.get("FANBUS_LEAK_TIMES", "1"))
REQUESTS = 300 * TIMES
MESSAGES = 900 * TIMES
SESSIONS = 60 * TIMES
AT_ONCE = 50

# A leak takes more in every round. Tables, caches and lists of what is free grow in some of them.
ROUNDS = 6
# Less than the smallest piece of the allocator (32 bytes) for each of the fewest requests; and half
# of one for each of many sessions, for some tables grow with those.
SLACK_BYTES = 8 * 1024
SLACK_BYTES_PER_SESSION = 16
SLACK_OBJECTS = 20

# For so long it is remembered what was to be done with a connection, also with one that is over.
REMEMBERED_S = 90.0


@pytest.fixture(scope="module")
def leaks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    stderr = tmp_path_factory.mktemp("leaks") / "stderr"
    with Server("leaks", workers=1, environment=ONE_ALLOCATOR, stderr=stderr) as server:
        yield server


def requests(head: str, body: bytes = b"", *, status: int, chunked: bool = False) -> Doing:
    """The request, over and over on one connection."""
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    request = f"{head} HTTP/1.1\r\nHost: x\r\nCookie: a=b; c=d\r\n{length}\r\n".encode()
    if "\n" in head:
        first, rest = head.split("\n", 1)
        request = f"{first} HTTP/1.1\r\nHost: x\r\n{rest}\r\n{length}\r\n".encode()

    def do(port: int, count: int) -> None:
        for begin in range(0, count, AT_ONCE):
            number = min(AT_ONCE, count - begin)
            with RawSocket(port) as raw:
                raw.write((request + body) * number)
                for _ in range(number):
                    answer = raw.answer(head_only=chunked)
                    assert answer.status == status, answer
                    while chunked and (size := int(raw.read_line(), 16)):
                        raw.read(size + 2)
                    if chunked:
                        raw.read_line()

    return do


MULTIPART = (
    b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
    + b"x" * 5000
    + b"\r\n--b--\r\n"
)


def around(port: int, count: int) -> None:
    """Responses with early hints and trailers, over and over on one connection."""
    request = b"GET /around HTTP/1.1\r\nHost: x\r\nTE: trailers\r\n\r\n"
    with RawSocket(port) as raw:
        for _ in range(count):
            raw.write(request)
            assert raw.answer(head_only=True).status == 103
            assert raw.answer(head_only=True).headers["trailer"] == "x-end"
            lines = [raw.read_line() for _ in range(5)]
            assert lines == [b"5", b"piece", b"0", b"x-end: 1", b""]


HTTP: dict[str, Doing] = {
    "around": around,
    "json": requests("GET /json/7?a=1&a=2&b=%20", status=200),
    "json-async": requests("POST /json", b'{"a": [1, 2.5, "\xc3\xbc"]}', status=200),
    "no-json": requests("POST /json", b"{", status=400),
    "state": requests("GET /state", status=200),
    "state-async": requests("GET /state/async", status=200),
    "after": requests("GET /after", status=200),
    "raises": requests("GET /raises", status=500),
    "raises-async": requests("GET /raises/async", status=500),
    "refuses": requests("GET /refuses", status=403),
    "cannot-be-sent": requests("GET /cannot-be-sent", status=500),
    "missing": requests("GET /nothing/there", status=404),
    "method": requests("DELETE /json", status=405),
    "form": requests(
        "POST /form\nContent-Type: application/x-www-form-urlencoded", b"a=1&b=%C3%BC", status=200
    ),
    "upload": requests(
        "POST /upload\nContent-Type: multipart/form-data; boundary=b", MULTIPART, status=200
    ),
    "stream": requests("GET /stream", status=200, chunked=True),
    "stream-async": requests("GET /stream/async", status=200, chunked=True),
    "publish": requests("GET /news", status=204),
}


def messages(path: str, *, greeted: bool = False, answer: str | None = None) -> Doing:
    """Each message is answered, with itself unless it is said otherwise."""

    def do(port: int, count: int) -> None:
        with RawSocket(port) as raw:
            raw.open(path)
            if greeted:
                assert raw.message() == "in"
            for begin in range(0, count, AT_ONCE):
                texts = [f"message {number}" for number in range(begin, begin + AT_ONCE)]
                raw.write(b"".join(encode(TEXT, text.encode()) for text in texts))
                for text in texts:
                    while (got := raw.message()) != (answer or text):
                        assert answer is not None, got
            raw.send(CLOSE, closing(1000))
            assert raw.closed()[0] == 1000

    return do


WEBSOCKET: dict[str, Doing] = {
    "echo": messages("/echo"),
    "timeouts": messages("/timeouts"),
    "topics": messages("/topics", answer="done"),
    "room": messages("/rooms/hall", greeted=True),
    "turbo-echo": messages("/turbo/echo"),
    "turbo-relay": messages("/turbo/hall"),
}


def sessions(path: str, *, greeted: bool = False, reset: bool = False) -> Doing:
    """Opened, and closed in order or by a reset."""

    def do(port: int, count: int) -> None:
        for _ in range(count):
            with RawSocket(port) as raw:
                raw.open(path)
                if greeted:
                    assert raw.message() == "in"
                if reset:
                    raw.socket.setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                    )
                else:
                    raw.send(CLOSE, closing(1000))
                    raw.closed()

    return do


def refused(path: str, status: int) -> Doing:
    def do(port: int, count: int) -> None:
        for _ in range(count):
            with RawSocket(port) as raw:
                assert raw.upgrade(path).status == status

    return do


def left(path: str) -> Doing:
    """A response that its client leaves after the beginning."""

    def do(port: int, count: int) -> None:
        for _ in range(count):
            with RawSocket(port) as raw:
                raw.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                assert raw.answer(head_only=True).status == 200

    return do


OPENED: dict[str, Doing] = {
    "closed": sessions("/echo"),
    "reset": sessions("/rooms/hall", greeted=True, reset=True),
    "fails": sessions("/fails"),
    "watched": sessions("/turbo/hall"),
    "watched-reset": sessions("/turbo/hall", reset=True),
    "rejected": refused("/rejects", 403),
    "not-admitted": refused("/turbo/closed", 403),
    "nowhere": refused("/nowhere", 404),
    "left-stream": left("/stream/endless"),
    "left-events": left("/events"),
}

ALL = [
    *((name, do, REQUESTS, SLACK_BYTES) for name, do in HTTP.items()),
    *((name, do, MESSAGES, SLACK_BYTES) for name, do in WEBSOCKET.items()),
    *(
        (name, do, SESSIONS, max(SLACK_BYTES, SLACK_BYTES_PER_SESSION * SESSIONS))
        for name, do in OPENED.items()
    ),
]


def settled(http: httpx.Client) -> dict[str, int]:
    """The memory, once what is still on its way has come to its end."""
    last: dict[str, int] = {}

    def same_again() -> dict[str, int] | None:
        nonlocal last
        before, last = last, http.get("/live").json()
        return last if last == before else None

    return wait_for(same_again, f"memory that rests, not {last}")


def is_slack(before: dict[str, int], after: dict[str, int], slack: int) -> bool:
    return (
        after["bytes"] - before["bytes"] <= slack
        and after["objects"] - before["objects"] <= SLACK_OBJECTS
    )


@pytest.mark.parametrize(
    ("do", "count", "slack"), [pytest.param(*each, id=name) for name, *each in ALL]
)
def test_what_is_done_again_takes_no_more_memory(
    leaks: Server, do: Doing, count: int, slack: int
) -> None:
    grown: list[tuple[int, int]] = []
    with leaks.http() as http:
        do(leaks.port, max(count // 3, AT_ONCE))
        first = before = settled(http)
        for _ in range(ROUNDS):
            do(leaks.port, count)
            after = settled(http)
            grown.append((after["bytes"] - before["bytes"], after["objects"] - before["objects"]))
            if is_slack(before, after, slack):
                return
            before = after
        wait_for(
            lambda: is_slack(first, settled(http), slack),
            f"{count} times take so many bytes and objects, each time: {grown}; memory as before",
            REMEMBERED_S,
        )


def test_topics_that_were_left_leave_no_memory_behind_however_many_names_there_were(
    leaks: Server,
) -> None:
    sessions, cycles = 50, max(4, TIMES // 2)
    with leaks.http() as http:

        def cycle(number: int) -> int:
            clients = [RawSocket(leaks.port) for _ in range(sessions)]
            for client, raw in enumerate(clients):
                raw.open(f"/many-topics/{number}-{client}")
            for raw in clients:
                assert raw.message() == "in"
            for raw in clients:
                with raw:
                    raw.send(CLOSE, closing(1000))
                    raw.closed()
            return settled(http)["bytes"]

        before = settled(http)["bytes"]
        after = [cycle(number) - before for number in range(cycles)]
        # 50,000 topics take 14 MB while they are there. Tables for some thousand stay.
        assert max(after) < 1024 * 1024, after
        assert after[-1] - after[1] < 64 * 1024 * cycles, after
